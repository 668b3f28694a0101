"""Each attempt of a run: its job, its nodes, its steps, how it ended."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmhydra.errors import UserError
from mmhydra.monitor.reading import first_record, integer, names, newest_records, read_dated, text
from mmhydra.run.directory import Attempt
from mmhydra.run.status import Status


@dataclass(frozen=True)
class Past:
    """What an attempt left in its folder."""

    number: int
    job_id: str | None
    submitted: str | None  # ISO time; None once it has begun
    began: str | None  # ISO time
    nodes: list[str]
    end_time: float | None  # of the allocation, seconds since the epoch
    restart: int
    first_step: int  # the checkpoint that it began from; 0 for none
    last_step: int  # the last one with a record
    status: Status | None
    outcome: dict[str, Any]  # empty while it runs, or if its launcher was killed
    records: list[dict[str, Any]] = field(repr=False)  # the newest ones of metrics.jsonl
    outcome_written: float | None = None  # by the clock of the file system; None without one
    status_written: float | None = None

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


def read_past(attempt: Attempt, records: Callable[[Path], list[dict[str, Any]]] = newest_records) -> Past:
    """Reads the folder of an attempt, each file once; what is missing or broken is left out.

    `records` reads the newest ones of metrics.jsonl, the oldest first: after all else, so that of an attempt that has
    ended none is missed.
    """
    job, _ = read_dated(attempt.job)
    began, job_id = text(job.get("began")), text(job.get("job_id"))
    submitted = {} if began and job_id else read_dated(attempt.submitted)[0]
    (outcome, outcome_written), (status, status_written) = read_dated(attempt.outcome), read_dated(attempt.status)
    newest = records(attempt.metrics)
    steps = [step for record in newest if (step := integer(record.get("step"))) is not None]
    first = integer(job.get("step"))
    if first is None and steps:
        first = max(0, (integer(first_record(attempt.metrics).get("step")) or 1) - 1)
    said = _status(status)
    end_time = job.get("end_time")
    return Past(
        number=attempt.number,
        job_id=job_id or text(submitted.get("job_id")),
        submitted=text(submitted.get("submitted")),
        began=began or (None if submitted else _created(attempt)),
        nodes=names(job.get("nodes")),
        end_time=float(end_time) if isinstance(end_time, int | float) else None,
        restart=integer(job.get("restart")) or 0,
        first_step=first or 0,
        last_step=max([first or 0, said.step if said is not None else 0, *steps[-1:]]),
        status=said,
        outcome=outcome,
        records=newest,
        outcome_written=outcome_written,
        status_written=status_written,
    )


def _status(document: dict[str, Any]) -> Status | None:
    try:
        return Status(**document)
    except TypeError:  # nothing was said yet, or it has other fields
        return None


def _created(attempt: Attempt) -> str | None:
    try:
        return text(attempt.provenance().get("created"))
    except UserError:
        return None
