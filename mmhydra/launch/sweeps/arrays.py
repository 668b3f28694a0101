"""Points as job arrays: which share one, what waits for what, and what became of arrays whose submitter was killed."""

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmhydra.launch.array import (
    ArrayJob,
    adopt_array,
    array_state,
    drop_array,
    executor_of_array,
    max_array_size,
    resource_class,
)
from mmhydra.launch.batch import BatchJob
from mmhydra.launch.points import Point
from mmhydra.launch.slurm import script_of
from mmhydra.launch.sweeps.recording import Key, key_of
from mmhydra.run.snapshot import Snapshot
from mmhydra.sweep.record import SweepDirectory


@dataclass(frozen=True)
class Group:
    """Points that ask for the same and wait for the same: tasks of one array, in this order."""

    points: tuple[Point, ...]
    jobs: tuple[BatchJob, ...]
    indices: tuple[int, ...]
    dependency: str | None

    def array(self, folder: Path, sweep: str) -> ArrayJob:
        """The array in its folder, under a name that no other has."""
        return ArrayJob(
            folder, f"{sweep}-{folder.name}-{secrets.token_hex(4)}", self.jobs, self.indices, self.dependency
        )


def array_script(array: ArrayJob) -> str:
    """The batch script of an array; nothing is written."""
    return script_of(executor_of_array(array))


def placeholder(folder: str) -> str:
    """Stands for the job id of an array that is not submitted, in a shell too."""
    return f"${{ARRAY_{folder}}}"


def batch_job(point: Point, attempt: Path, snapshot: Snapshot) -> BatchJob:
    """The job of a point whose attempt is, or would be, in a folder."""
    return BatchJob(point.config, point.key[2], point.sha256, point.run.path, attempt, snapshot)


def _group(tasks: Sequence[tuple[int, Point, BatchJob]], dependency: str | None) -> Group:
    indices, points, jobs = zip(*tasks, strict=True)
    return Group(points, jobs, indices, dependency)


class Grouping:
    """Sorts points into arrays. `jobs` are the job ids of parents that a point may have to wait for, by run."""

    def __init__(self, job_of: Callable[[Point], BatchJob], jobs: dict[Key, str]) -> None:
        self.jobs = jobs
        self._job_of = job_of
        self._sizes: dict[str, int] = {}

    def waves(self, points: Sequence[Point]) -> Iterator[list[Group]]:
        """Groups to submit, wave after wave: children come after their parents.

        Whoever submits one enters the job ids of its points in `jobs` before he takes the next wave.
        """
        left = list(points)
        while left:
            keys = {key_of(point) for point in left}
            ready = [point for point in left if point.parent is None or key_of(point.parent) not in keys]
            assert ready, "no point is its own ancestor"
            yield self._groups(ready)
            started = {key_of(point) for point in ready}
            left = [point for point in left if key_of(point) not in started]

    def _groups(self, points: Sequence[Point]) -> list[Group]:
        free: dict[str, list[tuple[Point, BatchJob]]] = {}
        waiting: dict[tuple[str, str], dict[str, list[tuple[Point, BatchJob]]]] = {}
        for point in points:
            job = self._job_of(point)
            asks = resource_class(job)
            parent = self.jobs.get(key_of(point.parent)) if point.parent is not None else None
            if parent is None:
                free.setdefault(asks, []).append((point, job))
            else:
                array = parent.rpartition("_")[0]
                waiting.setdefault((asks, array), {}).setdefault(parent, []).append((point, job))
        groups = [group for members in free.values() for group in self._chunks(members, None)]
        for (_, array), children in waiting.items():
            groups += self._after(array, children)
        return groups

    def _after(self, array: str, children: Mapping[str, list[tuple[Point, BatchJob]]]) -> list[Group]:
        """Children of tasks of one array: an array for each parent, or arrays with one child of each, the fewer.

        In the latter a task waits for the task of the same number, which the children's cluster must allow.
        """
        size = self._size(next(iter(children.values()))[0][1])
        numbers = {parent: int(parent.rpartition("_")[2]) for parent in children if "_" in parent}
        by_index = sorted((number, children[parent]) for parent, number in numbers.items() if number < size)
        most = max((len(members) for _, members in by_index), default=0)
        if len(by_index) <= most:
            by_index = []
        together = {index for index, _ in by_index}
        alone = {parent: members for parent, members in children.items() if numbers.get(parent) not in together}
        groups = [group for parent, members in alone.items() for group in self._chunks(members, f"afterok:{parent}")]
        for number in range(most if by_index else 0):
            layer = [(index, *members[number]) for index, members in by_index if number < len(members)]
            groups.append(_group(layer, f"aftercorr:{array}"))
        return groups

    def _chunks(self, members: Sequence[tuple[Point, BatchJob]], dependency: str | None) -> Iterator[Group]:
        size = self._size(members[0][1])
        for start in range(0, len(members), size):
            chunk = members[start : start + size]
            yield _group([(index, *member) for index, member in enumerate(chunk)], dependency)

    def _size(self, job: BatchJob) -> int:
        """How many tasks an array may have."""
        slurm = job.slurm
        key = repr((job.config.cluster.name, slurm.slurm_conf, slurm.max_array_size))
        if key not in self._sizes:
            self._sizes[key] = max(1, max_array_size(job.config))
        return self._sizes[key]


def finish_arrays(sweep: SweepDirectory) -> tuple[list[str], list[str]]:
    """Looks after arrays whose submitter was killed, or did not hear what sbatch did.

    SLURM has them, and they are noted now; or it has not, and then none of their tasks will run any more, should one
    turn up later. Returns the job ids of the former and the folders of the latter. Raises UserError where SLURM can't
    be asked or a record can't be read, and OSError where none can be written.
    """
    found, dropped = [], []
    for folder in sweep.arrays:
        state = array_state(folder)
        if state == "empty":  # it may have claimed attempts already
            drop_array(folder)
        if state != "submitting":
            continue
        job_id = adopt_array(folder) or drop_array(folder)
        if job_id is None:
            dropped.append(f"arrays/{folder.name}")
        else:
            found.append(job_id)
    return found, dropped
