"""Which samples the list of skipped chunks leaves out, and how it is kept."""

import pytest

from mmhydra.data.storage.faults import WHOLE_SHARD, BadChunk
from mmhydra.data.stream.skips import NO_SKIPS, Skip, Skips
from mmhydra.errors import UserError

WEB, BOOKS = "shards/web-000000.tar", "shards/books-000000.tar"


def bad(shard, chunk, reason="other bytes", dataset="made"):
    return BadChunk(dataset, shard, chunk, reason)


def leaves_out(skips, n, shards, chunks, dataset="made"):
    return skips.leaves_out(n, dataset, shards, lambda: chunks)


def never():
    raise AssertionError("what lies beside the shards is not to be read")


def test_a_sample_is_left_out_from_the_first_sample_of_the_step_that_found_the_chunk():
    skips = NO_SKIPS.with_bad([bad(WEB, 3)], 40)
    needs_it = frozenset({(WEB, 2), (WEB, 3)})
    assert not leaves_out(skips, 39, [WEB], needs_it)
    assert leaves_out(skips, 40, [WEB], needs_it)
    assert leaves_out(skips, 10**9, [WEB], needs_it)
    assert not leaves_out(skips, 40, [WEB], frozenset({(WEB, 2), (WEB, 4)}))
    assert not leaves_out(skips, 40, [WEB], needs_it, dataset="other")
    assert not leaves_out(skips, 40, [BOOKS], frozenset({(BOOKS, 3)}))


def test_a_whole_shard_leaves_out_all_that_have_a_piece_in_it_without_asking_for_chunks():
    skips = NO_SKIPS.with_bad([bad(WEB, WHOLE_SHARD)], 8)
    assert skips.leaves_out(8, "made", [BOOKS, WEB], never)
    assert not skips.leaves_out(7, "made", [BOOKS, WEB], never)
    assert not skips.leaves_out(8, "made", [BOOKS], never)


def test_chunks_are_not_asked_for_before_their_time_or_elsewhere():
    skips = NO_SKIPS.with_bad([bad(WEB, 3)], 40)
    assert not skips.leaves_out(39, "made", [WEB], never)
    assert not skips.leaves_out(40, "made", [BOOKS], never)
    assert not NO_SKIPS.leaves_out(0, "made", [WEB], never)


def test_the_list_only_grows_and_says_when_there_is_nothing_new():
    first = NO_SKIPS.with_bad([bad(WEB, 3), bad(BOOKS, 0)], 16)
    assert [skip[:3] for skip in first] == [("made", BOOKS, 0), ("made", WEB, 3)]
    assert first.with_bad([bad(WEB, 3, "in other words")], 32) is first
    assert first.with_bad([], 32) is first
    second = first.with_bad([bad(WEB, 4), bad(WEB, 3)], 32)
    assert second.entries == (*first.entries, Skip("made", WEB, 4, "other bytes", 32))
    assert len(NO_SKIPS) == 0
    assert not NO_SKIPS


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


@pytest.mark.parametrize("text", ["", "{", "null", "3", '[{"shard": "x"}]', '[{"chunk": "x"}]', "[1]"])
def test_other_text_is_refused(text):
    with pytest.raises(UserError, match="no list of skipped chunks"):
        Skips.parse(text)


def test_a_skip_in_words():
    first, second = NO_SKIPS.with_bad([bad(WEB, 3), bad(WEB, WHOLE_SHARD)], 0)
    assert (first.place, second.place) == (f"made/{WEB}", f"made/{WEB}, chunk 3")
