"""One job as squeue, scontrol or sacct tells it."""

import re
from dataclasses import dataclass
from datetime import datetime

from mmhydra.hostlist import expand

_ENDED = {  # every other state is one of a job that may still run
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "LAUNCH_FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "RECONFIG_FAIL",
    "REVOKED",
    "TIMEOUT",
}
_WAITING = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
_NOTHING = ("", "None", "(null)", "N/A", "Unknown", "INVALID")
_TIME = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)")


@dataclass(frozen=True)
class JobState:
    """What the scheduler says of a job. None where the tool that answered does not tell."""

    job_id: str
    state: str  # as SLURM spells it, such as PENDING or NODE_FAIL
    reason: str | None  # why it waits, or why it ended
    nodes: list[str]
    exit_code: int | None  # of the batch script; 128 + signal if one ended it; None while it may still run
    elapsed_s: int | None
    time_left_s: int | None  # of the allocation; None also without a limit, and when the job is not running
    restarts: int | None  # requeues so far
    start_estimate: datetime | None  # of a waiting job, in local time

    @property
    def is_pending(self) -> bool:
        """Whether it waits for its nodes, for the first time or again."""
        return self.state in _WAITING

    @property
    def is_active(self) -> bool:
        """Whether anything of it runs or may run later."""
        return self.state not in _ENDED

    @property
    def will_never_start(self) -> bool:
        """Whether the job that it waits for failed. It stays in the queue until it is cancelled, maybe by SLURM."""
        return self.is_pending and self.reason == "DependencyNeverSatisfied"


def from_squeue(row: dict[str, str]) -> JobState:
    """A row of `squeue -O`, by names of its fields."""
    status = int(row["exit_code"] or 0)  # as wait(2) gives it
    return _job(
        row["JobArrayID"],
        row["State"],
        row["Reason"],
        row["NodeList"],
        exit_code=128 + (status & 0x7F) if status & 0x7F else status >> 8,
        elapsed_s=_duration(row["TimeUsed"]),
        left_s=_duration(row["TimeLeft"]),
        restarts=_number(row["RestartCnt"]),
        start=row["StartTime"],
    )


def from_scontrol(row: dict[str, str], now: datetime) -> JobState:
    """A line of `scontrol -o show job`, by its keys."""
    job_id = row["JobId"]
    if tasks := row.get("ArrayTaskId"):  # a number, or 0-3,7%2 of those that wait together
        job_id = f"{row['ArrayJobId']}_{tasks if tasks.isdigit() else f'[{tasks}]'}"
    end = _moment(row.get("EndTime", ""))
    return _job(
        job_id,
        row["JobState"],
        row.get("Reason", ""),
        row.get("NodeList", ""),
        exit_code=_exit_code(row.get("ExitCode", "")),
        elapsed_s=_duration(row.get("RunTime", "")),
        left_s=None if end is None or row.get("TimeLimit") == "UNLIMITED" else int((end - now).total_seconds()),
        restarts=_number(row.get("Restarts", "")),
        start=row.get("StartTime", ""),
    )


def from_sacct(row: dict[str, str]) -> JobState:
    """A row of `sacct -P`, by names of its fields."""
    elapsed_s, limit_min = _number(row["ElapsedRaw"]), _number(row["TimelimitRaw"])
    left_s = limit_min * 60 - elapsed_s if limit_min is not None and elapsed_s is not None else None
    state, _, rest = row["State"].partition(" ")  # CANCELLED by 1000
    return _job(
        row["JobID"],
        state,
        rest or row["Reason"],
        row["NodeList"],
        exit_code=_exit_code(row["ExitCode"]),
        elapsed_s=elapsed_s,
        left_s=left_s,
        restarts=None,
        start=row["Start"],
    )


def _job(
    job_id: str,
    state: str,
    reason: str,
    nodes: str,
    *,
    exit_code: int | None,
    elapsed_s: int | None,
    left_s: int | None,
    restarts: int | None,
    start: str,
) -> JobState:
    waits, ended = state in _WAITING, state in _ENDED
    return JobState(
        job_id=job_id,
        state=state,
        reason=None if reason in _NOTHING else reason,
        nodes=expand(nodes),
        exit_code=exit_code if ended else None,
        elapsed_s=elapsed_s,
        time_left_s=None if waits or ended or left_s is None else max(0, left_s),
        restarts=restarts,
        start_estimate=_moment(start) if waits else None,
    )


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def _exit_code(text: str) -> int | None:
    """From `code:signal`."""
    code, _, signal = text.partition(":")
    if not code.isdigit():
        return None
    return 128 + int(signal) if signal.isdigit() and int(signal) else int(code)


def _duration(text: str) -> int | None:
    """Seconds in `1-02:03:04` or `3:04`; None for UNLIMITED, INVALID and the like."""
    found = _TIME.fullmatch(text)
    if found is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        return None
