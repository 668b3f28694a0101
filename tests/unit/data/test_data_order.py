from itertools import pairwise

import numpy as np
import pytest
from fake_packs import fake_source
from hypothesis import given, settings
from hypothesis import strategies as st

from mmhydra.data.stream import order as order_module
from mmhydra.data.stream.order import EpochOrder, SourceOrder

SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=30)
WINDOWS = st.integers(1, 12)


def edges_of(sizes):
    return np.concatenate([[0], np.cumsum(sizes)])


def epoch_order(sizes, window_chunks=4, seed=1, name="web", epoch=0, shuffle=True):
    return EpochOrder(edges_of(sizes), seed, name, epoch, window_chunks, shuffle)


def whole(order, sizes):
    return order.sequence(np.arange(sum(sizes)))


@settings(deadline=None)
@given(SIZES, WINDOWS, st.integers(0, 2**63), st.integers(0, 10**9), st.booleans())
def test_every_sequence_comes_once_and_place_is_the_inverse(sizes, window_chunks, seed, epoch, shuffle):
    order = epoch_order(sizes, window_chunks, seed, epoch=epoch, shuffle=shuffle)
    sequences = whole(order, sizes)
    np.testing.assert_array_equal(np.sort(sequences), np.arange(sum(sizes)))
    np.testing.assert_array_equal(order.place(sequences), np.arange(sum(sizes)))
    np.testing.assert_array_equal(order.sequence(order.place(np.arange(sum(sizes)))), np.arange(sum(sizes)))


@settings(deadline=None)
@given(SIZES, WINDOWS, st.data())
def test_any_places_at_once_are_those_places_one_by_one(sizes, window_chunks, data):
    order = epoch_order(sizes, window_chunks)
    places = data.draw(st.lists(st.integers(0, sum(sizes) - 1), max_size=20))
    alone = [int(order.sequence(np.array([place]))[0]) for place in places]
    assert order.sequence(np.array(places, np.int64)).tolist() == alone
    assert order.place(np.array(alone, np.int64)).tolist() == places


@settings(deadline=None)
@given(SIZES, WINDOWS, st.integers(0, 5))
def test_a_window_is_all_of_its_few_groups_and_windows_follow_each_other(sizes, window_chunks, epoch):
    order = epoch_order(sizes, window_chunks, epoch=epoch)
    edges = edges_of(sizes)
    group = np.searchsorted(edges, whole(order, sizes), side="right") - 1
    begin, met = 0, []
    for window in range(order.num_windows):
        groups = order.groups_of(window).tolist()
        assert len(groups) <= window_chunks
        end = begin + sum(sizes[number] for number in groups)
        # All sequences of its groups and no others, so a chunk is done with when its window is.
        assert sorted(group[begin:end]) == sorted(number for number in groups for _ in range(sizes[number]))
        assert order.places_of(window) == (begin, end)
        assert {order.window(begin), order.window(end - 1)} == {window}
        begin, met = end, met + groups
    assert begin == sum(sizes)
    assert sorted(met) == list(range(len(sizes)))


def test_without_shuffle_sequences_come_in_order():
    sizes = [3, 1, 5, 2]
    order = epoch_order(sizes, 2, shuffle=False)
    np.testing.assert_array_equal(whole(order, sizes), np.arange(11))
    assert order.groups_of(1).tolist() == [2, 3]


def test_orders_differ_between_epochs_seeds_and_sources():
    sizes = [20] * 30
    orders = [
        epoch_order(sizes, **changed) for changed in ({}, {"epoch": 1}, {"seed": 2}, {"name": "books"}, {"seed": -1})
    ]
    rows = [whole(order, sizes) for order in orders]
    for number, one in enumerate(rows):
        for other in rows[number + 1 :]:
            assert (one == other).sum() < 20  # about one is expected by chance


def test_the_order_is_pinned():
    # Runs resume by n alone: these may change only together with stream.ALGORITHM.
    order = epoch_order([3, 5, 2, 7, 4], 2, seed=11, name="web", epoch=3)
    expected = [14, 13, 9, 10, 15, 11, 12, 8, 16, 1, 18, 19, 0, 17, 2, 20, 7, 4, 3, 6, 5]
    assert order.sequence(np.arange(21)).tolist() == expected
    assert order.groups_of(0).tolist() == [2, 3]


def test_outside_of_an_epoch_is_refused():
    for shuffle in (True, False):
        order = epoch_order([3, 4], shuffle=shuffle)
        for wrong in (-1, 7):
            with pytest.raises(IndexError, match="of an epoch of 7 sequences"):
                order.sequence(np.array([0, wrong]))
            with pytest.raises(IndexError, match="of an epoch of 7 sequences"):
                order.place(np.array([wrong, 3]))


def test_every_sequence_is_equally_often_everywhere():
    """Chi-square over epochs, 6 standard deviations: groups over windows, and sequences inside of windows."""
    epochs, num_groups, group_size, window_chunks = 3000, 8, 6, 2
    size, window_size = num_groups * group_size, window_chunks * group_size
    windows, insides = np.zeros((num_groups, num_groups // window_chunks)), np.zeros((size, window_size))
    for epoch in range(epochs):
        places = epoch_order([group_size] * num_groups, window_chunks, epoch=epoch).place(np.arange(size))
        windows[np.arange(num_groups), places[::group_size] // window_size] += 1
        insides[np.arange(size), places % window_size] += 1
    for table in (windows, insides):
        expected = epochs / table.shape[1]
        chi2 = ((table - expected) ** 2 / expected).sum()
        freedom = (table.shape[0] - 1) * (table.shape[1] - 1)
        assert chi2 < freedom + 6 * np.sqrt(2 * freedom)


def test_neighbours_of_a_window_are_no_neighbours_in_it():
    sizes = [500] * 64
    sequences = whole(epoch_order(sizes, window_chunks=8), sizes)
    group = sequences // 500
    # The next sample is of the same chunk one time in eight, as if drawn at random from the window.
    same = (group[1:] == group[:-1]).mean()
    assert same == pytest.approx(1 / 8, abs=5 * np.sqrt(1 / 8 * 7 / 8 / len(group)))
    for lag in (1, 2, 7, 100):
        inside = np.concatenate([part % 500 for part in np.split(sequences, 8)])
        correlation = np.corrcoef(inside[:-lag], inside[lag:])[0, 1]
        assert abs(correlation) < 5 / np.sqrt(len(inside))


@settings(deadline=None)
@given(SIZES, WINDOWS, st.booleans(), st.data())
def test_totals_are_the_sums_over_the_first_places(sizes, window_chunks, shuffle, data):
    pack = fake_source(sizes).pack
    order = epoch_order(sizes, window_chunks, shuffle=shuffle)
    place = data.draw(st.integers(0, sum(sizes)))
    expected = pack.counts[whole(order, sizes)[:place]].sum(axis=0, dtype=np.int64)
    np.testing.assert_array_equal(order.totals(place, order.sums(pack.totals), pack.counts), expected)


@settings(deadline=None, max_examples=40)
@given(SIZES, WINDOWS, st.data())
def test_a_source_goes_on_epoch_after_epoch(sizes, window_chunks, data):
    pack, size = fake_source(sizes).pack, sum(sizes)
    source = SourceOrder(pack, 5, "web", window_chunks, True)
    count = data.draw(st.integers(0, 4 * size))
    epochs, sequences = source.locate(np.arange(count))
    np.testing.assert_array_equal(epochs, np.arange(count) // size)
    for epoch in range(-(-count // size)):
        expected = whole(EpochOrder(pack.groups, 5, "web", epoch, window_chunks, True), sizes)
        mine = sequences[epochs == epoch]
        np.testing.assert_array_equal(mine, expected[: len(mine)])
    np.testing.assert_array_equal(source.totals(count), pack.counts[sequences].sum(axis=0, dtype=np.int64))
    times = np.bincount(sequences, minlength=size)
    np.testing.assert_array_equal(source.drawn(np.arange(size), count), times)


@settings(deadline=None)
@given(SIZES, WINDOWS, st.integers(1, 5), st.booleans())
def test_epochs_end_to_end_are_those_epochs(sizes, window_chunks, num_epochs, shuffle):
    groups, size = edges_of(sizes), sum(sizes)
    together = EpochOrder(groups, 3, "web", 40, window_chunks, shuffle, num_epochs)
    alone = [EpochOrder(groups, 3, "web", 40 + number, window_chunks, shuffle) for number in range(num_epochs)]
    expected = np.concatenate([whole(order, sizes) for order in alone])
    np.testing.assert_array_equal(together.sequence(np.arange(num_epochs * size)), expected)
    numbers = np.arange(num_epochs * size) // size
    np.testing.assert_array_equal(together.place(expected, numbers), np.arange(num_epochs * size))
    assert together.num_windows == sum(order.num_windows for order in alone)
    windows = [order.groups_of(window).tolist() for order in alone for window in range(order.num_windows)]
    assert [together.groups_of(window).tolist() for window in range(together.num_windows)] == windows


@settings(deadline=None, max_examples=40)
@given(SIZES, WINDOWS, st.integers(0, 4000), st.integers(0, 4000), st.data())
def test_draws_of_a_sequence(sizes, window_chunks, first, last, data):
    size = sum(sizes)
    source = SourceOrder(fake_source(sizes).pack, 5, "web", window_chunks, True)
    sequence = data.draw(st.integers(0, size - 1))
    _, sequences = source.locate(np.arange(4000))
    expected = [draw for draw in np.flatnonzero(sequences == sequence).tolist() if first <= draw < last]
    assert source.draws_of(sequence, first, last).tolist() == expected


def test_epochs_are_prepared_when_asked_for_and_few_are_kept(monkeypatch):
    made = []
    real = order_module.EpochOrder
    monkeypatch.setattr(order_module, "EpochOrder", lambda *args: made.append(args[3]) or real(*args))
    source = SourceOrder(fake_source([4] * 5).pack, 5, "web", 2, True)
    assert made == []
    source.locate(np.arange(10**12, 10**12 + 3))
    source.totals(10**12)
    source.totals(10**12 + 7)
    assert made == [10**12 // 20]
    for epoch in range(100):
        source.epoch(epoch)
    assert source.epoch.cache_info().currsize < 10


def test_large_windows_are_summed_a_part_at_a_time(monkeypatch):
    monkeypatch.setattr(order_module, "_ROWS", 7)
    pack = fake_source([10, 20, 30]).pack
    order = EpochOrder(pack.groups, 0, "web", 0, 8, True)
    rows, sums = order.sequence(np.arange(60)), order.sums(pack.totals)
    for place, after in pairwise((0, 1, 29, 30, 31, 59, 60)):
        part = order.totals(after, sums, pack.counts) - order.totals(place, sums, pack.counts)
        np.testing.assert_array_equal(part, pack.counts[rows[place:after]].sum(axis=0, dtype=np.int64))
