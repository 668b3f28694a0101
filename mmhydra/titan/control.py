"""What can end or interrupt training from outside, agreed upon by all ranks at step boundaries.

A signal reaches some ranks a step earlier than others, and a checkpoint needs all of them. So a signal only sets a
flag; at each boundary the ranks take the most urgent of what any of them has seen, over gloo, so that no GPU is waited
for.
"""

import os
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import timedelta
from enum import IntEnum

import torch
import torch.distributed as dist

from mmhydra.checkpoint.keeper import Superseded
from mmhydra.errors import ExitCode
from mmhydra.run.directory import TRIGGERS, Attempt
from mmhydra.run.lease import JobLease


class Order(IntEnum):
    """What the ranks do at a boundary; the largest of theirs wins."""

    GO_ON = 0
    SAVE = 1  # and go on
    DRAIN = 2  # save, end, and run again elsewhere
    TIME_IS_UP = 3  # the allocation ends: save, end, run again
    SIGNAL = 4  # save, end, run again
    STOP = 5  # save and end: a person asked
    SUPERSEDED = 6  # end without writing: another attempt has the run

    @property
    def ends(self) -> bool:
        """Whether training ends here."""
        return self > Order.SAVE

    @property
    def exit_code(self) -> ExitCode:
        """What the ranks exit with."""
        return ExitCode.STOPPED if self is Order.STOP else ExitCode.PREEMPTED


REASONS = {
    Order.SAVE: "a person asked for a checkpoint (file `save`)",
    Order.DRAIN: "a person asked to leave the nodes (file `drain`)",
    Order.TIME_IS_UP: "the allocation ends soon",
    Order.SIGNAL: "SLURM announced the end of the job by a signal",
    Order.STOP: "a person asked to stop (file `stop`)",
}
_BY_TRIGGER = dict(zip(TRIGGERS, (Order.SAVE, Order.STOP, Order.DRAIN), strict=True))
_TIMEOUT = timedelta(minutes=10)  # for the ranks to come to a boundary: one that hangs takes the others along
SIGNALS = (signal.SIGUSR2, signal.SIGUSR1)


class Signals:
    """The flag that a signal sets. Made as soon as the process can: before, the bridge holds signals back."""

    def __init__(self, numbers: Iterable[signal.Signals]) -> None:
        self.seen: signal.Signals | None = None
        numbers = list(numbers)
        for number in numbers:
            signal.signal(number, self._set)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)

    def _set(self, number: int, frame: object) -> None:
        self.seen = signal.Signals(number)


class Control:
    """Asked by every rank at every boundary."""

    def __init__(
        self,
        attempt: Attempt,
        signals: Signals,
        *,
        lease: JobLease | None,
        end_time: float | None,
        longest_save_s: Callable[[], float | None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._attempt = attempt
        self._signals = signals
        self._lease = lease
        self._end_time = end_time  # of the allocation, seconds since the epoch
        self._longest_save_s = longest_save_s
        self._clock = clock
        self._longest_step_s = 0.0
        self._last_boundary: float | None = None
        self._triggers: list[str] = []
        self._rank = dist.get_rank()
        self.group = dist.new_group(backend="gloo", timeout=_TIMEOUT)

    def agree(self) -> Order:
        """The order for all ranks. Raises Superseded, on all ranks, if another attempt has the run."""
        own = Order.SIGNAL if self._signals.seen is not None else Order.GO_ON
        if self._rank == 0:
            own = max(own, self._of_rank_0())
        urgency = torch.tensor([own], dtype=torch.int32)
        dist.all_reduce(urgency, op=dist.ReduceOp.MAX, group=self.group)
        order = Order(int(urgency.item()))
        if order is Order.SUPERSEDED:
            newest = self._attempt.run.attempts[-1].number
            raise Superseded(f"attempt {newest} has taken over this run; attempt {self._attempt.number} ends")
        return order

    def answered(self) -> None:
        """Takes the trigger files away that have been acted on; a stop that stayed would stop the next start."""
        for name in self._triggers:
            with suppress(OSError):
                self._attempt.run.trigger(name).unlink(missing_ok=True)
        self._triggers = []

    def _of_rank_0(self) -> Order:
        self._measure_step()
        if self._is_superseded():
            return Order.SUPERSEDED
        self._triggers = self._find_triggers()
        orders = [_BY_TRIGGER[name] for name in self._triggers]
        if self._time_is_up():
            orders.append(Order.TIME_IS_UP)
        return max(orders, default=Order.GO_ON)

    def _measure_step(self) -> None:
        now = self._clock()
        if self._last_boundary is not None:
            self._longest_step_s = max(self._longest_step_s, now - self._last_boundary)
        self._last_boundary = now

    def _find_triggers(self) -> list[str]:
        try:
            names = os.listdir(self._attempt.run.path)
        except OSError:
            return []  # a file server that is away for a moment
        return [name for name in TRIGGERS if name in names]

    def _time_is_up(self) -> bool:
        """Whether a save that takes twice as long as the longest, and one more step, would not fit any more.

        Before the first save nothing is known of their length; then SLURM's signal alone tells.
        """
        longest_s = self._longest_save_s()
        if self._end_time is None or longest_s is None:
            return False
        return self._end_time - self._clock() < 2 * longest_s + self._longest_step_s

    def _is_superseded(self) -> bool:
        try:
            newest = self._attempt.run.attempts[-1].number
        except (OSError, IndexError):
            return False
        return newest != self._attempt.number or (self._lease is not None and not self._lease.is_ours())
