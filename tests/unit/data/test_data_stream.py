from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmhydra.data.packing.sequences import Sample
from mmhydra.data.stream.mixture import BLOCK, Mixture
from mmhydra.data.stream.permutation import derive_key, permute
from mmhydra.data.stream.stream import SampleRef, Stream, batch_slice
from mmhydra.errors import UserError


class FakeSequences:
    """Sequences whose ids name the source and the sequence."""

    def __init__(self, code, length, seq_len=3):
        self.code, self.length, self.seq_len = code, length, seq_len

    def __len__(self):
        return self.length

    def __getitem__(self, k):
        assert 0 <= k < self.length
        row = np.full(self.seq_len, self.code * 10**6 + k)
        return Sample(row, row + 1, np.arange(self.seq_len))


def make_stream(seed=7, weights=(0.7, 0.2, 0.1), lengths=(1000, 300, 7)):
    sources = [
        (name, FakeSequences(code, length), weight)
        for code, (name, length, weight) in enumerate(zip("abc", lengths, weights, strict=False))
    ]
    return Stream(sources, seed)


@settings(deadline=None)
@given(st.integers(1, 3000), st.integers(0, 2**64 - 1))
def test_permute_is_a_bijection(size, key):
    images = permute(np.arange(size), size, key)
    np.testing.assert_array_equal(np.sort(images), np.arange(size))


@settings(deadline=None)
@given(st.integers(1, 2**62), st.integers(0, 2**64 - 1), st.data())
def test_permute_is_the_same_for_integers_and_arrays(size, key, data):
    index = data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=5))
    images = [permute(i, size, key) for i in index]
    assert all(0 <= image < size for image in images)
    assert permute(np.array(index), size, key).tolist() == images


def test_permute_shapes_and_bounds():
    assert permute(np.arange(6).reshape(2, 3), 6, 1).shape == (2, 3)
    assert permute(np.array([], dtype=np.int64), 6, 1).shape == (0,)
    for index in (-1, 6, np.array([0, 6]), np.array([-1])):
        with pytest.raises(IndexError, match="not in"):
            permute(index, 6, 1)
    with pytest.raises(IndexError):
        permute(0, 0, 1)


@pytest.mark.parametrize("size", [2, 3, 5, 6, 12])
def test_permute_is_even_over_keys(size):
    """Every index goes everywhere equally often: chi-square over the whole table, 6 standard deviations."""
    trials = 4000
    table = np.zeros((size, size))
    for key in range(trials):
        table[np.arange(size), permute(np.arange(size), size, derive_key(key, "test"))] += 1
    expected = trials / size
    chi2 = ((table - expected) ** 2 / expected).sum()
    freedom = (size - 1) ** 2
    assert chi2 < freedom + 6 * np.sqrt(2 * freedom)


def test_permute_leaves_no_order():
    size = 10_000
    images = permute(np.arange(size), size, 3)
    limit = 5 / np.sqrt(size)
    assert abs(np.corrcoef(np.arange(size), images)[0, 1]) < limit
    for lag in (1, 2, 64, 100):
        assert abs(np.corrcoef(images[:-lag], images[lag:])[0, 1]) < limit
    assert abs(np.corrcoef(images, permute(np.arange(size), size, 4))[0, 1]) < limit


def test_keys_differ_by_part_and_place():
    keys = {derive_key(*parts) for parts in [(1, 2), (2, 1), (1,), (1, "2"), (1, 2, 0), (0, 1, 2), ("a", 1), ("b", 1)]}
    assert len(keys) == 8


def test_stream_is_pinned():
    # Old runs are resumed by n alone: these values may never change.
    stream = make_stream()
    assert [stream.locate(n) for n in (0, 1, 4095, 4096, 10**9)] == [
        ("c", 12, 3),
        ("a", 0, 393),
        ("a", 0, 905),
        ("b", 3, 256),
        ("a", 699999, 202),
    ]


@settings(deadline=None)
@given(st.lists(st.integers(1, 500), min_size=1, max_size=8), st.integers(0, 10**6))
def test_counts_are_exact_to_one_sample_and_never_fall(weights, num_blocks):
    names = [f"s{number}" for number in range(len(weights))]
    mixture = Mixture(dict(zip(names, weights, strict=True)), seed=0)
    before, after = mixture.counts(num_blocks), mixture.counts(num_blocks + 1)
    assert sum(before.values()) == num_blocks * BLOCK
    for name, weight in zip(names, weights, strict=True):
        assert abs(before[name] * sum(weights) - num_blocks * BLOCK * weight) <= sum(weights)
        assert after[name] >= before[name]


def test_shares_at_the_lower_limit_never_fall():
    smallest = {f"s{number}": 1 for number in range(BLOCK)}
    counts = Mixture(smallest, seed=0).counts(3)
    assert set(counts.values()) == {3}
    odd = Mixture({"a": 1.0003, **{f"s{number}": 1.0001 for number in range(4000)}}, seed=0)
    series = [odd.counts(blocks) for blocks in range(60)]
    assert all(late[name] >= early[name] for early, late in pairwise(series) for name in early)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.sampled_from([0.004, 0.05, 0.1, 0.3, 1.0, 2.5]), min_size=1, max_size=5),
    st.integers(-5, 2**70),
    st.sampled_from([0, 1, 1000]),
    st.booleans(),
)
def test_draws_of_a_block_are_the_quota_each_once(weights, seed, block, shuffle):
    mixture = Mixture({f"s{number}": weight for number, weight in enumerate(weights)}, seed, shuffle)
    draws = [mixture.draw(n) for n in range(block * BLOCK, (block + 1) * BLOCK)]
    low, high = mixture.counts(block), mixture.counts(block + 1)
    expected = [(name, count) for name in mixture.names for count in range(low[name], high[name])]
    assert sorted(draws) == sorted(expected)


def test_decimal_weights_are_exact():
    counts = Mixture({"a": 0.7, "b": 0.2, "c": 0.1}, seed=0).counts(10**15)
    assert counts == {"a": 7 * 4096 * 10**14, "b": 2 * 4096 * 10**14, "c": 4096 * 10**14}


def test_each_epoch_of_each_source_is_a_permutation():
    stream = make_stream()
    seen = Counter()
    for n in range(3 * BLOCK):
        seen[stream.locate(n)] += 1
    assert set(seen.values()) == {1}
    for name, length in zip("abc", (1000, 300, 7), strict=True):
        epochs = Counter(ref.epoch for ref in seen if ref.source == name)
        # The counts go up block by block, so all but the last epoch are whole.
        for epoch in range(max(epochs)):
            assert {r.sequence for r in seen if r.source == name and r.epoch == epoch} == set(range(length))
    assert len({r.epoch for r in seen if r.source == "c"}) > 100


def order_of(stream, name, epoch, draws):
    return [r.sequence for r in map(stream.locate, range(draws)) if (r.source, r.epoch) == (name, epoch)]


def test_order_changes_with_seed_and_epoch():
    one = Stream([("a", FakeSequences(0, 100), 1)], seed=1)
    other = Stream([("a", FakeSequences(0, 100), 1)], seed=2)
    orders = [order_of(one, "a", 0, BLOCK), order_of(one, "a", 1, BLOCK), order_of(other, "a", 0, BLOCK)]
    assert all(sorted(order) == list(range(100)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    assert all(order != sorted(order) for order in orders)


def test_sources_are_mixed_within_a_block():
    sources = [make_stream().locate(n).source for n in range(BLOCK)]
    for start in range(0, BLOCK, 512):
        share = sources[start : start + 512].count("a") / 512
        assert abs(share - 0.7) < 0.12


def test_order_and_scale_of_the_sources_do_not_matter():
    stream = make_stream()
    turned = Stream(
        [("c", FakeSequences(2, 7), 1), ("a", FakeSequences(0, 1000), 7), ("b", FakeSequences(1, 300), 2)],
        seed=7,
    )
    places = [*range(500), 10**12]
    assert [stream.locate(n) for n in places] == [turned.locate(n) for n in places]


@settings(deadline=None)
@given(st.integers(0, 10**12), st.integers(1, 50))
def test_restart_at_n_is_the_uninterrupted_stream(start, ahead):
    used, fresh = make_stream(), make_stream()
    for n in range(start, start + ahead):  # the first stream has already given these
        used.sample(n)
    np.testing.assert_array_equal(used.sample(start + ahead).input_L, fresh.sample(start + ahead).input_L)
    assert used.locate(start) == fresh.locate(start)


def test_sample_is_the_located_sequence():
    stream = make_stream()
    indices = np.array([0, 5, 4097, 10**10])
    batch = stream.samples(indices)
    assert [rows.shape for rows in batch] == [(4, 3)] * 3
    for n, inputs, labels in zip(indices.tolist(), batch.input_BL, batch.labels_BL, strict=True):
        ref = stream.locate(n)
        np.testing.assert_array_equal(inputs, np.full(3, "abc".index(ref.source) * 10**6 + ref.sequence))
        np.testing.assert_array_equal(labels, inputs + 1)
    np.testing.assert_array_equal(batch.positions_BL, [[0, 1, 2]] * 4)


def test_without_shuffle_one_source_comes_in_order():
    stream = Stream([("a", FakeSequences(0, 9), 2.0)], seed=3, shuffle=False)
    assert [stream.locate(n) for n in (0, 1, 8, 9, 5000)] == [SampleRef("a", n // 9, n % 9) for n in (0, 1, 8, 9, 5000)]


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf")])
def test_weights_must_be_above_zero(weight):
    with pytest.raises(UserError, match="weight of source b"):
        make_stream(weights=(1, weight, 1))


def test_a_share_below_one_sample_a_block_is_refused_with_a_cure():
    with pytest.raises(UserError, match=r"source b has 0\.0002.*at least 0\.000247 "):
        make_stream(weights=(1, 0.0002))
    make_stream(weights=(1, 0.000247))


def test_wrong_sources_are_refused():
    with pytest.raises(UserError, match="at least one source"):
        Stream([], seed=0)
    with pytest.raises(UserError, match="named twice"):
        Stream([("a", FakeSequences(0, 5), 1), ("a", FakeSequences(0, 5), 1)], seed=0)
    with pytest.raises(UserError, match=r"one seq_len, not \{'a': 3, 'b': 4\}"):
        Stream([("a", FakeSequences(0, 5), 1), ("b", FakeSequences(0, 5, seq_len=4), 1)], seed=0)
    with pytest.raises(IndexError, match="from 0"):
        make_stream().locate(-1)


CASES = [
    (size, dp, per_yield)
    for size in (1, 6, 8, 24, 840)
    for dp in range(1, 9)
    for per_yield in (1, 2, 3, 5)
    if size % (dp * per_yield) == 0
]


@pytest.mark.parametrize(("size", "dp", "per_yield"), CASES)
def test_ranks_together_see_the_global_batch(size, dp, per_yield):
    sample = 3 * size
    ranks = [[] for _ in range(dp)]
    for _ in range(size // (dp * per_yield)):
        slices = [batch_slice(sample, size, dp, rank, per_yield) for rank in range(dp)]
        for rank, (indices, _) in enumerate(slices):
            assert indices.shape == (per_yield,)
            ranks[rank] += indices.tolist()
        (sample,) = {after for _, after in slices}
    # One after the other, the ranks' shares are the global batch in its order, at any dp.
    assert [n for rank in ranks for n in rank] == list(range(3 * size, 4 * size))
    assert sample == 4 * size


def test_every_dp_is_covered():
    assert {dp for _, dp, _ in CASES} == set(range(1, 9))


def test_batch_slice_by_hand():
    indices, after = batch_slice(sample=20, global_batch_size=16, dp_degree=2, dp_rank=1, per_yield=2)
    assert (indices.tolist(), after) == ([26, 27], 24)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 10, 4, 0, 1), r"global_batch_size = 10 must be a multiple .* 4 x 1"),
        ((0, 8, 4, 0, 3), "4 x 3"),
        ((0, 0, 1, 0, 1), "at least 1"),
        ((0, 8, 0, 0, 1), "at least 1"),
        ((0, 8, 4, 0, 0), "at least 1"),
        ((0, 8, 4, 4, 1), r"rank 4 is not in \[0, 4\)"),
        ((0, 8, 4, -1, 1), "rank -1"),
        ((2, 8, 4, 0, 1), "sample 2 is not a multiple of 4 x 1"),
        ((-8, 8, 4, 0, 1), "sample -8"),
    ],
)
def test_batch_slice_refuses(arguments, message):
    with pytest.raises(UserError, match=message):
        batch_slice(*arguments)
