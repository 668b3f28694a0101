"""How many samples each source has given after n draws, for shares of tokens that may change along the way.

Token time is the number of tokens of all sources together. A source whose share is a(t) has given the integral of a
over t; divided by its tokens a sample, that is the number E of samples it should have given. Its sample m is due when
E reaches m + 1/2, and the draws of the stream are the due times of all sources merged, ties by the order of the
sources. So the counts grow one draw at a time and stay near the exact shares; they follow from n alone, by bisection,
however large n is.

All of it is integer arithmetic: E is kept in units of 2^-96 samples, and time in ticks, at least 2^20 of them a sample.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from mmhydra.config.stages import StageSpan
from mmhydra.errors import UserError

_GRID = 96  # bits behind the point of a number of samples
_TICKS = 20  # bits of the number of ticks a sample, at least
_OPEN = 1 << 30  # samples in which the rates of a phase without end are expressed


@dataclass(frozen=True)
class Phase:
    """A stretch of the stream: `length` samples, or None for one without end.

    `start` and `end` are the shares of tokens by source at its edges, in between they change linearly with the tokens.
    Only their proportions count. A source that is absent has a share of 0.
    """

    length: int | None
    start: Mapping[str, Fraction]
    end: Mapping[str, Fraction]


def phases_of(spans: Sequence[StageSpan], global_batch_size: int) -> list[Phase]:
    """The phases of a run's stages, those without a step left out.

    A last one whose shares don't change has no end: a longer run only goes on.
    """
    phases = [Phase(span.num_steps * global_batch_size, span.start, span.end) for span in spans if span.num_steps]
    if phases and phases[-1].start == phases[-1].end:
        phases[-1] = replace(phases[-1], length=None)
    return phases


class Schedule:
    """The counts of all sources at every n, for phases one after the other.

    `tokens_per_sample`: mean filled tokens of a sample by source, above 0; its keys are all sources there are. After
    the last phase its end shares go on for ever. `names` are sorted, and every list of counts is in their order.

    Raises UserError for phases that are empty, name unknown sources, or have no positive share at an edge.
    """

    def __init__(self, phases: Sequence[Phase], tokens_per_sample: Mapping[str, Fraction]) -> None:
        self.names = tuple(sorted(tokens_per_sample))
        if not phases or not self.names:
            raise UserError("a mixture needs at least one source and one phase")
        for name, tokens in tokens_per_sample.items():
            if tokens <= 0:
                raise UserError(f"the samples of source {name} hold no token; leave it out, or use more data")
        sizes = [tokens_per_sample[name] for name in self.names]
        self.spans: list[Span] = []
        exact, counts, begin = [0] * len(sizes), [0] * len(sizes), 0
        for number, phase in enumerate(_without_end(phases)):
            span = Span(phase, number, self.names, sizes, exact, counts, begin)
            self.spans.append(span)
            exact, counts, begin = span.exact_after, span.high, begin + (phase.length or 0)

    def span(self, n: int) -> "Span":
        """The phase of draw `n`."""
        return next(span for span in reversed(self.spans) if n >= span.begin)

    def counts(self, n: int) -> list[int]:
        """How many of the first `n` draws, in the order in which they are due, each source has given."""
        if n < 0:
            raise IndexError(f"samples count from 0, not {n}")
        return self.span(n).counts(n)

    def position(self, source: int, count: int) -> int:
        """The n of the draw `count` of a source in that order. Raises LookupError if the source never gives it."""
        for span in self.spans:
            if span.gives(source, count):
                return span.position(source, count)
        raise LookupError(f"source {self.names[source]} never gives sample {count}")


def _without_end(phases: Sequence[Phase]) -> list[Phase]:
    """The phases, the last of which has no end."""
    *firsts, last = phases
    for phase in phases:
        if phase.length is not None and phase.length < 1:
            raise UserError(f"a phase of {phase.length} samples; each needs at least one")
    if any(phase.length is None for phase in firsts):
        raise UserError("only the last phase may have no end")
    if last.length is None:
        return [*firsts, Phase(None, last.end, last.end)]
    return [*phases, Phase(None, last.end, last.end)]


class Span:
    """One phase: draws from `begin` on, and what each source has given, by the tick.

    E at tick u is `exact` + first * u / U + (last - first) / 2 * (u / U)^2, with U ticks in the phase and the rates
    first and last in samples a phase.
    """

    def __init__(
        self,
        phase: Phase,
        number: int,
        names: Sequence[str],
        sizes: Sequence[Fraction],
        exact: Sequence[int],
        low: Sequence[int],
        begin: int,
    ) -> None:
        self.number, self.begin, self.length, self.low = number, begin, phase.length, list(low)
        samples = phase.length or _OPEN
        first, last = _rates(phase, names, sizes, samples)
        self.changes = _shares(phase.start, names) != _shares(phase.end, names)
        self.exact_after = [before + (one + other) // 2 for before, one, other in zip(exact, first, last, strict=True)]
        is_idle = [one == 0 and other == 0 for one, other in zip(first, last, strict=True)]
        # What a source may have given by the end; one without a share in this phase gives nothing at all.
        self.high = self.low if phase.length is None else _settled(self.low, self.exact_after, is_idle, samples)
        bits = (samples - 1).bit_length() + _TICKS
        self.num_ticks = 1 << bits
        self._shift = 2 * bits + 1 + _GRID
        self._terms = [
            (((2 * before + (1 << _GRID)) << (2 * bits)), one << (bits + 1), other - one)
            for before, one, other in zip(exact, first, last, strict=True)
        ]
        self._is_idle = is_idle

    def at(self, tick: int) -> list[int]:
        """What each source has given once a tick is over; -1 is the begin of the phase, `num_ticks` + 1 its end."""
        if tick < 0:
            return self.low
        if self.length is not None and tick > self.num_ticks:
            return self.high
        return [self._one(source, tick) for source in range(len(self.low))]

    def _one(self, source: int, tick: int) -> int:
        low = self.low[source]
        if self._is_idle[source]:
            return low
        constant, linear, square = self._terms[source]
        due = max(low, (constant + (linear + square * tick) * tick) >> self._shift)
        return due if self.length is None else min(due, self.high[source])

    def gives(self, source: int, count: int) -> bool:
        """Whether a source gives its draw `count` in this phase."""
        if count < self.low[source] or self._is_idle[source]:
            return False
        return self.length is None or count < self.high[source]

    def counts(self, n: int) -> list[int]:
        """What each source has given among the first `n` draws of the stream; `n` is in this phase or at its end."""
        if n == self.begin:
            return list(self.low)
        tick = self._bisect(lambda tick: sum(self.at(tick)) >= n)
        before, after = self.at(tick - 1), self.at(tick)
        missing = n - sum(before)
        counts = []
        for was, is_now in zip(before, after, strict=True):
            taken = min(missing, is_now - was)
            counts.append(was + taken)
            missing -= taken
        return counts

    def position(self, source: int, count: int) -> int:
        """The n of the draw `count` of a source, which is in this phase."""
        tick = self._bisect(lambda tick: self.at(tick)[source] > count)
        before, after = self.at(tick - 1), self.at(tick)
        earlier = sum(is_now - was for was, is_now in zip(before[:source], after[:source], strict=True))
        return sum(before) + earlier + count - before[source]

    def _bisect(self, is_reached: Callable[[int], bool]) -> int:
        """The first tick at which something that stays true is true."""
        high = self.num_ticks + 1
        while self.length is None and not is_reached(high):
            high *= 2
        low = -1
        while high - low > 1:
            middle = (low + high) // 2
            if is_reached(middle):
                high = middle
            else:
                low = middle
        return high


def _rates(phase: Phase, names: Sequence[str], sizes: Sequence[Fraction], samples: int) -> tuple[list[int], list[int]]:
    """Samples a phase of each source at its edges, in the units of E, so that together they make `samples`."""
    start, end = _shares(phase.start, names), _shares(phase.end, names)
    per_token = sum(((one + other) / 2 / size for one, other, size in zip(start, end, sizes, strict=True)), Fraction(0))
    tokens = samples / per_token  # of the whole phase
    half = 1 << (_GRID - 1)
    first, last = (
        [2 * round(tokens * share / size * half) for share, size in zip(shares, sizes, strict=True)]
        for shares in (start, end)
    )
    # Rounding leaves some 2^-96 of a sample, which goes to the source that has most.
    rest = 2 * (samples << _GRID) - sum(first) - sum(last)
    index = max(range(len(names)), key=lambda source: (first[source] + last[source], source))
    most = first if first[index] > last[index] else last
    most[index] += rest
    return first, last


def _shares(shares: Mapping[str, Fraction], names: Sequence[str]) -> list[Fraction]:
    unknown = sorted(set(shares) - set(names))
    if unknown:
        raise UserError(f"a phase names unknown sources {unknown}; legal: {list(names)}")
    found = [Fraction(shares.get(name, 0)) for name in names]
    total = sum(found, Fraction(0))
    if total <= 0 or min(found) < 0:
        raise UserError(f"the shares of a phase are {dict(shares)}; none may be below 0, and one has to be above")
    return [share / total for share in found]


def _settled(low: Sequence[int], exact: Sequence[int], is_idle: Sequence[bool], samples: int) -> list[int]:
    """Whole counts at the end of a phase, as near to the exact ones as they can be, `samples` more than at its begin.

    A source that is idle keeps its count, and none gets a smaller one.
    """
    active = [source for source, idle in enumerate(is_idle) if not idle]
    high = list(low)
    for source in active:
        high[source] = max(low[source], exact[source] >> _GRID)
    missing = sum(low) + samples - sum(high)
    short = [exact[source] - (count << _GRID) for source, count in enumerate(high)]  # of the exact one
    for _ in range(abs(missing)):
        if missing > 0:
            source, step = max(active, key=lambda source: (short[source], -source)), 1
        else:
            lowerable = [source for source in active if high[source] > low[source]]
            source, step = min(lowerable, key=lambda source: (short[source], source)), -1
        high[source] += step
        short[source] -= step << _GRID
    return high
