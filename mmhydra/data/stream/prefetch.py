"""Results that threads make ahead of whoever takes them: in order, and no more than a given number ahead.

Threads of the trainer's own process serve here: reading files, hashing and copying arrays all release the interpreter
lock, and they share one memory of chunks, where processes would each read and keep their own.
"""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

Result = TypeVar("Result")

_CLOSE_S = 5.0  # a thread that is in the middle of a slow read is left behind; being a daemon it holds nothing up


class Prefetch(Generic[Result]):
    """Takes `work(0)`, `work(1)`, ... in this order, however many threads make them.

    At most `ahead` results are begun or ready and not yet taken: that bounds memory, and lets the threads rest while
    the taker is slower than they are. Without threads `take` does the work itself, and nothing is made ahead.

    What `work` raises comes out of the `take` of that number, as it is, and out of each one after it; nothing further
    is begun then.
    """

    def __init__(self, work: Callable[[int], Result], *, num_threads: int, ahead: int) -> None:
        if num_threads < 0 or ahead < 1:
            raise ValueError(f"num_threads = {num_threads} is at least 0 and ahead = {ahead} at least 1")
        self._work, self._ahead = work, ahead
        self._begun = self._taken = 0  # numbers below these
        self._ready: dict[int, Result] = {}
        self._failed: dict[int, BaseException] = {}
        self._is_closed = False
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=self._run, name=f"prefetch-{number}", daemon=True) for number in range(num_threads)
        ]
        for thread in self._threads:
            thread.start()

    def take(self) -> Result:
        """The next result; waits for it. Raises what its work raised, and RuntimeError after `close`."""
        with self._changed:
            if self._is_closed:
                raise RuntimeError("this prefetch is closed")
            number = self._taken
            if self._threads:
                self._changed.wait_for(lambda: number in self._ready or number in self._failed or self._is_closed)
                if self._is_closed:
                    raise RuntimeError("this prefetch was closed while a result was waited for")
                if number in self._failed:
                    raise self._failed[number]
                result = self._ready.pop(number)
                self._taken += 1
                self._changed.notify_all()
                return result
        result = self._work(number)
        self._taken += 1
        return result

    @property
    def num_ready(self) -> int:
        """Results that nobody has taken yet."""
        with self._changed:
            return len(self._ready)

    def close(self, wait_s: float = _CLOSE_S) -> None:
        """Ends the threads and drops what is ready; threads in the middle of something are waited for so long."""
        with self._changed:
            self._is_closed = True
            self._ready.clear()
            self._changed.notify_all()
        deadline = time.monotonic() + wait_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        while (number := self._next()) is not None:
            try:
                result = self._work(number)
            except BaseException as error:  # it belongs to whoever takes this number
                with self._changed:
                    self._failed[number] = error
                    self._changed.notify_all()
                return
            with self._changed:
                if not self._is_closed:
                    self._ready[number] = result
                    self._changed.notify_all()

    def _next(self) -> int | None:
        """The number to work on, once there is room for it; None at the end."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._is_closed or bool(self._failed) or self._begun - self._taken < self._ahead
            )
            if self._is_closed or self._failed:
                return None
            self._begun += 1
            return self._begun - 1
