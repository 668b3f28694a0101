"""Calls that are given up when they take too long, as those of a store that hangs."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, TypeVar

from mmhydra.data.storage.store import NoAnswer

T = TypeVar("T")


@dataclass
class _Task:
    call: Callable[[], Any]
    result: Future[Any] = field(default_factory=Future)
    given_up: bool = False


class TimedCalls:
    """Makes calls in threads of its own, which are used again.

    A call that hangs can't be ended, so its thread is left behind until it comes back, if ever. The threads are
    daemons: unlike those of a pool, no end of a process waits for them.
    """

    def __init__(self) -> None:
        self.num_hanging = 0  # calls that were given up and have not come back
        self._idle: list[SimpleQueue[_Task | None]] = []
        self._is_closed = False
        self._lock = threading.Lock()

    def call(self, call: Callable[[], T], seconds: float) -> T:
        """What `call` gives or raises. Raises NoAnswer where it takes longer."""
        task = _Task(call)
        with self._lock:
            inbox = self._idle.pop() if self._idle else None
        if inbox is None:
            inbox = SimpleQueue()
            threading.Thread(target=self._serve, args=(inbox,), name="timed-call", daemon=True).start()
        inbox.put(task)
        result: Future[T] = task.result
        try:
            return result.result(seconds)
        except TimeoutError as error:
            with self._lock:
                task.given_up = not result.done()
                self.num_hanging += task.given_up
            if task.given_up:
                raise NoAnswer(f"no answer within {seconds:g} s") from error
        return result.result()  # it came at the last moment, or the call itself ran out of time

    def close(self) -> None:
        """Ends the threads that have nothing to do, the others when they have done it."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for inbox in idle:
            inbox.put(None)

    def _serve(self, inbox: "SimpleQueue[_Task | None]") -> None:
        while (task := inbox.get()) is not None:
            outcome, error = None, None
            try:
                outcome = task.call()
            except BaseException as raised:
                error = raised
            with self._lock:
                self.num_hanging -= task.given_up
                is_closed = self._is_closed
                if not is_closed:
                    self._idle.append(inbox)
                if error is None:
                    task.result.set_result(outcome)
                else:
                    task.result.set_exception(error)
            del task, outcome, error  # megabytes perhaps, and this may be the last task for long
            if is_closed:
                return
