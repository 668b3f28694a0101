"""The text tokenizer that a config declares, or that a dataset holds."""

import importlib
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from mmhydra.config.tokens import Tokens
from mmhydra.data.vocabulary import huggingface
from mmhydra.data.vocabulary.errors import VocabularyError
from mmhydra.data.vocabulary.layout import Vocabulary
from mmhydra.data.vocabulary.protocol import TextTokenizer, check_exact


def open_tokenizer(tokens: Tokens, training_texts: Iterable[str] = ()) -> TextTokenizer:
    """The tokenizer of `tokens.text`; `training_texts` are read by train_bpe alone.

    Raises VocabularyError where none is declared, the file or its package is not there, it does not fit into the text
    range, or it does not give texts back as they were and `tokens.text.exact` is set.
    """
    vocabulary = Vocabulary.of(tokens)
    settings = tokens.text
    if settings is None:
        raise VocabularyError(f"tokens={tokens.name} declares no text tokenizer; type tokens.text.kind=KIND")
    if settings.kind == "train_bpe":
        return huggingface.train_bpe(training_texts, vocabulary.room("text"))
    name, tokenizer = "the qwen tokenizer", None
    if settings.kind == "qwen":
        tokenizer = _open_qwen()
    else:
        assert settings.folder is not None  # a fault of the layout otherwise
        name, tokenizer = f"the tokenizer of {settings.folder}", huggingface.read_folder(Path(settings.folder))
    vocabulary.check_fits(tokenizer.num_ids, name)
    if settings.exact:
        check_exact(tokenizer, name)
    return tokenizer


def load_tokenizer(path: Path) -> TextTokenizer:
    """Reads the file that `TextTokenizer.save` wrote. Raises VocabularyError where it is missing or damaged."""
    if not path.is_file():
        raise VocabularyError(f"the text tokenizer {path} is not there: the dataset is not whole, copy it again")
    if path.suffix == ".tiktoken":
        tokenizer: TextTokenizer = _qwen().read_file(path)
        return tokenizer
    return huggingface.read_file(path)


def _open_qwen() -> TextTokenizer:
    module = _qwen()
    try:
        tokenizer: TextTokenizer = module.open_installed()
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    return tokenizer


def _qwen() -> ModuleType:
    """The module that needs tiktoken, an optional package."""
    try:
        return importlib.import_module("mmhydra.data.vocabulary.qwen")
    except ModuleNotFoundError as error:
        raise _missing(error) from error


def _missing(error: ModuleNotFoundError) -> VocabularyError:
    return VocabularyError(f"the qwen tokenizer lacks its package {error.name}: pip install 'mmhydra[qwen]'")
