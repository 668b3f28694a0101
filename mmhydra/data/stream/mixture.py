"""Which source the n-th sample of the stream comes from: exact proportions without replaying the stream."""

import math
from collections.abc import Mapping
from fractions import Fraction

from mmhydra.data.stream.permutation import derive_key, permute
from mmhydra.errors import UserError

BLOCK = 4096  # draws whose quotas are settled together


class Mixture:
    """Shares of a stream's samples. `weights`: source name to a number above 0; only their proportions
    matter.

    After any number N of whole blocks, the draws of source i are the difference of two rounded cumulative
    shares of N, so within one sample of its exact share. Weights are taken as the decimal numbers they are
    written as, in exact arithmetic. Sources are put in the order of their names, so the order in a
    configuration does not matter.

    Raises UserError for a weight that is not above 0, or below one sample a block (a share of 1/4096):
    rounding would then ask for a negative number of samples in some blocks.
    """

    def __init__(self, weights: Mapping[str, float], seed: int, shuffle: bool = True) -> None:
        if not weights:
            raise UserError("a mixture needs at least one source")
        for name, weight in weights.items():
            if not math.isfinite(weight) or weight <= 0:
                raise UserError(
                    f"the weight of source {name} is {weight}: it must be above 0; leave unused sources out"
                )
        self.names = tuple(sorted(weights))
        exact = [Fraction(str(weights[name])) for name in self.names]
        scale = math.lcm(*(weight.denominator for weight in exact))
        units = [int(weight * scale) for weight in exact]
        self._total = sum(units)
        for name, unit in zip(self.names, units, strict=True):
            if unit * BLOCK < self._total:
                least = 1.01 * math.fsum(weights.values()) / BLOCK  # its own rise adds to the sum
                raise UserError(
                    f"source {name} has {unit / self._total:.2g} of the weight, less than one in {BLOCK}; "
                    f"give it at least {least:.3g} or leave it out"
                )
        self._upto = [sum(units[: number + 1]) for number in range(len(units))]
        self._seed, self._shuffle = seed, shuffle

    def draw(self, n: int) -> tuple[str, int]:
        """The source of sample `n` and the number of the draw within that source: (name, count), O(sources).

        Over all n each source's counts are 0, 1, 2, ... each exactly once, block by block. Inside a block the
        order is a permutation by (seed, block), or without shuffle one source after the other. Raises
        IndexError if n < 0.
        """
        if n < 0:
            raise IndexError(f"samples count from 0, not {n}")
        block, place = divmod(n, BLOCK)
        if self._shuffle:
            place = permute(place, BLOCK, derive_key(self._seed, "block", block))
        # Source i owns the places from its lower to its upper edge; neighbours share an edge.
        before_low = after_low = 0
        for name, upto in zip(self.names, self._upto, strict=True):
            before, after = self._edge(block * BLOCK, upto), self._edge((block + 1) * BLOCK, upto)
            if place < after - before:
                return name, (before - before_low) + place - (after_low - before_low)
            before_low, after_low = before, after
        raise AssertionError("the last source's edge is the block's")

    def counts(self, num_blocks: int) -> dict[str, int]:
        """How many samples each source has given after `num_blocks` whole blocks."""
        edges = [0, *(self._edge(num_blocks * BLOCK, upto) for upto in self._upto)]
        return {name: high - low for name, low, high in zip(self.names, edges, edges[1:], strict=False)}

    def _edge(self, draws: int, upto: int) -> int:
        """`draws` * `upto` / total, rounded half up."""
        return (2 * draws * upto + self._total) // (2 * self._total)
