"""Packed sequences as samples to train on.

Shape suffixes: B sequences, L positions.
"""

import threading
from bisect import bisect_right
from collections import OrderedDict
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmhydra.data.packing.pack import DOCUMENT, Pack
from mmhydra.data.packing.plan import Plan, make_plan
from mmhydra.data.shards.reader import TokenShards
from mmhydra.data.shards.tables import ranges
from mmhydra.data.storage.faults import ChunkFault

IGNORE_INDEX = -100  # torch's cross_entropy leaves such labels out

_KEPT_PLANS = 32  # at least; those of two windows where they have more chunk groups
# From so many parts on, one gather over all positions is quicker than a slice for each part (measured).
_MANY_COPIES, _MANY_PIECES, _MANY_SILENT = 32, 12, 12  # copies: of one chunk


class Sample(NamedTuple):
    """Ids, the id that follows each, and its position in its piece; int32 [L] each.

    A label is IGNORE_INDEX where the id that follows carries no loss, and where there is padding. Positions count from
    0 in each piece and in the padding: attention masks are made from these restarts, so that pieces do not see each
    other.
    """

    input_L: NDArray[np.int32]
    labels_L: NDArray[np.int32]
    positions_L: NDArray[np.int32]


class Batch(NamedTuple):
    """Samples as the rows of arrays, int32 [B, L] each."""

    input_BL: NDArray[np.int32]
    labels_BL: NDArray[np.int32]
    positions_BL: NDArray[np.int32]

    @classmethod
    def empty(cls, num_sequences: int, seq_len: int) -> "Batch":
        """Room for so many sequences, with anything in it."""
        # One block, so that the rows of a sample are whole rows apart. Where malloc puts three arrays, labels often
        # begin 16 bytes (modulo 4096) behind inputs; copying one to the other, moved by an id, is then 5 times slower.
        return cls(*np.empty((3, num_sequences, seq_len), np.int32))


class PieceRef(NamedTuple):
    """A piece of a sequence, and where it comes from; the fields as in pack.py."""

    shard: str
    key: str
    document: int
    offset: int
    length: int
    opener: int


class PackedSequences:
    """The sequences of a pack index, by number; any number of threads may read them.

    `eod_id` is the id that ends each document, and the input where there is padding. `window_chunks`: how many chunk
    groups are in use at a time.
    """

    def __init__(self, shards: TokenShards, pack: Pack, eod_id: int, window_chunks: int = 1) -> None:
        self.shards, self.pack, self.seq_len, self.eod_id = shards, pack, pack.seq_len, eod_id
        self._groups = np.ascontiguousarray(pack.groups).data  # bisect is five times slower in an array
        self._padding = np.full(self.seq_len, eod_id, np.int32)
        self._counting = np.arange(self.seq_len, dtype=np.int32)
        self._plans: OrderedDict[int, Plan | None] = OrderedDict()  # by chunk group, the one used last at the end
        self._num_kept = max(_KEPT_PLANS, 2 * window_chunks)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self.pack.num_sequences

    def __getitem__(self, k: int) -> Sample:
        """Sequence `k`. Errors as in `fill`."""
        rows = Sample(*(rows_BL[0] for rows_BL in Batch.empty(1, self.seq_len)))
        self.fill(k, *rows)
        return rows

    def fill(
        self, k: int, input_L: NDArray[np.int32], labels_L: NDArray[np.int32], positions_L: NDArray[np.int32]
    ) -> None:
        """Writes sequence `k` into three rows, int32 [L] each, contiguous; see Sample.

        Raises IndexError outside of [0, len), and ChunkFault where bytes that it needs can't be had: the rows then
        hold anything.
        """
        plan = self._plan_of(k)
        i = k - plan.first
        low, high = plan.edges[i], plan.edges[i + 1]
        ends = plan.ends[low:high]
        filled = int(ends[-1]) + 1
        self._write_input(plan, plan.copies.of(i), filled, input_L)
        self._write_positions(plan, low, high, filled, positions_L)

        labels_L[: filled - 1] = input_L[1:filled]
        if filled < self.seq_len:
            labels_L[filled:] = IGNORE_INDEX
        labels_L[ends] = self.eod_id
        if len(plan.tails.table):
            for position, slot, place in plan.tails.of(i).tolist():
                labels_L[position] = self.shards.ids_of_chunk(*plan.chunks[slot])[place]
        if len(plan.silent.table):
            _silence(labels_L, plan.silent.of(i))
        if len(plan.openers.table):
            openers = plan.openers.of(i)
            input_L[openers[:, 0]] = openers[:, 1]

    def chunks_of(self, k: int) -> frozenset[tuple[str, int]]:
        """Shard path and number of each chunk whose bytes sequence `k` needs; what lies beside shards is not counted.

        Raises IndexError outside of [0, len), and ChunkFault where what lies beside one of its shards can't be had.
        """
        plan = self._plan_of(k)
        i = k - plan.first
        slots = {*plan.copies.of(i)[:, 0].tolist(), *plan.tails.of(i)[:, 1].tolist()}
        return frozenset(chunk for slot in slots for chunk in self.shards.chunks_under(*plan.chunks[slot]))

    def describe(self, k: int) -> list[PieceRef]:
        """The pieces of sequence `k` in their order."""
        return [
            PieceRef(self.shards.shard_of_document(row[DOCUMENT]), self.shards.key(row[DOCUMENT]), *row)
            for row in self._pieces(k).tolist()
        ]

    def shard_of(self, k: int) -> str:
        """Path (as in the manifest) of the shard of a sequence's first piece."""
        return self.shards.shard_of_document(int(self._pieces(k)[0, DOCUMENT]))

    def _write_input(self, plan: Plan, copies: NDArray[np.int32], filled: int, input_L: NDArray[np.int32]) -> None:
        if len(copies) >= _MANY_COPIES * (copies[-1, 0] - copies[0, 0] + 1):
            self._gather_input(plan, copies, input_L)
            input_L[filled:] = self.eod_id
            return
        parts: list[NDArray[Any]] = []
        held = -1
        for slot, low, high in copies.tolist():
            if slot != held:
                held, ids = slot, self.shards.ids_of_chunk(*plan.chunks[slot])
            parts.append(ids[low:high])
        if filled < self.seq_len:
            parts.append(self._padding[filled:])
        np.concatenate(parts, out=input_L)

    def _gather_input(self, plan: Plan, copies: NDArray[np.int32], input_L: NDArray[np.int32]) -> None:
        slots, lows, lengths = copies[:, 0], copies[:, 1], copies[:, 2] - copies[:, 1]
        stop = 0
        for first, last in pairwise([0, *(np.flatnonzero(np.diff(slots)) + 1).tolist(), len(slots)]):
            places = ranges(lows[first:last], lengths[first:last])
            start, stop = stop, stop + len(places)
            input_L[start:stop] = self.shards.ids_of_chunk(*plan.chunks[int(slots[first])])[places]

    def _write_positions(self, plan: Plan, low: int, high: int, filled: int, positions_L: NDArray[np.int32]) -> None:
        counting, padded = self._counting, self.seq_len - filled
        if high - low < _MANY_PIECES:
            parts = [counting[:need] for need in plan.needs[low:high].tolist()]
            np.concatenate([*parts, counting[:padded]], out=positions_L)
            return
        starts = np.repeat(plan.starts[low:high], plan.needs[low:high])
        np.subtract(counting[:filled], starts, out=positions_L[:filled])
        positions_L[filled:] = counting[:padded]

    def _pieces(self, k: int) -> NDArray[np.int64]:
        self._check(k)
        return self.pack.pieces[self.pack.edges[k] : self.pack.edges[k + 1]]

    def _check(self, k: int) -> None:
        if not 0 <= k < self.pack.num_sequences:
            raise IndexError(f"sequence {k} of {self.shards.source}/{self.shards.split}: has {len(self)}")

    def _plan_of(self, k: int) -> Plan:
        """The plan that has sequence `k`: that of its chunk group, kept for those that come soon."""
        self._check(k)
        group = bisect_right(self._groups, k) - 1
        with self._lock:
            if is_known := group in self._plans:
                self._plans.move_to_end(group)
                found = self._plans[group]
        if not is_known:
            try:
                found = make_plan(self.shards, self.pack, self._groups[group], self._groups[group + 1])
            except ChunkFault as fault:
                # Documents of the next shard fill up the last sequences of a shard: others do not need what is bad.
                if fault.passing:
                    return make_plan(self.shards, self.pack, k, k + 1)
                found = None
            with self._lock:
                self._plans[group] = found
                while len(self._plans) > self._num_kept:
                    self._plans.popitem(last=False)
        return found or make_plan(self.shards, self.pack, k, k + 1)


def _silence(labels_L: NDArray[np.int32], silent: NDArray[np.int32]) -> None:
    if len(silent) < _MANY_SILENT:
        for low, high in silent.tolist():
            labels_L[low:high] = IGNORE_INDEX
    else:
        labels_L[ranges(silent[:, 0], silent[:, 1] - silent[:, 0])] = IGNORE_INDEX
