"""Reads the chunks of each source's next window before its first sample is asked for.

Samples of one window need all of its chunks at once, in random order. From a store that takes a second for a chunk, the
first samples of a window would each wait for one; read one window ahead, they find all of them in memory.
"""

import threading
from collections.abc import Mapping
from queue import SimpleQueue

from mmhydra.data.packing.sequences import PackedSequences
from mmhydra.data.storage.faults import ChunkFault, StoreDown
from mmhydra.data.stream.stream import Stream

_FROM = 0.25  # of a window, when the next one is read: what was read before is in use by then


class ReadAhead:
    """One thread that warms windows, at most one ahead of where each source is."""

    def __init__(self, stream: Stream, sequences: Mapping[str, PackedSequences]) -> None:
        self._stream, self._sequences = stream, sequences
        self._known: dict[str, tuple[int, int]] = {}  # by source: the last (epoch, window) that was asked for
        self._wanted: SimpleQueue[tuple[str, int, int] | None] = SimpleQueue()
        self._is_closed = False
        self._failed: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="read-ahead", daemon=True)
        self._thread.start()

    def at(self, n: int) -> None:
        """Says that samples from `n` on will be taken next. Waits for nothing.

        Raises what ended the thread, unless it was a store that is down: whoever needs a chunk of it says so.
        """
        if self._failed is not None:
            raise self._failed
        for name, count in self._stream.counts(n).items():
            found = self._next_window(name, count)
            if found is not None and self._known.get(name) != found:
                self._known[name] = found
                self._wanted.put((name, *found))

    def _next_window(self, name: str, count: int) -> tuple[int, int] | None:
        """(epoch, window) after the one that draw number `count` of a source is in; None if it is too early."""
        source = self._stream.orders[name]
        epoch, place = divmod(count, source.size)
        order = source.epoch(epoch)
        window = order.window(place)
        begin, end = order.places_of(window)
        if place - begin < _FROM * (end - begin):
            return None
        return (epoch, window + 1) if window + 1 < order.num_windows else (epoch + 1, 0)

    def close(self) -> None:
        """Ends the thread after the chunk that it is reading."""
        self._is_closed = True
        self._wanted.put(None)

    def _run(self) -> None:
        try:
            while (wanted := self._wanted.get()) is not None:
                self._warm(*wanted)
        except StoreDown:
            return
        except Exception as error:  # of this program: a thread that ends unseen would only make a run slow
            self._failed = error

    def _warm(self, name: str, epoch: int, window: int) -> None:
        source, sequences = self._stream.orders[name], self._sequences[name]
        for group in source.epoch(epoch).groups_of(window).tolist():
            if self._is_closed:
                return
            try:
                sequences.shards.warm(sequences.chunks_of(int(source.pack.groups[group])))
            except ChunkFault as fault:
                if fault.passing:
                    return  # the chunks after it would each be waited for as long
                continue  # whoever needs it will find it bad, and say so
