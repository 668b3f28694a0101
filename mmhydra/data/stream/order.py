"""The order of a source's sequences: two levels, so that what is read at a time lies in few chunks.

Level one puts the chunk groups of a source (pack.py) in a random order, new in each epoch. Level two takes the next
`window_chunks` groups of that order, a *window*, and mixes all their sequences. So a process works on the chunks of one
window at a time, each chunk is read once an epoch, and a sequence can still meet any other of its source.

A *place* is a position in an epoch's order, a *turn* one in the order of its groups.
"""

from collections.abc import Iterator
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmhydra.data.packing.pack import Pack
from mmhydra.data.stream.permutation import derive_key, derive_keys, permute, unpermute

_KEPT = 4  # epochs of a source that are kept ready; threads and traces look at neighbours
_TURNS = 1 << 16  # chunk groups of all epochs that are prepared together
_ROWS = 1 << 16  # rows of a pack's counts that are summed at a time


class EpochOrder:
    """One epoch's order. `groups` int64 [num_groups + 1]: edges of the chunk groups in sequence numbers, from 0.

    Preparing it is O(num_groups); every question after that is O(log num_groups) a sequence. Without `shuffle`
    sequences come in the order of their numbers. With `num_epochs` it is so many epochs end to end, `epoch` the first
    of them: places, turns and windows are counted on, sequences are not. Small sources are quicker that way.
    """

    def __init__(
        self,
        groups: NDArray[np.int64],
        seed: int,
        name: str,
        epoch: int,
        window_chunks: int,
        shuffle: bool,
        num_epochs: int = 1,
    ) -> None:
        self._groups, self._window_chunks, self._shuffle = groups, window_chunks, shuffle
        self._num_groups = num_groups = len(groups) - 1
        epochs = np.arange(epoch, epoch + num_epochs)
        # The group at each turn, and the place where it would begin if windows were not mixed.
        self._group = np.tile(np.arange(num_groups), num_epochs)
        if shuffle:
            keys = derive_keys(derive_key(seed, "groups", name), epochs)
            self._group = permute(self._group, num_groups, _spread(keys, num_groups))
        self._start = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.diff(groups)[self._group])])
        first_turns = np.arange(0, num_groups, window_chunks)  # of an epoch's windows
        self._windows_an_epoch = len(first_turns)
        self._first_turns = (np.arange(num_epochs)[:, None] * num_groups + first_turns).ravel()
        self._edges = np.append(self._start[self._first_turns], self._start[-1])  # of windows, [num_windows + 1]
        windows = np.tile(np.arange(self._windows_an_epoch), num_epochs)
        self._keys = derive_keys(
            _spread(derive_keys(derive_key(seed, "window", name), epochs), self._windows_an_epoch), windows
        )

    @property
    def num_windows(self) -> int:
        """Windows of the epoch; the last one may have fewer groups."""
        return len(self._edges) - 1

    def sequence(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """The sequences at some places, int64 of the same shape. Raises IndexError outside of the epoch."""
        if self._shuffle:
            window = self._window_of(places)
            begin = self._edges[window]
            places = begin + permute(places - begin, self._edges[window + 1] - begin, self._keys[window])
        turn = np.searchsorted(self._start, places, side="right") - 1
        self._check(turn, places, len(self._group))
        sequences: NDArray[np.int64] = self._groups[self._group[turn]] + places - self._start[turn]
        return sequences

    def place(self, sequences: NDArray[np.int64], number: int | NDArray[np.int64] = 0) -> NDArray[np.int64]:
        """The inverse: the places of some sequences in epoch `number` of those that this is, one for all or for each.

        Raises IndexError for a sequence that the source does not have.
        """
        group = np.searchsorted(self._groups, sequences, side="right") - 1
        self._check(group, sequences, self._num_groups)
        turn = self._turn[number * self._num_groups + group]
        places = self._start[turn] + sequences - self._groups[group]
        if not self._shuffle:
            return places
        window = number * self._windows_an_epoch + turn % self._num_groups // self._window_chunks
        begin = self._edges[window]
        return begin + unpermute(places - begin, self._edges[window + 1] - begin, self._keys[window])

    def groups_of(self, window: int) -> NDArray[np.int64]:
        """The chunk groups that a window mixes, in the order of their turns."""
        epoch, inside = divmod(window, self._windows_an_epoch)
        first = inside * self._window_chunks
        last = min(first + self._window_chunks, self._num_groups)
        return self._group[epoch * self._num_groups + first : epoch * self._num_groups + last]

    def places_of(self, window: int) -> tuple[int, int]:
        """The places [first, last) of a window."""
        return int(self._edges[window]), int(self._edges[window + 1])

    def window(self, place: int) -> int:
        """The window that a place is in. Raises IndexError outside of the epoch."""
        return int(self._window_of(np.array([place]))[0])

    def sums(self, group_totals: NDArray[np.int64]) -> NDArray[np.int64]:
        """The sums of a table [num_groups, C] over the windows before each, int64 [num_windows + 1, C]."""
        by_window = np.add.reduceat(group_totals[self._group], self._first_turns, axis=0, dtype=np.int64)
        return np.concatenate([np.zeros((1, by_window.shape[1]), np.int64), np.cumsum(by_window, axis=0)])

    def totals(
        self, place: int, sums: NDArray[np.int64], counts: NDArray[np.unsignedinteger[Any]]
    ) -> NDArray[np.int64]:
        """The sum of `counts` [num_sequences, C] over the sequences at the first `place` places, int64 [C].

        `sums` are those of the counts' totals by group; of the window that `place` cuts the smaller side is added row
        by row.
        """
        window = int(np.searchsorted(self._edges, place, side="right")) - 1
        begin, end = self._edges[window], self._edges[min(window + 1, self.num_windows)]
        before, after = sums[window], sums[min(window + 1, self.num_windows)]
        is_first_half = place - begin <= end - place
        total: NDArray[np.int64] = (
            before + self._summed(counts, begin, place) if is_first_half else after - self._summed(counts, place, end)
        )
        return total

    def _summed(self, counts: NDArray[np.unsignedinteger[Any]], first: int, last: int) -> NDArray[np.int64]:
        total = np.zeros(counts.shape[1], np.int64)
        for low in range(first, last, _ROWS):
            rows = self.sequence(np.arange(low, min(low + _ROWS, last)))
            total += counts[rows].sum(axis=0, dtype=np.int64)
        return total

    def _window_of(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        window = np.searchsorted(self._edges, places, side="right") - 1
        self._check(window, places, self.num_windows)
        return window

    def _check(self, found: NDArray[np.int64], asked: NDArray[np.int64], size: int) -> None:
        """Refuse what a search in edges did not find."""
        if found.size and not 0 <= found.min() <= found.max() < size:
            raise IndexError(f"{asked.min()} to {asked.max()} of an epoch of {self._groups[-1]} sequences")

    @cached_property
    def _turn(self) -> NDArray[np.int64]:
        """The turn of each group, epoch after epoch."""
        turn = np.empty_like(self._group)
        turns = np.arange(len(turn))
        turn[turns // self._num_groups * self._num_groups + self._group] = turns
        return turn


def _spread(keys: NDArray[np.uint64], times: int) -> int | NDArray[np.uint64]:
    """Each key so many times; a single one stays one."""
    return int(keys[0]) if len(keys) == 1 else np.repeat(keys, times)


class SourceOrder:
    """The order of a source's draws, epoch after epoch: draw number `count` is place count % size of its epoch.

    Epochs are prepared when they are asked for, and the last few are kept. Safe for threads.
    """

    def __init__(self, pack: Pack, seed: int, name: str, window_chunks: int, shuffle: bool) -> None:
        self.pack, self.size = pack, pack.num_sequences
        self._all = pack.totals.sum(axis=0, dtype=np.int64)

        def prepare(epoch: int, num_epochs: int) -> EpochOrder:
            return EpochOrder(pack.groups, seed, name, epoch, window_chunks, shuffle, num_epochs)

        self._prepare = prepare
        self.epoch = lru_cache(_KEPT)(lambda epoch: prepare(epoch, 1))
        self._sums = lru_cache(_KEPT)(lambda epoch: self.epoch(epoch).sums(pack.totals))

    def locate(self, counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Epochs and sequences of some draws, int64 of the same shape."""
        epochs = counts // self.size
        sequences = np.empty_like(counts)
        if not counts.size:
            return epochs, sequences
        for first, num_epochs in self._stretches(int(epochs.min()), int(epochs.max()) + 1):
            mine = (epochs >= first) & (epochs < first + num_epochs)
            if mine.any():
                order = self._epochs(first, num_epochs)
                sequences[mine] = order.sequence(counts[mine] - first * self.size)
        return epochs, sequences

    def draws_of(self, sequence: int, first: int, last: int) -> NDArray[np.int64]:
        """The draws in [first, last) that are one sequence, rising; one in each whole epoch. Raises IndexError."""
        found = [np.zeros(0, np.int64)]
        for epoch, num_epochs in self._stretches(first // self.size, -(-last // self.size)):
            places = self._epochs(epoch, num_epochs).place(np.full(num_epochs, sequence), np.arange(num_epochs))
            found.append(epoch * self.size + places)
        draws = np.concatenate(found)
        return draws[(draws >= first) & (draws < last)]

    def _stretches(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """The epochs [first, last) as (epoch, number of epochs): many small ones together, large ones one by one."""
        step = max(1, _TURNS // self.pack.totals.shape[0]) if last - first > _KEPT else 1
        for epoch in range(first, last, step):
            yield epoch, min(step, last - epoch)

    def _epochs(self, first: int, num_epochs: int) -> EpochOrder:
        return self.epoch(first) if num_epochs == 1 else self._prepare(first, num_epochs)

    def totals(self, count: int) -> NDArray[np.int64]:
        """Filled positions by modality of the first `count` draws, int64 [len(MODALITIES)]."""
        epoch, place = divmod(count, self.size)
        total: NDArray[np.int64] = self._all * epoch
        if place:
            total = total + self.epoch(epoch).totals(place, self._sums(epoch), self.pack.counts)
        return total

    def drawn(self, sequences: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        """How often each of `sequences` is among the first `count` draws, int64 of the same shape."""
        epoch, place = divmod(count, self.size)
        if not place:
            return np.full(sequences.shape, epoch, np.int64)
        return epoch + (self.epoch(epoch).place(sequences) < place)
