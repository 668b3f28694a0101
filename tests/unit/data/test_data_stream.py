import tracemalloc
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pytest
from fake_packs import fake_source
from hypothesis import given, settings
from hypothesis import strategies as st

from mmhydra.data.stream import order as order_module
from mmhydra.data.stream import stream as stream_module
from mmhydra.data.stream.mixture import BLOCK, Mixture
from mmhydra.data.stream.stream import SampleRef, Stream, StreamSource, batch_slice
from mmhydra.errors import UserError

SIZES = {"a": (90, 110, 100, 200, 500), "b": (299, 1), "c": (3, 4)}
WEIGHTS = {"a": 0.7, "b": 0.2, "c": 0.1}


def make_stream(seed=7, sizes=SIZES, weights=WEIGHTS, shuffle=True, window_chunks=2, seq_len=16):
    sources = [StreamSource(name, fake_source(groups, seq_len)) for name, groups in sizes.items()]
    mixture = Mixture.constant(
        {name: Fraction(str(weights[name])) for name in sizes}, {name: Fraction(9) for name in sizes}, seed, shuffle
    )
    return Stream(sources, mixture, seed, shuffle, window_chunks)


def refs(stream, first, last):
    """The samples [first, last) as SampleRef."""
    located = stream.locate_many(first, last)
    names = [stream.names[number] for number in located.source.tolist()]
    return [SampleRef(*row) for row in zip(names, located.epoch.tolist(), located.sequence.tolist(), strict=True)]


@pytest.fixture(scope="module")
def first_samples():
    return refs(make_stream(), 0, 9000)


PLACES = (0, 1, 4095, 4096, 10**9)


def test_stream_is_pinned():
    # Runs resume by n alone: these may change only together with ALGORITHM.
    stream = make_stream()
    assert [tuple(stream.locate(n)) for n in PLACES] == [
        ("c", 0, 4),
        ("c", 0, 1),
        ("b", 2, 255),
        ("c", 58, 5),
        ("a", 700000, 806),
    ]


def test_each_epoch_of_each_source_is_a_permutation():
    seen = Counter(refs(make_stream(), 0, 3 * BLOCK))
    assert set(seen.values()) == {1}
    for name, groups in SIZES.items():
        epochs = Counter(ref.epoch for ref in seen if ref.source == name)
        # The counts go up block by block, so all but the last epoch are whole.
        for epoch in range(max(epochs)):
            assert {r.sequence for r in seen if r.source == name and r.epoch == epoch} == set(range(sum(groups)))
    assert len({r.epoch for r in seen if r.source == "c"}) > 100


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**12), st.integers(0, 1200), st.integers(0, 1200))
def test_any_stretch_is_the_uninterrupted_stream(start, before, length):
    used, fresh = make_stream(), make_stream()
    whole = refs(used, start, start + before + length)  # the first stream has already given these
    assert refs(fresh, start + before, start + before + length) == whole[before:]
    if length:
        assert fresh.locate(start + before) == whole[before]
        assert used.locate(start + before + length - 1) == whole[-1]


def test_stretches_of_any_length_are_the_same_samples():
    stream = make_stream()
    whole = refs(stream, 0, 3000)  # longer than what is kept together
    for length in (1, 7, 64, 1000, 1024):
        parts = [refs(stream, low, min(low + length, 3000)) for low in range(0, 3000, length)]
        assert [ref for part in parts for ref in part] == whole
    assert refs(stream, 5, 5) == []
    for end in (7, 3000):  # kept for others, or not
        with pytest.raises(ValueError, match="read-only"):
            stream.locate_many(5, end).sequence[0] = 1


def test_threads_locate_the_same_samples():
    stream = make_stream()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(stream.locate, range(6000)))
    assert found == refs(make_stream(), 0, 6000)


def test_order_changes_with_seed_and_epoch():
    sizes, weights = {"a": (100,)}, {"a": 1}

    def order_of(seed, epoch):
        stream = make_stream(seed, sizes, weights)
        return [ref.sequence for ref in refs(stream, 0, BLOCK) if ref.epoch == epoch]

    orders = [order_of(1, 0), order_of(1, 1), order_of(2, 0)]
    assert all(sorted(order) == list(range(100)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    assert all(order != sorted(order) for order in orders)


def test_sources_are_mixed_within_a_block():
    sources = [ref.source for ref in refs(make_stream(), 0, BLOCK)]
    for start in range(0, BLOCK, 512):
        assert abs(sources[start : start + 512].count("a") / 512 - 0.7) < 0.12


def test_each_source_comes_window_by_window():
    groups, window_chunks = (50,) * 200, 4
    stream = make_stream(sizes={"a": groups, "b": groups}, weights={"a": 2, "b": 1}, window_chunks=window_chunks)
    for source in "ab":
        sequences = [ref.sequence for ref in refs(stream, 0, 12_000) if ref.source == source and ref.epoch == 0]
        for start in range(0, len(sequences) - 200, 200):
            chunks = {sequence // 50 for sequence in sequences[start : start + 200]}
            assert len(chunks) == window_chunks
            assert len(set(sequences[start : start + 200])) == 200


def test_order_of_the_sources_does_not_matter():
    stream = make_stream()
    turned = make_stream(sizes=dict(reversed(SIZES.items())), weights={name: 10 * w for name, w in WEIGHTS.items()})
    assert [stream.locate(n) for n in (*range(500), 10**12)] == [turned.locate(n) for n in (*range(500), 10**12)]


def test_without_shuffle_one_source_comes_in_order():
    stream = make_stream(3, {"a": (4, 5)}, {"a": 2.0}, shuffle=False)
    assert [stream.locate(n) for n in (0, 1, 8, 9, 5000)] == [SampleRef("a", n // 9, n % 9) for n in (0, 1, 8, 9, 5000)]


@pytest.mark.parametrize("n", [0, 1, 777, 1024, BLOCK - 1, BLOCK, BLOCK + 1, 9000])
def test_counts_and_drawn_are_those_of_the_first_samples(n):
    stream = make_stream()
    seen = Counter((ref.source, ref.sequence) for ref in refs(stream, 0, n))
    for name, groups in SIZES.items():
        size = sum(groups)
        assert stream.counts(n)[name] == sum(times for (source, _), times in seen.items() if source == name)
        sequences = np.arange(size)[::-1]
        assert stream.drawn(name, sequences, n).tolist() == [seen[name, sequence] for sequence in sequences.tolist()]


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 9000), st.integers(0, 9000), st.sampled_from("abc"), st.data())
def test_visits_are_all_samples_that_are_a_sequence(first_samples, first, last, source, data):
    stream = make_stream()
    sequence = data.draw(st.integers(0, sum(SIZES[source]) - 1))
    found = [n for n, ref in enumerate(first_samples) if (ref.source, ref.sequence) == (source, sequence)]
    assert stream.visits(source, sequence, first, last) == [n for n in found if first <= n < last]


@pytest.mark.parametrize("scanned", [100, BLOCK, 10**6])
def test_visits_of_a_small_source_are_found_by_going_through(first_samples, monkeypatch, scanned):
    monkeypatch.setattr(stream_module, "_SCANNED", scanned)
    stream = make_stream()
    monkeypatch.setattr(stream.mixture, "find", None)
    found = [n for n, ref in enumerate(first_samples) if (ref.source, ref.sequence) == ("c", 5)]
    assert len(found) > 100
    assert stream.visits("c", 5, 0, 9000) == found
    assert stream.visits("c", 5, 101, 8001) == [n for n in found if 101 <= n < 8001]


@pytest.mark.parametrize("length", [1, 5000, 100_000])
def test_visits_far_away(length):
    stream, start = make_stream(), 10**12 + 77
    ref = next(ref for ref in refs(stream, start, start + 100) if ref.source == "b")
    first = start + refs(stream, start, start + 100).index(ref)
    (before,) = stream.visits("b", ref.sequence, first, first + 1)
    assert before == first
    following = stream.visits("b", ref.sequence, first + 1, first + 1 + length)
    located = refs(stream, first + 1, first + 1 + length)
    assert following == [first + 1 + at for at, one in enumerate(located) if one[::2] == ref[::2]]


def test_a_start_at_a_billion_replays_nothing(monkeypatch):
    orders, draws = [], []
    real = order_module.EpochOrder
    monkeypatch.setattr(order_module, "EpochOrder", lambda *args: orders.append(args[2:4]) or real(*args))
    stream = make_stream(sizes={name: (10,) * 3000 for name in "abc"})
    real_draws = stream.mixture.draws
    monkeypatch.setattr(stream.mixture, "draws", lambda *ends: draws.append(ends[1] - ends[0]) or real_draws(*ends))
    stream.locate(10**9)
    # One order for each source, and less than a block of draws.
    assert sorted(name for name, _ in orders) == ["a", "b", "c"]
    assert sum(draws) <= BLOCK
    before = len(orders), len(draws)
    for n in range(10**9, 10**9 + 20):
        stream.locate(n)
    assert (len(orders), len(draws)) == before


def test_ten_thousand_shards_cost_little():
    source = StreamSource("a", fake_source((8,) * 160_000))  # 16 chunks each
    mixture = Mixture.constant({"a": Fraction(1)}, {"a": Fraction(9)}, 1, True)
    tracemalloc.start()
    try:
        stream = Stream([source], mixture, 1, True, 8)
        kept, _ = tracemalloc.get_traced_memory()
        stream.locate(10**9)
        in_use, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 50_000  # nothing is prepared before it is needed
    assert in_use < 10_000_000  # one epoch's order of groups
    assert most < 40_000_000


def test_wrong_sources_are_refused():
    mixture = Mixture.constant({"a": Fraction(1)}, {"a": Fraction(9)}, 0, True)
    one = StreamSource("a", fake_source((5,)))
    with pytest.raises(UserError, match="named twice: a, a"):
        Stream([one, one], mixture, 0, True, 8)
    with pytest.raises(UserError, match="the mixture is of a, the sources are a, b"):
        Stream([one, StreamSource("b", fake_source((5,)))], mixture, 0, True, 8)
    both = Mixture.constant({name: Fraction(1) for name in "ab"}, {name: Fraction(9) for name in "ab"}, 0, True)
    with pytest.raises(UserError, match=r"one seq_len, not \{'a': 16, 'b': 4\}"):
        Stream([one, StreamSource("b", fake_source((5,), seq_len=4))], both, 0, True, 8)
    with pytest.raises(IndexError, match="from 0"):
        make_stream().locate(-1)
    with pytest.raises(IndexError, match="sequence 7 of source c, which has 7"):
        make_stream().visits("c", 7, 0, 10)


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
