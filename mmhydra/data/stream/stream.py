"""The global stream of samples: sample n is a pure function of (data, mixture, seed, n).

There is no state but n, so resuming is starting at n, and every number of data-parallel ranks sees the same
global batches.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmhydra.data.packing.sequences import Batch, Sample, Sequences, stack
from mmhydra.data.stream.mixture import BLOCK, Mixture
from mmhydra.data.stream.permutation import derive_key, permute
from mmhydra.errors import UserError

__all__ = ["SampleRef", "Stream", "batch_slice", "permute"]


class SampleRef(NamedTuple):
    """Where a sample lies: sequence `sequence` of `source`, in that source's pass number `epoch` (from 0)."""

    source: str
    epoch: int
    sequence: int


class Stream:
    """Samples without end from weighted sources.

    `sources`: (name, sequences, weight) each; all sequences have one length, so weights are shares of samples
    and of tokens alike. In each epoch of a source every sequence of it comes exactly once, in an order keyed
    by (seed, name, epoch). With `shuffle=False` sequences come in order (with several sources: block by
    block, one after the other).

    Raises UserError for a wrong weight, a name given twice, or sequences of several lengths.
    """

    def __init__(self, sources: Sequence[tuple[str, Sequences, float]], seed: int, shuffle: bool = True) -> None:
        self._sequences = {name: sequences for name, sequences, _ in sources}
        if len(self._sequences) < len(sources):
            raise UserError(f"a source is named twice: {', '.join(sorted(name for name, _, _ in sources))}")
        lengths = {name: sequences.seq_len for name, sequences in self._sequences.items()}
        if len(set(lengths.values())) > 1:
            raise UserError(f"all sources of a stream need one seq_len, not {lengths}")
        self.mixture = Mixture({name: weight for name, _, weight in sources}, seed, shuffle)
        self.seq_len = next(iter(lengths.values()))
        self._seed, self._shuffle = seed, shuffle

    def locate(self, n: int) -> SampleRef:
        """Which sequence sample `n` is. Raises IndexError if n < 0."""
        name, count = self.mixture.draw(n)
        size = len(self._sequences[name])
        epoch, sequence = divmod(count, size)
        if self._shuffle:
            sequence = permute(sequence, size, derive_key(self._seed, "source", name, epoch))
        return SampleRef(name, epoch, sequence)

    def sample(self, n: int) -> Sample:
        """Sample `n`. Raises IndexError if n < 0."""
        ref = self.locate(n)
        return self._sequences[ref.source][ref.sequence]

    def counts(self, n: int) -> dict[str, int]:
        """How many of the first `n` samples each source has given; O(block), however large `n` is."""
        blocks, rest = divmod(n, BLOCK)
        totals = self.mixture.counts(blocks)
        for draw in range(n - rest, n):
            totals[self.mixture.draw(draw)[0]] += 1
        return totals

    def samples(self, indices: NDArray[np.int64]) -> Batch:
        """Several samples, in this order."""
        return stack([self.sample(n) for n in indices.tolist()])


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
