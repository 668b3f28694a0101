"""The list of skipped chunks: how it grows, and how it is kept. What it leaves out is in test_data_left_out.py."""

import pytest

from mmhydra.data.storage.faults import WHOLE_SHARD, BadChunk
from mmhydra.data.stream.skips import NO_SKIPS, Skip, Skips
from mmhydra.errors import UserError

WEB, BOOKS = "shards/web-000000.tar", "shards/books-000000.tar"

WITHOUT_DOCUMENTS = '[{"dataset": "made", "shard": "x", "chunk": 1, "reason": "y", "from_sample": 8}]'


def bad(shard, chunk, reason="other bytes", dataset="made", documents=(0, 5)):
    return BadChunk(dataset, shard, chunk, reason, *documents)


def test_the_list_only_grows_and_says_when_there_is_nothing_new():
    first = NO_SKIPS.with_bad([bad(WEB, 3), bad(BOOKS, 0)], 16)
    assert [skip.key for skip in first] == [("made", BOOKS, 0), ("made", WEB, 3)]
    assert first.with_bad([bad(WEB, 3, "in other words")], 32) is first
    assert first.with_bad([], 32) is first
    second = first.with_bad([bad(WEB, 4), bad(WEB, 3)], 32)
    assert second.entries == (*first.entries, Skip("made", WEB, 4, "other bytes", 32, 0, 5))
    assert len(NO_SKIPS) == 0
    assert not NO_SKIPS


def test_a_chunk_that_is_met_earlier_counts_from_there_on():
    first = NO_SKIPS.with_bad([bad(WEB, 3)], 40)
    assert [first.lacks(bad(WEB, 3), n) for n in (39, 40, 41)] == [True, False, False]
    second = first.with_bad([bad(WEB, 3)], 16)
    assert [skip.from_sample for skip in second] == [40, 16]
    assert second.with_bad([bad(WEB, 3)], 16) is second
    assert second.with_bad([bad(WEB, 3)], 30) is second


def test_ranks_that_name_other_reasons_agree_on_the_first():
    skips = NO_SKIPS.with_bad([bad(WEB, 3, "of rank 0"), bad(WEB, 3, "of rank 1")], 0)
    assert [skip.reason for skip in skips] == ["of rank 0"]


def test_the_list_survives_as_text():
    skips = NO_SKIPS.with_bad([bad(WEB, 3, 'a "reason"\nin two lines')], 16).with_bad([bad(BOOKS, WHOLE_SHARD)], 32)
    again = Skips.parse(skips.text)
    assert again == skips
    assert "\n" not in skips.text
    assert Skips.parse("[]") == NO_SKIPS
    assert Skips.of_records(skips.records) == skips


@pytest.mark.parametrize(
    "text", ["", "{", "null", "3", '[{"shard": "x"}]', '[{"chunk": "x"}]', "[1]", WITHOUT_DOCUMENTS]
)
def test_other_text_is_refused(text):
    with pytest.raises(UserError, match="no list of skipped chunks"):
        Skips.parse(text)


def test_a_skip_in_words():
    first, second = NO_SKIPS.with_bad([bad(WEB, 3), bad(WEB, WHOLE_SHARD)], 0)
    assert (first.place, second.place) == (f"made/{WEB}, the whole shard", f"made/{WEB}, chunk 3")
    assert bad(WEB, WHOLE_SHARD).place == first.place
