"""Layouts to change, and the two text tokenizers that give every text back."""

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from mmhydra import paths
from mmhydra.config.tokens import Tokens
from mmhydra.data.vocabulary import TextTokenizer, open_tokenizer, train_bpe

TEXTS = [f"def f{n}(x):\n    return x * {n}  # naïve 中文 {'ab' * (n % 7)}\r\n" for n in range(200)]


def shipped(name: str) -> dict[str, Any]:
    tree: dict[str, Any] = yaml.safe_load((paths.config_dir() / "tokens" / f"{name}.yaml").read_text())
    return tree


@pytest.fixture
def demo() -> dict[str, Any]:
    return shipped("demo")


@pytest.fixture
def qwen_full() -> dict[str, Any]:
    return shipped("qwen_full")


@pytest.fixture(scope="session")
def bpe() -> TextTokenizer:
    return train_bpe(TEXTS, 400)


@pytest.fixture(scope="session")
def qwen() -> TextTokenizer:
    return open_tokenizer(Tokens.model_validate(shipped("qwen_full")))


@pytest.fixture
def spans() -> Callable[..., dict[str, Any]]:
    """A layout from (modality, size, start) rows; ranges are named a, b, c."""

    def make(*rows: tuple[str, int, int | None], special: tuple[str, ...] = ("<|endoftext|>",)) -> dict[str, Any]:
        ranges = [
            {"name": name, "modality": modality, "size": size, "start": start}
            for name, (modality, size, start) in zip("abcdefg", rows, strict=False)
        ]
        tree: dict[str, Any] = {
            "name": "made",
            "ranges": ranges,
            "special": list(special),
            "codebooks": {"image": 1, "audio": 1, "video": 1},
        }
        return tree | {"pad_multiple": 8, "text": None}

    return make
