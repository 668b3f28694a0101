"""Which ids are what: shipped layouts to the id, gaps, places that are taken twice, and the way there and back."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmhydra.config.tokens import Tokens
from mmhydra.data.vocabulary import Vocabulary, VocabularyError


def of(tree) -> Vocabulary:
    return Vocabulary.of(Tokens.model_validate(tree))


def test_the_ids_of_the_full_vocabulary(qwen_full):
    vocabulary = of(qwen_full)
    assert [vocabulary.special_id(token) for token in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")] == [
        151_643,
        151_644,
        151_645,
    ]
    assert vocabulary.eod_id == 151_643
    firsts = {name: int(vocabulary.to_ids(name, 0)) for name in ("text", "special", "image", "audio", "video")}
    assert firsts == {"text": 0, "special": 151_643, "image": 151_899, "audio": 168_283, "video": 176_475}
    assert (vocabulary.size, vocabulary.padded_size) == (192_859, 192_896)
    assert vocabulary.padded_size % 128 == 0
    # Written down once: every dataset that was built with this layout says so.
    assert vocabulary.layout_digest == "7a99c7d8bead279fd9efbb296d84c126dc63ba108feec30a9300fe0a38eea9ea"


def test_the_demo_has_all_modalities_and_equal_shards(demo):
    vocabulary = of(demo)
    assert vocabulary.modalities == ("text", "special", "image", "audio", "video")
    assert {name: vocabulary.room(name) for name in vocabulary.modalities} == {
        "text": 2048,
        "special": 64,
        "image": 512,
        "audio": 512,
        "video": 512,
    }
    assert vocabulary.padded_size % 64 == 0
    assert vocabulary.special_token(vocabulary.eod_id + 20) == "<|special 20|>"  # room for later ones
    assert vocabulary.special_token(vocabulary.eod_id) == "<|endoftext|>"


def test_modalities_of_ids_in_numpy_and_torch(spans):
    vocabulary = of(spans(("text", 4, 2), ("special", 2, None), ("image", 3, 10)))
    names = ["unused"] * 2 + ["text"] * 4 + ["special"] * 2 + ["unused"] * 2 + ["image"] * 3
    ids = np.arange(vocabulary.size)
    assert [vocabulary.modalities[code] for code in vocabulary.modality_of(ids)] == names
    assert vocabulary.modality_of(ids.reshape(1, -1)).shape == (1, 13)
    found = torch.bucketize(torch.arange(13), torch.tensor(vocabulary.edges), right=True) - 1
    codes = torch.tensor(vocabulary.edge_modalities)[found]
    assert codes.tolist() == vocabulary.modality_of(ids).tolist()
    assert vocabulary.padded_size == 16


@pytest.mark.parametrize("wrong", [-1, 13, 10**12])
def test_ids_outside_the_vocabulary_are_refused(spans, wrong):
    vocabulary = of(spans(("text", 4, 2), ("special", 2, None), ("image", 3, 10)))
    with pytest.raises(VocabularyError, match=rf"id {wrong} is not in the vocabulary; legal: 0 to 12"):
        vocabulary.modality_of([3, wrong])


def test_a_modality_may_have_several_ranges(spans):
    vocabulary = of(spans(("text", 3, None), ("special", 1, None), ("text", 4, None)))
    assert vocabulary.to_ids("text", range(7)).tolist() == [0, 1, 2, 4, 5, 6, 7]
    assert vocabulary.to_local("text", [0, 1, 2, 4, 5, 6, 7]).tolist() == list(range(7))


def test_without_a_special_range_specials_come_first_in_the_text_range(spans):
    vocabulary = of(spans(("text", 10, None), ("image", 4, None), special=("<|endoftext|>", "<|image|>")))
    assert (vocabulary.eod_id, vocabulary.special_id("<|image|>")) == (0, 1)
    assert vocabulary.to_ids("text", [0, 7]).tolist() == [2, 9]
    assert vocabulary.room("text") == 8
    assert vocabulary.size == 14


@given(
    sizes=st.lists(st.integers(1, 50), min_size=5, max_size=5),
    gaps=st.lists(st.integers(0, 9), min_size=5, max_size=5),
    order=st.permutations(range(5)),
)
def test_every_id_comes_back(sizes, gaps, order):
    modalities = ["text", "special", "image", "audio", "video"]
    rows, start = [], 0
    for at in order:
        start += gaps[at]
        rows.append((modalities[at], sizes[at], start))
        start += sizes[at]
    ranges = [{"name": name, "modality": name, "size": size, "start": at} for name, size, at in reversed(rows)]
    tree = {
        "name": "x",
        "ranges": ranges,
        "special": ["<|endoftext|>"],
        "codebooks": {"image": 1, "audio": 1, "video": 1},
    }
    vocabulary = of(tree | {"pad_multiple": 64, "text": None})
    for name, size, at in rows:
        ids = vocabulary.to_ids(name, np.arange(size))
        assert ids.tolist() == list(range(at, at + size))
        assert vocabulary.to_local(name, ids).tolist() == list(range(size))
        assert {vocabulary.modalities[code] for code in vocabulary.modality_of(ids)} == {name}
        with pytest.raises(VocabularyError):
            vocabulary.to_ids(name, size)
    assert vocabulary.size == start
    assert vocabulary.padded_size == -(-start // 64) * 64


def test_local_ids_keep_their_shape_and_are_checked(demo):
    vocabulary = of(demo)
    assert vocabulary.to_ids("audio", [[0, 256], [511, 1]]).tolist() == [[2624, 2880], [3135, 2625]]
    with pytest.raises(VocabularyError, match="local id 512 is no audio; legal: 0 to 511"):
        vocabulary.to_ids("audio", [0, 512])
    with pytest.raises(VocabularyError, match="local id -1 is no image"):
        vocabulary.to_ids("image", [-1])
    with pytest.raises(VocabularyError, match="id 2111 is no image; legal: 2112 to 2623"):
        vocabulary.to_local("image", [2111])
    with pytest.raises(VocabularyError, match=r"<\|nope\|> is no special token; tokens.special has <\|endoftext\|>"):
        vocabulary.special_id("<|nope|>")


def test_a_modality_without_a_range_is_refused_by_name(spans):
    with pytest.raises(VocabularyError, match="legal: none, tokens=made has no video range"):
        of(spans(("text", 10, None))).to_ids("video", [0])


def test_the_digest_changes_with_what_ids_mean_and_with_nothing_else(demo):
    digest = of(demo).layout_digest
    demo["name"] = "other"
    demo["ranges"][0]["name"] = "words"
    demo["ranges"][1]["start"] = 2048  # where it is anyway
    demo["pad_multiple"] = 4096
    demo["text"] = {"kind": "hf", "folder": "/somewhere", "exact": False}
    assert of(demo).layout_digest == digest
    changed = set()
    for change in (
        lambda: demo["special"].append("<|more|>"),
        lambda: demo["special"].reverse(),
        lambda: demo["codebooks"].update(audio=4),
        lambda: demo["ranges"][4].update(size=600),
        lambda: demo["ranges"][4].update(modality="image"),
    ):
        change()
        changed.add(of(demo).layout_digest)
    assert len(changed - {digest}) == 5


def test_a_manifest_holds_the_layout(demo):
    vocabulary = of(demo)
    assert vocabulary.layout["text"] is None  # a path of one machine would change the manifest on another
    again = Vocabulary.of_layout(vocabulary.layout)
    assert again.layout_digest == vocabulary.layout_digest
    assert again.edges == vocabulary.edges
    with pytest.raises(VocabularyError, match="not the layout of a vocabulary:\n  ranges"):
        Vocabulary.of_layout({**vocabulary.layout, "ranges": []})


def test_a_text_tokenizer_has_to_fit(demo):
    vocabulary = of(demo)
    vocabulary.check_fits(2048)
    with pytest.raises(VocabularyError, match=r"has 2,050 ids, text has a range of 2,048: the last 2 .*size=2050"):
        vocabulary.check_fits(2050)


def test_the_digest_of_a_config_needs_no_numpy():
    code = "import sys, mmhydra.config.token_rules; assert not {'numpy', 'torch', 'tokenizers'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_package_needs_no_torch_and_no_tiktoken():
    code = "import sys, mmhydra.data.templates; assert not {'torch', 'transformers', 'tiktoken'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True)
