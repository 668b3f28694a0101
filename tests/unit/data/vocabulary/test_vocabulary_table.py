"""The printed table holds every number of the layout."""

import io

import pytest
from rich.console import Console

from mmhydra.config.tokens import Tokens
from mmhydra.data.vocabulary import VocabularyError, table


def printed(tree) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=120).print(table(Tokens.model_validate(tree)))
    return [" ".join(line.split()) for line in out.getvalue().splitlines() if line.strip()]


def test_the_full_vocabulary(qwen_full):
    lines = printed(qwen_full)
    assert lines[0] == "tokens=qwen_full, text by qwen"
    for row in (
        "text text 1 x 151,643 0 151,642 78.6%",
        "audio audio 8 x 1,024 168,283 176,474 4.2%",
        "video video 4 x 4,096 176,475 192,858 8.5%",
        "(padding) 37 192,859 192,895 0.0%",
        "<|endoftext|> special 151,643",
        "<|ipa_phoneme|> special 151,659",
        "used 192,859 100.0%",
        "padded multiple of 128 192,896 100.0%",
    ):
        assert row in lines
    assert any("7a99c7d8bead279fd9efbb296d84c126dc63ba108feec30a9300fe0a38eea9ea" in line for line in lines)
    assert len([line for line in lines if line.startswith("<|")]) == 17


def test_gaps_are_shown(spans):
    assert "(unused) 4 4 7" in printed(spans(("text", 4, None), ("image", 4, 8)))


def test_a_wrong_layout_has_no_table(spans):
    with pytest.raises(VocabularyError, match="are in both"):
        printed(spans(("text", 4, None), ("image", 4, 2)))
