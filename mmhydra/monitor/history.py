"""Each attempt of a run: its job, its nodes, its steps, how it ended."""

from dataclasses import dataclass, field
from typing import Any

from mmhydra.errors import UserError
from mmhydra.files import read_object
from mmhydra.monitor.find import job_id
from mmhydra.monitor.reading import TAIL_BYTES, first_record, integer, names, newest_records, text
from mmhydra.run.directory import Attempt
from mmhydra.run.status import Status, read_status


@dataclass(frozen=True)
class Past:
    """What an attempt left in its folder."""

    number: int
    job_id: str | None
    submitted: str | None  # ISO time
    began: str | None  # ISO time
    nodes: list[str]
    end_time: float | None  # of the allocation, seconds since the epoch
    restart: int
    first_step: int  # the checkpoint that it began from; 0 for none
    last_step: int  # the last one with a record
    status: Status | None
    outcome: dict[str, Any]  # empty while it runs, or if its launcher was killed
    records: list[dict[str, Any]] = field(repr=False)  # the newest ones of metrics.jsonl

    @property
    def is_submitted(self) -> bool:
        """Whether it is SLURM's."""
        return self.job_id is not None

    @property
    def is_over(self) -> bool:
        """Whether somebody wrote down how it ended."""
        return bool(self.outcome) or (self.status is not None and self.status.state != "running")

    @property
    def state(self) -> str:
        """What its files say: pending, starting, running, or how it ended."""
        if self.status is not None and self.status.state != "running":
            return self.status.state
        code = integer(self.outcome.get("exit_code"))
        if code is not None:
            return {0: "done", 3: "stopped", 75: "preempted"}.get(code, "failed")
        if self.status is not None:
            return "running"
        return "starting" if self.began is not None else "pending"

    @property
    def message(self) -> str | None:
        """How it ended, or what it last said, in its own words."""
        return text(self.outcome.get("message")) or (self.status.message if self.status is not None else None)

    def trained(self, kind: str = "train") -> list[dict[str, Any]]:
        """Its newest records of a kind, oldest first."""
        return [record for record in self.records if record.get("kind") == kind]


def read_past(attempt: Attempt, num_bytes: int = TAIL_BYTES) -> Past:
    """Reads the folder of an attempt, of its metrics the last bytes; what is missing or broken is left out."""
    submitted, job = read_object(attempt.submitted), read_object(attempt.job)
    records = newest_records(attempt.metrics, num_bytes)
    steps = [step for record in records if (step := integer(record.get("step"))) is not None]
    first = integer(job.get("step"))
    if first is None and steps:
        first = max(0, (integer(first_record(attempt.metrics).get("step")) or 1) - 1)
    status = _status(attempt)
    end_time = job.get("end_time")
    return Past(
        number=attempt.number,
        job_id=job_id(attempt),
        submitted=text(submitted.get("submitted")),
        began=text(job.get("began")) or (None if submitted else _created(attempt)),
        nodes=names(job.get("nodes")),
        end_time=float(end_time) if isinstance(end_time, int | float) else None,
        restart=integer(job.get("restart")) or 0,
        first_step=first or 0,
        last_step=max([first or 0, status.step if status is not None else 0, *steps[-1:]]),
        status=status,
        outcome=read_object(attempt.outcome),
        records=records,
    )


def _status(attempt: Attempt) -> Status | None:
    try:
        return read_status(attempt.status)
    except (OSError, RecursionError):
        return None


def _created(attempt: Attempt) -> str | None:
    try:
        return text(attempt.provenance().get("created"))
    except UserError:
        return None
