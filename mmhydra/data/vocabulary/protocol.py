"""What a text tokenizer offers, and the check that it gives texts back as they were."""

import hashlib
from pathlib import Path
from typing import Protocol

from mmhydra.data.vocabulary.errors import VocabularyError


class TextTokenizer(Protocol):
    """Text to local ids and back. What is spelt like a special token is text like any other."""

    @property
    def num_ids(self) -> int:
        """One more than the highest id."""

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of the file that `save` writes."""

    @property
    def file_name(self) -> str:
        """The name of that file."""

    def encode(self, text: str) -> list[int]:
        """Local ids of a text. Raises VocabularyError for a text that is no UTF-8 (lone surrogates)."""

    def decode(self, ids: list[int]) -> str:
        """The text of ids that `encode` made. Ids cut within a character give U+FFFD there."""

    def save(self, folder: Path) -> Path:
        """Writes the one file that `load_tokenizer` reads, and returns its path."""


# Each is spoilt by something that published tokenizers do: lower-casing, stripping of accents, Unicode normalisation
# (NFC, NFKC), collapsed or stripped white space, dropped control characters, special tokens in text, unknown
# characters, characters that stand for spaces or bytes.
EXACT_PROBES = (
    "Hello, World! It's 3.14.",
    "na\u00efve caf\u00e9",
    "e\u0301 a\u0308 \u212b \ufb01 \uff21 \u00bd",
    " leading",
    "trailing ",
    "two  spaces\tand\t\ttabs",
    "\r\n\n\r lines \n\n",
    "\u00a0\u2003\u200b\ufeff",
    "a\x00b\x01\x7f",
    "\u4f60\u597d\uff0c\u4e16\u754c \u3053\u3093\u306b\u3061\u306f \uc548\ub155 \u0645\u0631\u062d\u0628\u0627",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea \U0001f44d\U0001f3fd",
    "\U00020000 \U0010ffff \ufffd",
    "\u2581 \u0120 \u010a ## @@ </w>",
    "<|endoftext|><|im_start|><s></s>[CLS][UNK]<unk><pad>",
)


def check_exact(tokenizer: TextTokenizer, name: str, probes: tuple[str, ...] = EXACT_PROBES) -> None:
    """Raises VocabularyError with an example where texts do not come back as they were."""
    for probe in probes:
        back = tokenizer.decode(tokenizer.encode(probe))
        if back != probe:
            raise VocabularyError(
                f"{name} does not give texts back as they were: {probe!a} comes back as {back!a}. Use "
                "another (tokens.text.kind=qwen, or train_bpe), or accept that decoded text differs from what was "
                "read: tokens.text.exact=false"
            )


def check_text(text: str) -> None:
    """Raises VocabularyError for lone surrogates, which tokenizers replace or refuse each in its own way."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise VocabularyError(
            f"the text is no UTF-8: character {error.start} is {text[error.start]!a}, half of a surrogate pair"
        ) from error


def vocabulary_digest(layout_digest: str, tokenizer: TextTokenizer) -> str:
    """SHA-256, in hex, over layout and text tokenizer: equal ones give every id the same meaning."""
    return hashlib.sha256(f"{layout_digest} {tokenizer.digest}".encode()).hexdigest()
