"""A small vocabulary, bytes as text tokens, and a renderer for one form."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
import yaml

from mmhydra import paths
from mmhydra.config.templates import Template, template_problems
from mmhydra.config.tokens import Tokens
from mmhydra.data.shards.document import Document
from mmhydra.data.templates import Renderer, describe
from mmhydra.data.vocabulary import TextTokenizer, Vocabulary, train_bpe


@dataclass(frozen=True)
class Said:
    """A caption."""

    start_s: float
    text: str
    end_s: float = 0.0


def template(form: str, loss: str | list[str] = "all", name: str = "t", share: float = 1.0) -> Template:
    return Template.model_validate({"name": name, "form": form, "loss": loss, "share": share})


@pytest.fixture(scope="session")
def said() -> type[Said]:
    return Said


@pytest.fixture(scope="session")
def make_template() -> Callable[..., Template]:
    return template


@pytest.fixture(scope="session")
def tokens() -> Tokens:
    return Tokens.model_validate(yaml.safe_load((paths.config_dir() / "tokens" / "demo.yaml").read_text()))


@pytest.fixture(scope="session")
def vocabulary(tokens: Tokens) -> Vocabulary:
    return Vocabulary.of(tokens)


@pytest.fixture(scope="session")
def tokenizer() -> TextTokenizer:
    """An id for each byte."""
    return train_bpe([], 256)


@pytest.fixture(scope="session")
def renderer(vocabulary: Vocabulary, tokenizer: TextTokenizer, tokens: Tokens) -> Callable[..., Renderer]:
    """A renderer of one form, which has to be legal."""

    def make(form: str, loss: str | list[str] = "all") -> Renderer:
        one = template(form, loss)
        assert template_problems(one, tokens) == []
        return Renderer(vocabulary, tokenizer, [one], seed=0)

    return make


@pytest.fixture(scope="session")
def shown(vocabulary: Vocabulary, tokenizer: TextTokenizer) -> Callable[[Document], list[tuple[str, object, bool]]]:
    """Each part of a document: modality, text or local ids, loss."""

    def show(document: Document) -> list[tuple[str, object, bool]]:
        parts = describe(document, vocabulary, tokenizer)
        return [(part.modality, part.text or part.ids.tolist(), part.loss) for part in parts]

    return show


@pytest.fixture(scope="session")
def cut(vocabulary: Vocabulary) -> Callable[[Document], Sequence[tuple[str, int, int, bool, str]]]:
    """Each segment of a document: modality, length, unit, loss, how its opener is spelt."""

    def segments(document: Document) -> list[tuple[str, int, int, bool, str]]:
        return [
            (s.modality, s.length, s.unit, s.loss, "" if s.opener < 0 else vocabulary.special_token(s.opener))
            for s in document.segments
        ]

    return segments
