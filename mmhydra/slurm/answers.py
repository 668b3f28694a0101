"""What squeue, scontrol and sacct said: their text as jobs, or as a failure."""

import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from mmhydra.slurm.job_state import JobState, from_sacct, from_scontrol, from_squeue

# Columns of fixed width: every version pads them; the node list of a large job may be cut, it comes last.
SQUEUE_COLUMNS = {
    "JobArrayID": 64,
    "State": 32,
    "exit_code": 16,
    "RestartCnt": 16,
    "TimeUsed": 32,
    "TimeLeft": 32,
    "StartTime": 32,
    "Reason": 512,
    "NodeList": 8192,
}
BULK_COLUMNS = {**SQUEUE_COLUMNS, "Reason": 128, "NodeList": 1024}  # thousands of jobs at once
SACCT_COLUMNS = ("JobID", "State", "Reason", "ExitCode", "ElapsedRaw", "TimelimitRaw", "Start", "NodeList")
MISSING = "is not on PATH"  # the failure of a tool that the host does not have
_TASKS = re.compile(r"(\d+)(?:-(\d+)(?::(\d+))?)?")
_KEY = re.compile(r"(?:^| )([A-Z][A-Za-z]*)=")

Done = subprocess.CompletedProcess[str] | str  # a finished process, or why there is none


@dataclass(frozen=True)
class Answer:
    """What one tool said of a job: a state, that there is no such job, or why it could not answer."""

    tool: str
    job: JobState | None = None
    failure: str | None = None


@dataclass(frozen=True)
class Answers:
    """What one tool said of many jobs, or why it could not answer."""

    tool: str
    jobs: list[JobState] = field(default_factory=list)
    names: list[str] = field(default_factory=list)  # ids of jobs, also `123_[0-3,7]`
    failure: str | None = None

    @classmethod
    def of(cls, tool: str, jobs: list[JobState]) -> "Answers":
        """One that names its jobs in full."""
        return cls(tool, jobs, [job.job_id for job in jobs])


def all_told(tool: str, done: Done, read: Callable[[str], list[JobState]]) -> Answers:
    """What a tool said of many jobs, read by `read`."""
    if isinstance(done, str):
        return Answers(tool, failure=done)
    jobs = read(done.stdout)
    said = " ".join(done.stderr.split())
    if jobs or "Invalid job id" in said or (done.returncode == 0 and not said):
        return Answers.of(tool, jobs)
    return Answers(tool, failure=said[-300:] or f"exit code {done.returncode}")


def names_told(tool: str, done: Done) -> Answers:
    """Ids of jobs, those of an array once."""
    if isinstance(done, str):
        return Answers(tool, failure=done)
    said = " ".join(done.stderr.split())
    numbers = {line.strip().partition("_")[0] for line in done.stdout.splitlines()}
    names = sorted((number for number in numbers if number.isdigit()), key=int)
    if names or (done.returncode == 0 and not said):
        return Answers(tool, names=names)
    return Answers(tool, failure=said[-300:] or f"exit code {done.returncode}")


def by_id(answer: Answers) -> dict[str, JobState]:
    """By id; the number of an array, which stands for all of its tasks, as that which is furthest from its end.

    The tasks of `123_[0-3,7%2]` are as that job is, unless they are named as well.
    """
    found: dict[str, JobState] = {}
    together: dict[str, JobState] = {}
    for job in sorted(answer.jobs, key=lambda job: (not job.is_active, job.is_pending)):
        array, _, tasks = job.job_id.partition("_")
        found.setdefault(array, job)
        if tasks.startswith("["):
            together.setdefault(array, job)
        else:
            found[job.job_id] = job
    for name in answer.names:
        array, _, tasks = name.partition("_")
        if tasks.startswith("[") and array in together:
            for task in _members(tasks):
                task_id = f"{array}_{task}"
                found.setdefault(task_id, replace(together[array], job_id=task_id))
    return found


def _members(tasks: str) -> Iterator[int]:
    """The numbers in `[0-3,7,10-20:5%2]`."""
    for first, last, step in _TASKS.findall(tasks.partition("%")[0]):
        yield from range(int(first), int(last or first) + 1, int(step or 1))


def columns_of(columns: Mapping[str, int]) -> str:
    """As `squeue -O` takes them."""
    return ",".join(f"{name}:{width}" for name, width in columns.items())


def of_squeue(out: str, columns: Mapping[str, int]) -> list[JobState]:
    """The jobs that squeue printed."""
    jobs = []
    for line in out.splitlines():
        row, begin = {}, 0
        for name, width in columns.items():
            row[name] = line[begin : begin + width].strip()
            begin += width
        if row["JobArrayID"] and row["State"]:
            jobs.append(from_squeue(row))
    return jobs


def of_scontrol(out: str) -> list[JobState]:
    """The jobs that `scontrol -o show job` printed."""
    rows = [dict(_pairs(line)) for line in out.splitlines()]
    now = datetime.now().astimezone()
    return [from_scontrol(row, now) for row in rows if {"JobId", "JobState"} <= row.keys()]


def of_sacct(out: str) -> list[JobState]:
    """The jobs that `sacct -P` printed, with the columns `SACCT_COLUMNS`."""
    rows = [line.split("|") for line in out.splitlines()]
    return [from_sacct(dict(zip(SACCT_COLUMNS, row, strict=True))) for row in rows if len(row) == len(SACCT_COLUMNS)]


def told_of(tool: str, jobs: list[JobState], job_id: str, done: subprocess.CompletedProcess[str]) -> Answer:
    """What a tool said of one job."""
    if jobs:
        exact = [job for job in jobs if job.job_id == job_id]
        # The id of an array stands for all of its tasks: the one that is furthest from its end.
        order = sorted(exact or jobs, key=lambda job: (not job.is_active, job.is_pending))
        return Answer(tool, job=order[0])
    said = " ".join(done.stderr.split())
    if "Invalid job id" in said or (done.returncode == 0 and not said):
        return Answer(tool)
    return Answer(tool, failure=said[-300:] or f"exit code {done.returncode}")


def _pairs(line: str) -> Iterator[tuple[str, str]]:
    """KEY=VALUE of scontrol, whose values may hold blanks."""
    found = list(_KEY.finditer(line))
    for this, following in zip(found, [*found[1:], None], strict=True):
        yield this[1], line[this.end() : following.start() if following else None].strip()
