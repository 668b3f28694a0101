"""How long steps take on each node, and which node holds the others up.

All ranks of a run end a step together, so their step times are alike and do not show who was late. On CPU the time
that a process computes does: waiting in gloo sleeps. On CUDA the kernels of collectives wait inside the step, so a
small matmul of fixed size is timed instead (`GpuProbe`).
"""

import math
import statistics
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import torch
import torch.distributed as dist

SLOWDOWN = 1.25  # times the median of the other nodes: below it, it is noise
PROBE_SIZE = 4096
PROBE_REPEATS = 4


@dataclass(frozen=True)
class NodeTimes:
    """Percentiles of the last steps in seconds; NaN where nothing was recorded."""

    step_p50_s: float
    step_p99_s: float
    compute_p50_s: float
    compute_p99_s: float


class StepTimes:
    """The step times of one rank, of the last `window` steps."""

    def __init__(self, window: int = 1000) -> None:
        self._step_s: deque[float] = deque(maxlen=window)
        self._compute_s: deque[float] = deque(maxlen=window)
        self._nodes: list[str] | None = None  # of each rank of the group

    def record(self, step_s: float, compute_s: float | None) -> None:
        """Notes one step in seconds. `compute_s` is None in steps that had no probe.

        On CPU it is what `time.process_time` advanced by in the step, on CUDA the result of `GpuProbe.measure`.
        """
        self._step_s.append(step_s)
        if compute_s is not None:
            self._compute_s.append(compute_s)

    def summary(self) -> tuple[float, float, float, float]:
        """Step p50, step p99, compute p50, compute p99 in seconds, by nearest rank: each is a time that was measured.

        NaN before the first record.
        """
        return (
            nearest_rank(self._step_s, 50),
            nearest_rank(self._step_s, 99),
            nearest_rank(self._compute_s, 50),
            nearest_rank(self._compute_s, 99),
        )

    def gather(self, group: Any, node: str) -> dict[str, NodeTimes] | None:
        """On the group's rank 0 the times by node, each the largest of its ranks; None on the others.

        All ranks of a gloo group have to call it. The first call exchanges the names of the nodes, later ones send
        four numbers a rank. A node of which no rank has recorded a step is left out.
        """
        if self._nodes is None:
            nodes: list[Any] = [None] * dist.get_world_size(group)
            dist.all_gather_object(nodes, node, group=group)
            self._nodes = nodes
        mine = torch.tensor(self.summary(), dtype=torch.float64)
        is_first = dist.get_rank(group) == 0
        rows = [torch.empty_like(mine) for _ in self._nodes] if is_first else None
        dist.gather(mine, rows, group=group, group_dst=0)
        return None if rows is None else by_node(self._nodes, [row.tolist() for row in rows])


class GpuProbe:
    """A bf16 matmul of fixed size: what a GPU needs for it alone, with nobody to wait for."""

    def __init__(self, device: Any) -> None:
        self._device = torch.device(device)
        shape, kind = (PROBE_SIZE, PROBE_SIZE), torch.bfloat16
        # A generator of its own: the run's random numbers stay what they are.
        generator = torch.Generator(self._device).manual_seed(0)
        self._left, self._right = (
            torch.randn(shape, generator=generator, dtype=kind, device=self._device) for _ in range(2)
        )
        self._product = torch.empty_like(self._left)  # 96 MiB in all, which stay
        self.measure()  # the first one loads the kernel

    def measure(self) -> float:
        """Seconds of PROBE_REPEATS matmuls. Waits until the device has nothing else to do, so not in every step."""
        with torch.cuda.device(self._device):
            torch.cuda.synchronize()
            began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            began.record()
            for _ in range(PROBE_REPEATS):
                torch.mm(self._left, self._right, out=self._product)
            ended.record()
            ended.synchronize()
            return float(began.elapsed_time(ended)) / 1000


def nearest_rank(values: Sequence[float] | deque[float], percent: int) -> float:
    """The smallest value that at least `percent` of the values do not exceed; NaN for none."""
    if not values:
        return math.nan
    return sorted(values)[math.ceil(percent * len(values) / 100) - 1]


def by_node(nodes: Sequence[str], rows: Sequence[Sequence[float]]) -> dict[str, NodeTimes]:
    """The largest times of each node's ranks, in the order of their first ranks; NaN counts as no time."""
    found: dict[str, NodeTimes] = {}
    for node in dict.fromkeys(nodes):
        own = [row for name, row in zip(nodes, rows, strict=True) if name == node]
        times = [max((v for v in column if not math.isnan(v)), default=math.nan) for column in zip(*own, strict=True)]
        if not math.isnan(times[0]):
            found[node] = NodeTimes(*times)
    return found


def straggler(nodes: Mapping[str, NodeTimes]) -> tuple[str, float] | None:
    """The node with the largest compute p50 and its ratio to the median of the others, if that is SLOWDOWN or more.

    None for fewer than two nodes with a compute time.
    """
    compute_s = {node: times.compute_p50_s for node, times in nodes.items() if not math.isnan(times.compute_p50_s)}
    if len(compute_s) < 2:
        return None
    slowest = max(compute_s, key=lambda node: compute_s[node])
    others_s = statistics.median(value for node, value in compute_s.items() if node != slowest)
    if others_s <= 0 or compute_s[slowest] < SLOWDOWN * others_s:
        return None
    return slowest, compute_s[slowest] / others_s


def to_record(step: int, nodes: Mapping[str, NodeTimes]) -> dict[str, Any]:
    """A line of nodes.jsonl. A time that nobody measured is null."""
    slow = straggler(nodes)
    return {
        "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "step": step,
        "nodes": {
            node: {name: None if math.isnan(value) else round(value, 6) for name, value in asdict(times).items()}
            for node, times in nodes.items()
        },
        "straggler": slow[0] if slow else None,
        "slowdown": round(slow[1], 3) if slow else None,
    }
