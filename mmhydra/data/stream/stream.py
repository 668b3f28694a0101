"""The global stream of samples: which sequence sample n is, a pure function of (data, mixture, seed, n).

There is no state but n, so resuming is starting at n, and every number of data-parallel ranks sees the same
global batches.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from mmhydra.data.packing.pack import Pack
from mmhydra.data.stream.mixture import BLOCK, Mixture
from mmhydra.data.stream.order import SourceOrder
from mmhydra.errors import UserError

_RUN = 1024  # samples that are located together and kept, for those who ask for few at a time
_KEPT = 16  # runs
_SCANNED = 16 * BLOCK  # draws that are looked through at a time


class PackedSource(Protocol):
    """Sequences of one length with their pack index."""

    seq_len: int
    pack: Pack


class StreamSource(NamedTuple):
    """A source of a stream, by its name in the mixture."""

    name: str
    sequences: PackedSource


class SampleRef(NamedTuple):
    """Where a sample lies: sequence `sequence` of `source`, in that source's pass number `epoch` (from 0)."""

    source: str
    epoch: int
    sequence: int


class Located(NamedTuple):
    """Where consecutive samples lie. `source` int16 [N] counts in `Stream.names`; `epoch`, `sequence` int64 [N]."""

    source: NDArray[np.int16]
    epoch: NDArray[np.int64]
    sequence: NDArray[np.int64]


class Stream:
    """Samples without end: the mixture says from which source each comes, the source's order which sequence it is.

    In each epoch of a source every sequence of it comes exactly once, its chunk groups in an order of that epoch and
    mixed within windows of `window_chunks` groups (order.py). With `shuffle=False` sequences come in order. Safe for
    threads.

    Raises UserError for a source that is named twice or not in the mixture, for one of the mixture that is not there,
    and for sequences of several lengths.
    """

    def __init__(
        self, sources: Sequence[StreamSource], mixture: Mixture, seed: int, shuffle: bool, window_chunks: int
    ) -> None:
        named = sorted(source.name for source in sources)
        if len(set(named)) < len(named):
            raise UserError(f"a source is named twice: {', '.join(named)}")
        if named != sorted(mixture.names):
            raise UserError(f"the mixture is of {', '.join(mixture.names)}, the sources are {', '.join(named)}")
        lengths = {source.name: source.sequences.seq_len for source in sources}
        if len(set(lengths.values())) > 1:
            raise UserError(f"all sources of a stream need one seq_len, not {lengths}")
        self.mixture, self.names = mixture, mixture.names
        self.seq_len = lengths[named[0]]
        # Nothing of a source's order is computed before a sample of it is asked for.
        self.orders: Mapping[str, SourceOrder] = {
            source.name: SourceOrder(source.sequences.pack, seed, source.name, window_chunks, shuffle)
            for source in sources
        }
        # A function of its own, not a method: the cache is this stream's and goes with it.
        self._run = lru_cache(_KEPT)(lambda number: self._locate(number * _RUN, (number + 1) * _RUN))

    def locate(self, n: int) -> SampleRef:
        """Which sequence sample `n` is. Raises IndexError if n < 0."""
        source, epoch, sequence = self.locate_many(n, n + 1)
        return SampleRef(self.names[source[0]], int(epoch[0]), int(sequence[0]))

    def locate_many(self, first: int, last: int) -> Located:
        """Which sequences the samples [first, last) are; read-only. Raises IndexError if first < 0."""
        if first < 0:
            raise IndexError(f"samples count from 0, not {first}")
        if last - first > _RUN:
            return self._locate(first, last)
        parts = []
        for number in range(first // _RUN, -(-last // _RUN)):
            begin = number * _RUN
            low, high = max(first - begin, 0), min(last - begin, _RUN)
            source, epoch, sequence = self._run(number)
            parts.append(Located(source[low:high], epoch[low:high], sequence[low:high]))
        if len(parts) == 1:
            return parts[0]
        sources, epochs, sequences = zip(_NOTHING, *parts, strict=True)
        return Located(np.concatenate(sources), np.concatenate(epochs), np.concatenate(sequences))

    def counts(self, n: int) -> dict[str, int]:
        """How many of the first `n` samples are from each source, without a replay, however large `n` is.

        They are the first so many draws of the source's order.
        """
        return self.mixture.counts(n)

    def drawn(self, source: str, sequences: NDArray[np.int64], n: int) -> NDArray[np.int64]:
        """How often each of some sequences of a source is among the first `n` samples, int64 of the same shape."""
        return self.orders[source].drawn(sequences, self.counts(n)[source])

    def visits(self, source: str, sequence: int, first: int, last: int) -> list[int]:
        """All n in [first, last) that are one sequence of a source, rising: at most one in each of its epochs.

        Raises IndexError for a sequence that the source does not have.
        """
        order = self.orders[source]
        if not 0 <= sequence < order.size:
            raise IndexError(f"sequence {sequence} of source {source}, which has {order.size}")
        if last <= first:
            return []
        low, high = self.counts(first)[source], self.counts(last)[source]
        counts = order.draws_of(sequence, low, high)
        if last - first > len(counts) * BLOCK:
            return [self.mixture.find(source, count) for count in counts.tolist()]
        # A small source comes round many times: going through all draws is quicker than a search for each visit.
        found = []
        for begin in range(first, last, _SCANNED):
            sources, numbers = self.mixture.draws(begin, min(begin + _SCANNED, last))
            is_visit = (sources == self.names.index(source)) & np.isin(numbers, counts)
            found += (begin + np.flatnonzero(is_visit)).tolist()
        return found

    def _locate(self, first: int, last: int) -> Located:
        source, count = self.mixture.draws(first, last)
        epoch, sequence = np.empty_like(count), np.empty_like(count)
        for number, name in enumerate(self.names):
            mine = np.flatnonzero(source == number)
            if len(mine):
                epoch[mine], sequence[mine] = self.orders[name].locate(count[mine])
        for column in (located := Located(source, epoch, sequence)):
            column.flags.writeable = False  # they may be kept for others
        return located


_NOTHING = Located(np.zeros(0, np.int16), np.zeros(0, np.int64), np.zeros(0, np.int64))


def batch_slice(
    sample: int, global_batch_size: int, dp_degree: int, dp_rank: int, per_yield: int
) -> tuple[NDArray[np.int64], int]:
    """The global sample numbers that rank `dp_rank` yields next, int64 [per_yield], and the next global
    sample.

    Step s is the samples [s * G, s * G + G), G the global batch size. Each of D ranks takes one run of G / D
    of them and gives it out in yields of `per_yield`. `sample` counts what all ranks together have yielded.

    Raises UserError when G is not a multiple of D * per_yield, or `sample` is not at the edge of a yield.
    """
    together = dp_degree * per_yield
    if dp_degree < 1 or per_yield < 1 or global_batch_size < 1 or global_batch_size % together:
        raise UserError(
            f"global_batch_size = {global_batch_size} must be a multiple of dp x sequences per yield = "
            f"{dp_degree} x {per_yield}, all at least 1"
        )
    if not 0 <= dp_rank < dp_degree:
        raise UserError(f"data-parallel rank {dp_rank} is not in [0, {dp_degree})")
    if sample < 0 or sample % together:
        raise UserError(
            f"sample {sample} is not a multiple of {dp_degree} x {per_yield}: with these ranks the stream "
            f"cannot start there; start at a step, a multiple of global_batch_size = {global_batch_size}"
        )
    step, inside = divmod(sample, global_batch_size)
    first = step * global_batch_size + dp_rank * (global_batch_size // dp_degree) + inside // together * per_yield
    return np.arange(first, first + per_yield, dtype=np.int64), sample + together
