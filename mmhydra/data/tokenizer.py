"""Trains and runs the demo's byte-level BPE: any text can be encoded and decodes to itself."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from mmhydra.errors import UserError

END_OF_DOCUMENT = "<|endoftext|>"
EOD_ID = 0
MIN_VOCAB_SIZE = 257  # every byte, and the end of a document
CHUNK = 128  # texts encoded at once: bounds the memory, and still keeps all cores busy


def train_tokenizer(texts: Sequence[str], vocab_size: int) -> Tokenizer:
    """Train a byte-level BPE of exactly `vocab_size` ids, END_OF_DOCUMENT at id 0.

    The result depends on the texts and their order alone. Raises UserError when the size is below 257 or the
    texts do not have that many different pairs to merge.
    """
    if vocab_size < MIN_VOCAB_SIZE:
        raise UserError(f"a byte-level vocabulary has at least {MIN_VOCAB_SIZE} ids, not {vocab_size}")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_DOCUMENT],
        # Sorted: the ids of single bytes then do not depend on which of them the texts use.
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer=trainer, length=len(texts))
    if (found := tokenizer.get_vocab_size()) != vocab_size:
        raise UserError(f"the text gives a vocabulary of {found} ids, not {vocab_size}: use fewer, or more text")
    return tokenizer


def encode_documents(tokenizer: Tokenizer, texts: Sequence[str]) -> Iterator[NDArray[np.int64]]:
    """The ids of each text, int64 [n], closed by EOD_ID. END_OF_DOCUMENT inside a text is encoded as text."""
    tokenizer.encode_special_tokens = True
    for start in range(0, len(texts), CHUNK):
        chunk = list(texts[start : start + CHUNK])
        for encoding in tokenizer.encode_batch_fast(chunk, add_special_tokens=False):
            yield np.array([*encoding.ids, EOD_ID], dtype=np.int64)
