"""Tokenizers of the Hugging Face format `tokenizer.json`: read from a folder, or trained on the spot."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from mmhydra.data.vocabulary.errors import VocabularyError
from mmhydra.data.vocabulary.protocol import check_text

FILE_NAME = "tokenizer.json"
NUM_BYTES = 256  # a byte-level BPE has an id for each, so that it can spell any text


class HuggingFaceTokenizer:
    """A `TextTokenizer` from the bytes of a tokenizer.json.

    Nothing is added to a text, and nothing is cut off or padded, whatever the file says.
    """

    file_name = FILE_NAME

    def __init__(self, content: bytes) -> None:
        tokenizer = Tokenizer.from_str(content.decode())
        tokenizer.no_truncation()  # a file may hold both, and would cut documents silently
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True  # text that spells one stays text
        self._tokenizer = tokenizer
        self._content = tokenizer.to_str().encode()
        self.num_ids = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        self.digest = hashlib.sha256(self._content).hexdigest()

    def __reduce__(self) -> tuple[Any, ...]:
        # The library's own pickle forgets that special tokens in a text are text.
        return HuggingFaceTokenizer, (self._content,)

    def encode(self, text: str) -> list[int]:
        """See `TextTokenizer`."""
        check_text(text)
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: list[int]) -> str:
        """See `TextTokenizer`."""
        return str(self._tokenizer.decode(ids, skip_special_tokens=False))

    def save(self, folder: Path) -> Path:
        """See `TextTokenizer`."""
        path = folder / FILE_NAME
        path.write_bytes(self._content)
        return path


def read_folder(folder: Path) -> HuggingFaceTokenizer:
    """The tokenizer of a folder. Raises VocabularyError where there is none or it can't be read."""
    path = folder / FILE_NAME
    try:
        return read_file(path)
    except FileNotFoundError as error:
        there = sorted(entry.name for entry in folder.iterdir())[:8] if folder.is_dir() else []
        has = f"it has {', '.join(there)}" if there else "it is empty or not there"
        raise VocabularyError(
            f"tokens.text.folder: {folder} holds no {FILE_NAME} ({has}). A model's folder of Hugging Face has one; "
            "where it has only tokenizer.model, AutoTokenizer.from_pretrained(...).save_pretrained(...) writes it"
        ) from error


def read_file(path: Path) -> HuggingFaceTokenizer:
    """The tokenizer of a tokenizer.json. Raises FileNotFoundError, or VocabularyError for what is none."""
    try:
        content = path.read_bytes()
        json.loads(content)
        return HuggingFaceTokenizer(content)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(str(path)) from error
    except Exception as error:  # the library raises bare Exception for a file that it can't use
        raise VocabularyError(
            f"{path} is no {FILE_NAME} that tokenizers can read: {error}; take the file from its source again"
        ) from error


def train_bpe(texts: Iterable[str], num_ids: int) -> HuggingFaceTokenizer:
    """A byte-level BPE of `num_ids` ids; the same texts in the same order give the same bytes.

    Texts with fewer pairs to merge give fewer ids. Raises VocabularyError where `num_ids` is below 256.
    """
    if num_ids < NUM_BYTES:
        raise VocabularyError(f"a byte-level text range has at least {NUM_BYTES} ids, one a byte, not {num_ids}")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=num_ids,
        special_tokens=[],
        # Sorted: the ids of single bytes then do not depend on which of them the texts use.
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer=trainer)
    return HuggingFaceTokenizer(tokenizer.to_str().encode())
