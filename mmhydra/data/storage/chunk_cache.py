"""Verified chunks in memory: bounded, shared by the threads of a process, and each read once."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar, cast


class Sized(Protocol):
    """What can be kept: it knows its bytes."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""


V = TypeVar("V", bound=Sized)


class ChunkCache:
    """Keeps values by key as long as they fit into `max_bytes`; the one used longest ago goes first.

    What is being loaded counts as well, so the sum is never above `max_bytes`, unless one value alone is: that is
    kept until the next comes. A value that was dropped lives on for as long as somebody uses it.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.held_bytes = 0  # of the values
        self.peak_bytes = 0  # most that values and what was being loaded ever had together
        self._coming_bytes = 0
        self._values: OrderedDict[Hashable, Sized] = OrderedDict()
        self._coming: dict[Hashable, Future[Any]] = {}
        self._lock = threading.Lock()  # half the cost of a condition's own, and `find` is asked for every sample
        self._changed = threading.Condition(self._lock)

    def find(self, key: Hashable) -> Any:
        """The value of a key, or None if it is not here (now)."""
        with self._lock:
            value = self._values.get(key)
            if value is not None:
                self._values.move_to_end(key)
            return value

    def keys(self) -> list[Hashable]:
        """Keys of the values, the one used longest ago first."""
        with self._changed:
            return list(self._values)

    def get(self, key: Hashable, expected_bytes: int, load: Callable[[], V]) -> V:
        """The value of a key, loaded if it is not here. Of threads that ask for one key, one loads.

        All of them get the error if `load` raises one, and the next one that asks loads again. `load` must not ask
        this cache.
        """
        with self._changed:
            while True:
                if (there := self._values.get(key)) is not None:
                    self._values.move_to_end(key)
                    return cast(V, there)
                if (coming := self._coming.get(key)) is not None:
                    break
                if not self._coming or self._coming_bytes + expected_bytes <= self.max_bytes:
                    mine: Future[Any] = Future()
                    self._coming[key] = mine
                    self._coming_bytes += expected_bytes
                    self._make_room()
                    break
                self._changed.wait()  # until another has loaded: its value may go
        if coming is not None:
            return cast(V, coming.result())
        try:
            value = load()
        except BaseException as error:
            self._end(key, expected_bytes, None)
            mine.set_exception(error)
            raise
        self._end(key, expected_bytes, value)
        mine.set_result(value)
        return value

    def _end(self, key: Hashable, expected_bytes: int, value: Sized | None) -> None:
        with self._changed:
            del self._coming[key]
            self._coming_bytes -= expected_bytes
            if value is not None:
                self._values[key] = value
                self.held_bytes += value.nbytes
                self._make_room(keep=1)
            self._changed.notify_all()

    def _make_room(self, keep: int = 0) -> None:
        while len(self._values) > keep and self.held_bytes + self._coming_bytes > self.max_bytes:
            self.held_bytes -= self._values.popitem(last=False)[1].nbytes
        self.peak_bytes = max(self.peak_bytes, self.held_bytes + self._coming_bytes)
