"""Packs without shards: chunk groups of given sizes, and tokens by modality drawn at random."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mmhydra.config.tokens import MODALITIES
from mmhydra.data.packing.pack import Pack


class FakeSource(NamedTuple):
    """As much of packed sequences as a stream needs."""

    seq_len: int
    pack: Pack

    def __len__(self) -> int:
        return self.pack.num_sequences


def fake_source(group_sizes: Sequence[int], seq_len: int = 16, seed: int = 0) -> FakeSource:
    """`group_sizes[g]` sequences begin in chunk g; each has at least one token and fills `seq_len` at most."""
    draw = np.random.default_rng(seed)
    size = int(np.sum(group_sizes))
    filled = draw.integers(1, seq_len + 1, size)
    cuts = np.sort(draw.integers(0, filled[:, None] + 1, (size, len(MODALITIES) - 1)), axis=1)
    counts = np.diff(cuts, axis=1, prepend=0, append=filled[:, None]).astype(np.uint16)
    groups = np.concatenate([[0], np.cumsum(group_sizes)])
    totals = np.add.reduceat(counts, groups[:-1], axis=0, dtype=np.int64)
    pieces = np.zeros((size, 4), np.int64)
    return FakeSource(seq_len, Pack(seq_len, pieces, np.arange(size + 1), groups, counts, totals))
