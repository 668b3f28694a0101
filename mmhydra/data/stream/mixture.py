"""Which source the n-th sample of the stream comes from: exact shares of tokens without replaying the stream."""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmhydra.data.stream.permutation import derive_key, permute
from mmhydra.data.stream.schedule import Phase, Schedule, Span
from mmhydra.errors import UserError

BLOCK = 4096  # draws whose quotas are settled together, at most
_LEAST_BLOCK = 16
_BLOCKS_OF_CHANGE = 64  # at least so many make a phase whose shares change: inside a block they are mixed, so constant
_KEPT = 32  # blocks in memory, 40 KB each: what several threads read ahead of a trainer


class _Block(NamedTuple):
    """The draws of one block in their order: index of the source, int16 [size], and number of the draw in it, int64."""

    begin: int
    before: NDArray[np.int64]  # counts at its begin, [num_sources]
    source: NDArray[np.int16]
    number: NDArray[np.int64]


class Mixture:
    """The order in which sources give the samples of a stream, for phases of shares of tokens (`schedule.Phase`).

    `tokens_per_sample`: mean filled tokens of a sample by source. Draws come in blocks of 4096, counted from the begin
    of each phase, and of fewer in a short phase whose shares change; the last block of a phase is shorter. Each
    source's quota of a block is what `schedule.Schedule` counts in it, so at the edges of blocks and of phases the
    counts are those of the exact shares, but for rounding.
    Inside a block sources are mixed by a permutation of (seed, phase, block), or without shuffle come one after the
    other; the counts of each rise by one with each of its draws.
    Sources are in the order of their names, so the order in a configuration does not matter.

    Several threads may read one mixture. Raises UserError for phases that are no schedule.
    """

    def __init__(
        self, phases: Sequence[Phase], tokens_per_sample: Mapping[str, Fraction], seed: int, shuffle: bool = True
    ) -> None:
        self._schedule = Schedule(phases, tokens_per_sample)
        self._seed, self._shuffle = seed, shuffle
        self._block = lru_cache(maxsize=_KEPT)(self._make_block)

    @classmethod
    def constant(
        cls, weights: Mapping[str, float], tokens_per_sample: Mapping[str, Fraction], seed: int, shuffle: bool = True
    ) -> "Mixture":
        """Shares that never change. Weights are taken as the decimal numbers they are written as.

        Raises UserError for a weight that is not above 0.
        """
        for name, weight in weights.items():
            if not math.isfinite(weight) or weight <= 0:
                raise UserError(
                    f"the weight of source {name} is {weight}: it must be above 0; leave unused sources out"
                )
        shares = {name: Fraction(str(weight)) for name, weight in weights.items()}
        return cls([Phase(None, shares, shares)], tokens_per_sample, seed, shuffle)

    @property
    def names(self) -> tuple[str, ...]:
        """The sources; `draws` gives their indices."""
        return self._schedule.names

    def counts(self, n: int) -> dict[str, int]:
        """How many of the draws 0 to n - 1 each source has given. Raises IndexError if n < 0."""
        if n < 0:
            raise IndexError(f"samples count from 0, not {n}")
        block = self._block_of(n)
        given = np.bincount(block.source[: n - block.begin], minlength=len(self.names))
        return dict(zip(self.names, (block.before + given).tolist(), strict=True))

    def draw(self, n: int) -> tuple[str, int]:
        """The source of sample `n` and the number of the draw within that source: (name, count).

        Over all n each source's counts are 0, 1, 2, ... in this order. Raises IndexError if n < 0.
        """
        if n < 0:
            raise IndexError(f"samples count from 0, not {n}")
        block = self._block_of(n)
        return self.names[block.source[n - block.begin]], int(block.number[n - block.begin])

    def draws(self, first: int, last: int) -> tuple[NDArray[np.int16], NDArray[np.int64]]:
        """The draws first to last - 1: indices into `names`, int16 [N], and counts, int64 [N].

        Raises IndexError if first < 0.
        """
        if first < 0:
            raise IndexError(f"samples count from 0, not {first}")
        parts = []
        n = first
        while n < last:
            block = self._block_of(n)
            inside = slice(n - block.begin, min(last - block.begin, len(block.source)))
            parts.append((block.source[inside], block.number[inside]))
            n = block.begin + inside.stop
        if not parts:
            return np.empty(0, np.int16), np.empty(0, np.int64)
        return np.concatenate([source for source, _ in parts]), np.concatenate([count for _, count in parts])

    def find(self, name: str, count: int) -> int:
        """The n whose draw is (name, count). Raises LookupError for what no draw gives."""
        if name not in self.names or count < 0:
            raise LookupError(f"no draw is sample {count} of source {name}; sources are {', '.join(self.names)}")
        source = self.names.index(name)
        block = self._block_of(self._schedule.position(source, count))
        (place,) = np.flatnonzero((block.source == source) & (block.number == count))
        return block.begin + int(place)

    def _block_of(self, n: int) -> _Block:
        span = self._schedule.span(n)
        return self._block(span.number, (n - span.begin) // block_size(span))

    def _make_block(self, phase: int, number: int) -> _Block:
        span = self._schedule.spans[phase]
        size = block_size(span)
        begin = span.begin + number * size
        if span.length is not None:
            size = min(size, span.begin + span.length - begin)
        before, after = (np.array(span.counts(n), np.int64) for n in (begin, begin + size))
        quotas = after - before
        source = np.repeat(np.arange(len(quotas), dtype=np.int16), quotas)
        drawn = np.arange(size) + np.repeat(before - (np.cumsum(quotas) - quotas), quotas)
        if self._shuffle:
            source = source[permute(np.arange(size), size, derive_key(self._seed, "block", phase, number))]
            # Sources are mixed, the draws of each keep their order: so it works on one window of its chunks at a time,
            # and its first draws are those that the first samples took.
            rising = drawn
            drawn = np.empty_like(rising)
            drawn[np.argsort(source, kind="stable")] = rising
        return _Block(begin, before, source, drawn)


def block_size(span: Span) -> int:
    """Draws of a phase's blocks: a power of two that follows from the phase alone."""
    if span.length is None or not span.changes:
        return BLOCK
    return min(BLOCK, max(_LEAST_BLOCK, 1 << (span.length // _BLOCKS_OF_CHANGE).bit_length() >> 1))
