"""Packed sequences as samples to train on.

Shape suffixes: B sequences, L positions.
"""

from collections.abc import Iterable
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from mmhydra.data.packing.pack import DOCUMENT, LENGTH, OFFSET, OPENER, Pack
from mmhydra.data.shards.document import NO_OPENER
from mmhydra.data.shards.reader import TokenShards

IGNORE_INDEX = -100  # torch's cross_entropy leaves such labels out


class Sample(NamedTuple):
    """Ids, the id that follows each, and its position in its piece; int64 [L] each.

    A label is IGNORE_INDEX where the id that follows carries no loss, and where there is padding. Positions count from
    0 in each piece and in the padding: attention masks are made from these restarts, so that pieces do not see each
    other.
    """

    input_L: NDArray[np.int64]
    labels_L: NDArray[np.int64]
    positions_L: NDArray[np.int64]


class Batch(NamedTuple):
    """Samples as the rows of arrays, int64 [B, L] each."""

    input_BL: NDArray[np.int64]
    labels_BL: NDArray[np.int64]
    positions_BL: NDArray[np.int64]


def stack(samples: Iterable[Sample]) -> Batch:
    """One row for each sample; there is at least one."""
    return Batch(*(np.stack(rows) for rows in zip(*samples, strict=True)))


class PieceRef(NamedTuple):
    """A piece of a sequence, and where it comes from; the fields as in packing.py."""

    shard: str
    key: str
    document: int
    offset: int
    length: int
    opener: int


class Sequences(Protocol):
    """What a stream draws samples from: all of one length."""

    seq_len: int

    def __len__(self) -> int: ...

    def __getitem__(self, k: int) -> Sample: ...


class PackedSequences:
    """The sequences of a pack index, by number. `eod_id` is the input where there is padding."""

    def __init__(self, shards: TokenShards, pack: Pack, eod_id: int) -> None:
        self.shards, self.pack, self.seq_len, self._eod_id = shards, pack, pack.seq_len, eod_id

    def __len__(self) -> int:
        return self.pack.num_sequences

    def __getitem__(self, k: int) -> Sample:
        """Sequence `k`. Raises IndexError outside of [0, len), and ShardError where its bytes are damaged."""
        pieces = self._pieces(k)
        lengths, openers = pieces[:, LENGTH], pieces[:, OPENER]
        opened = openers > NO_OPENER
        # One id more than a piece has inputs: its last label.
        ids, loss = self.shards.read(pieces[:, DOCUMENT], pieces[:, OFFSET], lengths + 1)
        needs = lengths + opened
        starts = np.cumsum(needs) - needs
        filled = int(starts[-1] + needs[-1])

        input_L = np.full(self.seq_len, self._eod_id, np.int64)
        labels_L = np.full(self.seq_len, IGNORE_INDEX, np.int64)
        positions_L = np.arange(self.seq_len, dtype=np.int64)
        positions_L[:filled] -= np.repeat(starts, needs)
        positions_L[filled:] -= filled
        # Where the ids of a piece begin in `ids`, less where it begins in the sequence: an opener is one input more.
        label_at = np.arange(filled) + np.repeat(np.cumsum(lengths + 1) - lengths - opened - starts, needs)
        labels_L[:filled] = np.where(loss[label_at], ids[label_at], IGNORE_INDEX)
        input_L[:filled] = ids[label_at - 1]
        input_L[starts[opened]] = openers[opened]
        return Sample(input_L, labels_L, positions_L)

    def describe(self, k: int) -> list[PieceRef]:
        """The pieces of sequence `k` in their order."""
        return [
            PieceRef(self.shards.shard_of_document(row[DOCUMENT]), self.shards.key(row[DOCUMENT]), *row)
            for row in self._pieces(k).tolist()
        ]

    def shard_of(self, k: int) -> str:
        """Path (as in the manifest) of the shard of a sequence's first piece."""
        return self.shards.shard_of_document(int(self._pieces(k)[0, DOCUMENT]))

    def _pieces(self, k: int) -> NDArray[np.int64]:
        if not 0 <= k < len(self):
            raise IndexError(f"sequence {k} of {self.shards.source}/{self.shards.split}: has {len(self)}")
        return self.pack.pieces[self.pack.edges[k] : self.pack.edges[k + 1]]
