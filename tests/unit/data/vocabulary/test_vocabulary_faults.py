"""Layouts that are refused, each with the numbers and what to type, which then is legal."""

import pytest

from mmhydra.config.token_rules import token_faults
from mmhydra.config.tokens import Tokens
from mmhydra.data.vocabulary import Vocabulary, VocabularyError


def faults(tree) -> list[tuple[tuple[str, ...], str]]:
    return [tuple(fault) for fault in token_faults(Tokens.model_validate(tree))]


def test_shipped_layouts_are_right(demo, qwen_full):
    assert faults(demo) == faults(qwen_full) == []


def test_ranges_that_overlap(spans):
    tree = spans(("text", 151_643, None), ("special", 256, 151_000), ("image", 10, None))
    assert faults(tree) == [
        (
            ("tokens.ranges.0.size", "tokens.ranges.1.start"),
            "range b has ids 151,000 to 151,255 and range a has 0 to 151,642: 256 ids, 151,000 to 151,255, "
            "are in both; type tokens.ranges.1.start=null, which lets it follow the range before it",
        ),
        (
            ("tokens.ranges.0.size", "tokens.ranges.2.size"),
            "range c has ids 151,256 to 151,265 and range a has 0 to 151,642: 10 ids, 151,256 to 151,265, "
            "are in both; type tokens.ranges.2.start=151643",
        ),
    ]
    tree["ranges"][1]["start"] = None
    assert faults(tree) == []


def test_a_range_that_is_put_before_another_overlaps_by_one_id(spans):
    tree = spans(("text", 10, 5), ("special", 6, 0))
    assert [text.partition(";")[0] for _, text in faults(tree)] == [
        "range b has ids 0 to 5 and range a has 5 to 14: 1 ids, 5 to 5, are in both"
    ]
    tree["ranges"][1]["size"] = 5
    assert faults(tree) == []


def test_codebooks_that_do_not_fill_their_range(demo):
    demo["ranges"][3]["size"] = 8192
    demo["codebooks"]["audio"] = 7
    [(keys, text)] = faults(demo)
    assert keys == ("tokens.ranges.3.size", "tokens.codebooks.audio")
    assert "range audio has 8,192 ids, which are no 7 codebooks of one size: 7 x 1,171 is 8,197" in text
    assert text.endswith("type tokens.ranges.3.size=8197")
    demo["ranges"][3]["size"] = 8197
    assert faults(demo) == []


def test_more_specials_than_their_range(demo):
    demo["ranges"][1]["size"] = 16
    assert faults(demo) == [
        (
            ("tokens.special", "tokens.ranges"),
            "17 special tokens need ids, the special range has 16; raise its size",
        )
    ]
    demo["ranges"][1]["size"] = 17
    assert faults(demo) == []


def test_specials_without_any_place(spans):
    [(_, text)] = faults(spans(("image", 10, None)))
    assert "there is no special range, and there is no text range either" in text
    [(_, text)] = faults(spans(("text", 2, None), special=("<|endoftext|>", "<a>")))
    assert "and range a has 2 ids" in text
    assert "size: 2" in text


def test_names_twice_and_no_name(spans):
    tree = spans(("text", 10, None), ("image", 4, None), special=("<|endoftext|>", "<a>", "<a>", ""))
    tree["ranges"][1]["name"] = "a"
    assert [text.partition(";")[0] for _, text in faults(tree)] == [
        "range a is declared twice",
        "special token <a> is declared twice",
        "a special token has no name",
    ]


def test_the_end_of_a_document_is_declared(spans):
    [(keys, text)] = faults(spans(("text", 10, None), special=("<a>",)))
    assert keys == ("tokens.special",)
    assert text.startswith("<|endoftext|> is not declared")


def test_a_range_too_small_for_qwen(qwen_full):
    qwen_full["ranges"][0]["size"] = 151_000
    [(keys, text)] = faults(qwen_full)
    assert keys == ("tokens.text.kind", "tokens.ranges")
    assert text == (
        "the qwen tokenizer has 151,643 ids, text has a range of 151,000: the last 643 would have no place; "
        "type tokens.ranges.0.size=151643"
    )
    del qwen_full["ranges"][0]
    [(_, text)] = faults(qwen_full)
    assert "has no text range; add one" in text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ({"kind": "hf", "folder": None, "exact": True}, "type tokens.text.folder=FOLDER"),
        ({"kind": "hf", "folder": "models/x", "exact": True}, "'models/x' is no absolute path"),
        ({"kind": "qwen", "folder": "/x", "exact": True}, "a qwen tokenizer reads no folder"),
        ({"kind": "train_bpe", "folder": "/x", "exact": True}, "type tokens.text.folder=null, or tokens.text.kind=hf"),
    ],
)
def test_the_folder_of_a_tokenizer(qwen_full, text, told):
    [(_, found)] = faults({**qwen_full, "text": text})
    assert told in found


def test_all_faults_come_at_once_with_their_keys(spans):
    tree = spans(("text", 10, None), ("special", 4, 5), special=("<a>",))
    tree["ranges"].append({"name": "i", "modality": "image", "size": 3, "start": 20})
    tree["codebooks"]["image"] = 2
    with pytest.raises(VocabularyError) as refusal:
        Vocabulary.of(Tokens.model_validate(tree))
    head, *lines = str(refusal.value).splitlines()
    assert head == "tokens=made is no vocabulary:"
    assert [line.partition(":")[0].strip() for line in lines] == [
        "tokens.ranges.0.size, tokens.ranges.1.start",
        "tokens.ranges.2.size, tokens.codebooks.image",
        "tokens.special",
    ]
