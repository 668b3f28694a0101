"""nodes.jsonl: the step times of each node, at each log interval, and an event when one holds the others up."""

import os
import socket
import time
from typing import Any

import torch.distributed as dist

from mmhydra.checkpoint.keeper import Event
from mmhydra.run.directory import Attempt
from mmhydra.titan import cpu
from mmhydra.titan.step_times import GpuProbe, StepTimes, straggler, to_record
from mmhydra.track.jsonl import JsonlWriter


class NodeWatch:
    """Measures this rank's steps between boundaries. Rank 0 writes.

    `comparable`: whether all ranks have the same to compute; the stages of a pipeline have not, so there the CPU time
    of a node says nothing of its health. (What a GPU is probed with is the same everywhere.)
    """

    def __init__(self, attempt: Attempt, on_event: Event, group: Any, *, interval: int, comparable: bool) -> None:
        self._group = group
        self._interval = interval
        self._on_event = on_event
        self._node = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
        self._times = StepTimes()
        self._probe = None if cpu.is_active() else GpuProbe(f"cuda:{os.environ.get('LOCAL_RANK', '0')}")
        self._names_stragglers = comparable or self._probe is not None
        self._writer = JsonlWriter(attempt.nodes) if dist.get_rank() == 0 else None
        self._before: tuple[float, float] | None = None  # wall clock and CPU time at the last boundary
        self._told: str | None = None

    def boundary(self, step: int) -> None:
        """Called by all ranks between two steps; `step` is the one that ended."""
        now = (time.perf_counter(), time.process_time())
        if self._before is not None:
            due = step % self._interval == 0
            compute_s = now[1] - self._before[1] if self._probe is None else self._probe.measure() if due else None
            self._times.record(now[0] - self._before[0], compute_s)
            if due:
                self._report(step)
        self._before = (time.perf_counter(), time.process_time())  # this took no part of the next step

    def _report(self, step: int) -> None:
        nodes = self._times.gather(self._group, self._node)
        if nodes is None or self._writer is None:
            return
        record = to_record(step, nodes)
        slow = straggler(nodes) if self._names_stragglers else None
        record |= {"straggler": slow[0] if slow else None, "slowdown": round(slow[1], 3) if slow else None}
        self._writer.write(record)
        self._writer.flush()
        if slow is not None and slow[0] != self._told:
            self._on_event("straggler", f"{slow[0]} needs {slow[1]:.2f} times as long as the other nodes for a step")
        self._told = slow[0] if slow else None

    def close(self) -> None:
        """Makes the last record durable."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
