"""The unified vocabulary: which ids are what, and how text becomes ids."""

from mmhydra.data.vocabulary.errors import VocabularyError
from mmhydra.data.vocabulary.huggingface import HuggingFaceTokenizer, train_bpe
from mmhydra.data.vocabulary.layout import Vocabulary
from mmhydra.data.vocabulary.opening import load_tokenizer, open_tokenizer
from mmhydra.data.vocabulary.protocol import TextTokenizer, check_exact, vocabulary_digest
from mmhydra.data.vocabulary.table import table

__all__ = [
    "HuggingFaceTokenizer",
    "TextTokenizer",
    "Vocabulary",
    "VocabularyError",
    "check_exact",
    "load_tokenizer",
    "open_tokenizer",
    "table",
    "train_bpe",
    "vocabulary_digest",
]
