"""Sources give the samples of a stream in exact shares of tokens, at every n, whatever the phases."""

import itertools
import time
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmhydra.config.stages import StageSpan
from mmhydra.data.stream.mixture import BLOCK, Mixture, block_size
from mmhydra.data.stream.schedule import Phase, Schedule, phases_of
from mmhydra.errors import UserError

MANY = 10**6  # samples, after which shares are within a thousandth of what was asked
SIZES = st.fractions(Fraction(1, 3), 5000, max_denominator=10**7)
SHARES = st.one_of(
    st.sampled_from([Fraction(0), Fraction(1), Fraction(1, 10**6), Fraction(1, 3), Fraction(1, 2)]),
    st.fractions(0, 1, max_denominator=10**6),
)


@st.composite
def mixtures(draw, max_length=3 * BLOCK, max_sources=6):
    """Phases, tokens a sample, seed and shuffle."""
    names = [f"s{number}" for number in range(draw(st.integers(1, max_sources)))]

    def edge():
        shares = {name: draw(SHARES) for name in names}
        if not any(shares.values()):
            shares[draw(st.sampled_from(names))] = Fraction(1)
        return shares

    lengths = draw(st.lists(st.integers(1, max_length), max_size=4))
    phases = []
    for length in lengths:
        start = edge()
        phases.append(Phase(length, start, draw(st.sampled_from([start, edge()]))))
    if not phases or draw(st.booleans()):
        last = edge()
        phases.append(Phase(None, last, last))
    sizes = {name: draw(SIZES) for name in names}
    return phases, sizes, draw(st.integers(0, 2**32)), draw(st.booleans())


def exact_samples(phases, sizes, n):
    """The exact number of samples of each source at the n-th draw, computed from the definition with floats."""
    total = dict.fromkeys(sizes, 0.0)
    tail = Phase(None, phases[-1].end, phases[-1].end)
    for phase in [*phases, tail]:
        here = n if phase.length is None else min(n, phase.length)
        start, end = (normal(shares) for shares in (phase.start, phase.end))
        rate = {
            edge: sum(share / float(sizes[name]) for name, share in shares.items())
            for edge, shares in (("start", start), ("end", end))
        }
        length = phase.length or max(here, 1)
        tokens = length / ((rate["start"] + rate["end"]) / 2)
        low, high = 0.0, tokens
        for _ in range(200):  # the token time at which `here` samples are given
            middle = (low + high) / 2
            given = middle * rate["start"] + (rate["end"] - rate["start"]) * middle**2 / (2 * tokens)
            low, high = (middle, high) if given < here else (low, middle)
        for name, size in sizes.items():
            change = end.get(name, 0) - start.get(name, 0)
            total[name] += (start.get(name, 0) * high + change * high**2 / (2 * tokens)) / float(size)
        n -= here
        if n == 0:
            break
    return total


def normal(shares):
    total = sum(shares.values())
    return {name: float(share / total) for name, share in shares.items()}


def shares_of(**shares):
    return {name: Fraction(str(share)) for name, share in shares.items()}


def token_shares(given, sizes):
    tokens = {name: count * sizes[name] for name, count in given.items()}
    return {name: float(count / sum(tokens.values())) for name, count in tokens.items()}


# ---------------------------------------------------------------- at every n


@settings(max_examples=40, deadline=None)
@given(mixtures(max_length=60), st.integers(0, 300))
def test_counts_grow_one_draw_at_a_time(made, first):
    mixture = Mixture(*made)
    before = mixture.counts(first)
    assert sum(before.values()) == first
    for n in range(first, first + 60):
        name, count = mixture.draw(n)
        after = mixture.counts(n + 1)
        assert count == before[name]
        assert after == {**before, name: count + 1}
        before = after


@settings(max_examples=40, deadline=None)
@given(mixtures(), st.integers(0, 5 * BLOCK))
def test_the_counts_of_the_schedule_are_those_of_the_definition_within_the_number_of_sources(made, n):
    phases, sizes, _, _ = made
    schedule = Schedule(phases, sizes)
    counts, exact = schedule.counts(n), exact_samples(phases, sizes, n)
    assert sum(counts) == n
    for name, count in zip(schedule.names, counts, strict=True):
        assert abs(count - exact[name]) <= len(sizes) * len(phases) + 1e-6


@settings(max_examples=40, deadline=None)
@given(mixtures(), st.integers(0, 5 * BLOCK), st.integers(0, 3 * BLOCK))
def test_many_draws_are_single_draws_and_find_is_their_inverse(made, first, number):
    mixture = Mixture(*made)
    source, count = mixture.draws(first, first + number)
    assert (source.dtype, count.dtype, len(source), len(count)) == (np.int16, np.int64, number, number)
    for place in {0, number // 2, number - 1} & set(range(number)):
        drawn = mixture.names[source[place]], int(count[place])
        assert mixture.draw(first + place) == drawn
        assert mixture.find(*drawn) == first + place


@settings(max_examples=25, deadline=None)
@given(mixtures())
def test_each_source_counts_from_0_and_leaves_none_out(made):
    mixture = Mixture(*made)
    source, count = mixture.draws(0, 2 * BLOCK + 17)
    for index, name in enumerate(mixture.names):
        own = np.sort(count[source == index])
        assert own.tolist() == list(range(mixture.counts(2 * BLOCK + 17)[name]))


@settings(max_examples=25, deadline=None)
@given(mixtures())
def test_the_order_in_a_block_is_another_one_but_its_quotas_are_the_same(made):
    phases, sizes, seed, _ = made
    shuffled, plain = Mixture(phases, sizes, seed, True), Mixture(phases, sizes, seed, False)
    size = block_size(Schedule(phases, sizes).spans[0])
    edge = min(size, phases[0].length or size)
    assert shuffled.counts(edge) == plain.counts(edge)
    source, _ = plain.draws(0, edge)
    assert (np.diff(source) >= 0).all()


@settings(max_examples=25, deadline=None)
@given(mixtures(), st.randoms())
def test_the_order_in_which_sources_are_named_does_not_matter(made, rng):
    phases, sizes, seed, shuffle = made
    names = list(sizes)
    rng.shuffle(names)
    other = Mixture(phases, {name: sizes[name] for name in names}, seed, shuffle)
    for one, two in zip(Mixture(phases, sizes, seed, shuffle).draws(0, 5000), other.draws(0, 5000), strict=True):
        assert (one == two).all()


# ---------------------------------------------------------------- shares


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=50), st.data())
def test_a_million_samples_have_the_asked_shares_of_tokens(weights, data):
    names = [f"s{number:02d}" for number in range(len(weights))]
    sizes = {name: data.draw(st.fractions(1000, 4096, max_denominator=10**7)) for name in names}
    mixture = Mixture.constant(dict(zip(names, weights, strict=True)), sizes, seed=1)
    realised = token_shares(mixture.counts(MANY), sizes)
    for name, weight in zip(names, weights, strict=True):
        assert abs(realised[name] - weight / sum(weights)) <= 0.0005  # a thousandth is promised


def test_shares_are_of_tokens_and_not_of_samples():
    sizes = {"full": Fraction(4096), "half": Fraction(2048), "thin": Fraction(64)}
    mixture = Mixture.constant({"full": 0.5, "half": 0.3, "thin": 0.2}, sizes, seed=0)
    given = mixture.counts(MANY)
    assert token_shares(given, sizes) == pytest.approx({"full": 0.5, "half": 0.3, "thin": 0.2}, abs=1e-4)
    assert given["thin"] > 10 * given["full"]


def test_a_share_of_a_millionth_comes_once_in_a_million():
    sizes = {"rare": Fraction(1), "rest": Fraction(1)}
    mixture = Mixture.constant({"rare": 1e-6, "rest": 1 - 1e-6}, sizes, seed=0)
    assert mixture.counts(10 * MANY)["rare"] == 10
    assert [mixture.counts(number * MANY)["rare"] for number in (0, 1, 2)] == [0, 1, 2]
    assert mixture.draw(mixture.find("rare", 7)) == ("rare", 7)


@settings(max_examples=15, deadline=None)
@given(mixtures(max_length=MANY))
def test_each_phase_has_its_mean_shares_at_its_edge(made):
    phases, sizes, _, _ = made
    mixture, n = Mixture(*made), 0
    for phase in phases:
        if phase.length is None:
            break
        before, after = mixture.counts(n), mixture.counts(n + phase.length)
        start, end = normal(phase.start), normal(phase.end)
        per_token = sum((start[name] + end[name]) / 2 / float(size) for name, size in sizes.items())
        for name, size in sizes.items():
            asked = (start[name] + end[name]) / 2 / float(size) / per_token * phase.length
            assert abs(after[name] - before[name] - asked) <= 2 * len(sizes) * len(phases)
        n += phase.length


def test_linear_shares_are_those_of_the_moment_along_the_way():
    sizes = {"old": Fraction(3000), "new": Fraction(1000)}
    blend = Phase(250 * BLOCK, shares_of(old=0.8, new=0.2), shares_of(old=0.5, new=0.5))
    mixture = Mixture([blend], sizes, seed=3)
    edges = [mixture.counts(n) for n in range(0, 251 * BLOCK, 5 * BLOCK)]
    windows = [{name: after[name] - before[name] for name in sizes} for before, after in itertools.pairwise(edges)]
    new = [token_shares(window, sizes)["new"] for window in windows]
    tokens = np.cumsum([0.0, *(float(sum(window[name] * sizes[name] for name in sizes)) for window in windows)])
    middles = (tokens[1:] + tokens[:-1]) / 2 / tokens[-1]
    assert new == pytest.approx((0.2 + 0.3 * middles).tolist(), abs=0.0002)


@pytest.mark.parametrize(("length", "tolerance"), [(640, 0.1), (3200, 0.04), (10_000, 0.02), (100_000, 0.01)])
def test_linear_shares_change_inside_a_stage_however_short_it_is(length, tolerance):
    """Blocks mix what is in them, so a short stage of one block would have the same shares all along."""
    sizes = {"old": Fraction(1), "new": Fraction(1)}
    mixture = Mixture([Phase(length, shares_of(old=0.8, new=0.2), shares_of(old=0.5, new=0.5))], sizes, seed=3)
    source, _ = mixture.draws(0, length)
    old = [float((part == mixture.names.index("old")).mean()) for part in np.array_split(source, 10)]
    assert old == pytest.approx([0.8 - 0.3 * (tenth + 0.5) / 10 for tenth in range(10)], abs=tolerance)


def test_blocks_are_smaller_where_shares_change_in_a_short_stage():
    sizes = {"a": Fraction(1), "b": Fraction(1)}
    half, most = shares_of(a=0.5, b=0.5), shares_of(a=0.9, b=0.1)
    phases = [Phase(length, half, most) for length in (1, 1023, 1024, 6400, 262_144, 10**9)]
    spans = Schedule([*phases, Phase(6400, half, half), Phase(None, half, half)], sizes).spans
    assert [block_size(span) for span in spans] == [16, 16, 16, 64, BLOCK, BLOCK, BLOCK, BLOCK]


@settings(max_examples=40, deadline=None)
@given(mixtures(max_length=200))
def test_a_source_without_a_share_gives_nothing_in_that_phase(made):
    phases, _, _, _ = made
    mixture, n = Mixture(*made), 0
    for phase in phases:
        end = n + (phase.length or 500)
        for name in mixture.names:
            if phase.start.get(name, 0) == 0 == phase.end.get(name, 0):
                assert mixture.counts(end)[name] == mixture.counts(n)[name]
        n = end


def test_stages_shorter_than_a_block_change_at_their_very_edges():
    sizes = {"a": Fraction(10), "b": Fraction(7)}
    only = [shares_of(a=1), shares_of(b=1)]
    mixture = Mixture([Phase(3, only[0], only[0]), Phase(2, only[1], only[1]), Phase(None, only[0], only[0])], sizes, 0)
    assert [mixture.draw(n) for n in range(7)] == [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1), ("a", 3), ("a", 4)]
    assert mixture.find("a", 3) == 5
    with pytest.raises(LookupError, match="source b never gives sample 2"):
        mixture.find("b", 2)


def test_the_last_phase_goes_on_with_its_end():
    sizes = {"a": Fraction(5), "b": Fraction(5)}
    mixture = Mixture([Phase(1000, shares_of(a=1), shares_of(a=0.5, b=0.5))], sizes, seed=0)
    before, after = mixture.counts(1000), mixture.counts(1000 + 250 * BLOCK)
    assert after["a"] - before["a"] == pytest.approx(125 * BLOCK, abs=1)


def test_without_an_end_blocks_go_on_as_if_there_were_no_edge():
    """A run of a constant mix may be made longer: its last step must not have cut a block."""
    spans = (StageSpan("all", 1, 11, shares_of(a=0.3, b=0.7), shares_of(a=0.3, b=0.7), 1.0, 1.0),)
    (phase,) = phases_of(spans, 100)
    assert phase.length is None


def test_a_stage_of_no_step_is_no_phase():
    half = shares_of(a=0.5, b=0.5)
    blend = StageSpan("blend", 5, 15, shares_of(a=1), half, 1.0, 1.0)
    spans = (StageSpan("main", 1, 5, half, half, 1.0, 1.0), StageSpan("none", 5, 5, half, half, 1.0, 1.0), blend)
    assert [phase.length for phase in phases_of(spans, 8)] == [32, 80]
    assert [phase.length for phase in phases_of((*spans[:2], replace(blend, end_step=5)), 8)] == [None]
    assert phases_of((replace(blend, end_step=5),), 8) == []


# ---------------------------------------------------------------- far ahead


def test_a_billion_samples_ahead_nothing_is_replayed():
    names = [f"s{number}" for number in range(50)]
    sizes = {name: Fraction(10**9 + number, 999_983) for number, name in enumerate(names)}
    weights = {name: 1.0 + number for number, name in enumerate(names)}
    mixture = Mixture.constant(weights, sizes, seed=0)
    started = time.monotonic()
    counts = mixture.counts(10**9 + 1234)
    drawn = mixture.draw(10**9 + 1234)
    assert mixture.find(*drawn) == 10**9 + 1234
    assert time.monotonic() - started < 0.5
    assert sum(counts.values()) == 10**9 + 1234
    assert counts[drawn[0]] == drawn[1]
    assert token_shares(counts, sizes) == pytest.approx(
        {name: weight / sum(weights.values()) for name, weight in weights.items()}, abs=1e-7
    )


def test_a_million_draws_take_little_time():
    mixture = Mixture.constant({"a": 0.5, "b": 0.3, "c": 0.2}, {name: Fraction(1000) for name in "abc"}, seed=0)
    started = time.monotonic()
    source, _ = mixture.draws(0, MANY)
    assert time.monotonic() - started < 5
    assert np.bincount(source).tolist() == list(mixture.counts(MANY).values())


# ---------------------------------------------------------------- faults

ONE = shares_of(a=1)


@pytest.mark.parametrize(
    ("phases", "sizes", "match"),
    [
        ([], {"a": Fraction(1)}, "at least one source and one phase"),
        ([Phase(None, ONE, ONE)], {}, "at least one source and one phase"),
        ([Phase(None, ONE, ONE)], {"a": Fraction(0)}, "source a hold no token"),
        ([Phase(0, ONE, ONE)], {"a": Fraction(1)}, "a phase of 0 samples"),
        ([Phase(None, ONE, ONE), Phase(5, ONE, ONE)], {"a": Fraction(1)}, "only the last phase"),
        ([Phase(None, shares_of(b=1), ONE), Phase(5, ONE, ONE)], {"a": Fraction(1)}, "only the last"),
        ([Phase(9, shares_of(b=1), ONE)], {"a": Fraction(1)}, r"unknown sources \['b'\]; legal: \['a'\]"),
        ([Phase(9, shares_of(a=0), ONE)], {"a": Fraction(1)}, "one has to be above"),
        ([Phase(9, shares_of(a=-1), ONE)], {"a": Fraction(1)}, "none may be below 0"),
    ],
)
def test_what_is_no_schedule_is_refused(phases, sizes, match):
    with pytest.raises(UserError, match=match):
        Mixture(phases, sizes, seed=0)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_a_weight_has_to_be_above_0(weight):
    with pytest.raises(UserError, match="the weight of source a"):
        Mixture.constant({"a": weight}, {"a": Fraction(1)}, seed=0)


def test_draws_count_from_0():
    mixture = Mixture.constant({"a": 1.0}, {"a": Fraction(1)}, seed=0)
    for wrong in (lambda: mixture.draw(-1), lambda: mixture.counts(-1), lambda: mixture.draws(-1, 3)):
        with pytest.raises(IndexError, match="count from 0"):
            wrong()
    with pytest.raises(LookupError, match="no draw is sample 0 of source b; sources are a"):
        mixture.find("b", 0)
    with pytest.raises(LookupError):
        mixture.find("a", -1)
