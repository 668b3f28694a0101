"""One question to each SLURM about all jobs of a sweep."""

import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mmhydra.slurm import JobState, Scheduler, SchedulerError

Answer = dict[str, JobState | None] | SchedulerError


@dataclass
class _Asked:
    moment: float
    answer: Answer
    jobs: set[str]


class BulkAsker:
    """Asks SLURM of many jobs, at most once in `interval_s` unless there are new ones: see `monitor.facts.Asker`.

    Whoever asks of several sets of jobs in turn asks SLURM of all of them together.
    """

    def __init__(self, interval_s: float = 0.0, timeout_s: float = 30.0) -> None:
        self._interval_s, self._timeout_s = interval_s, timeout_s
        self._asked: dict[str | None, _Asked] = {}
        self._wanted: dict[str | None, dict[str, float]] = {}  # jobs, and when somebody last wanted to know of them

    def __call__(self, slurm_conf: str | None, job_ids: Collection[str]) -> Answer:
        """What the SLURM that a configuration file names says of jobs: None for one that it does not know.

        A SLURM that can't be asked is an answer too.
        """
        jobs, now = set(job_ids), time.monotonic()
        wanted = self._wanted.setdefault(slurm_conf, {})
        wanted.update(dict.fromkeys(jobs, now))
        asked = self._asked.get(slurm_conf)
        if asked is None or now - asked.moment >= self._interval_s or not jobs <= asked.jobs:
            for job in [job for job, moment in wanted.items() if now - moment >= self._interval_s and job not in jobs]:
                del wanted[job]
            asked = _Asked(now, self._ask(slurm_conf, sorted(wanted)), set(wanted))
            self._asked[slurm_conf] = asked
        return asked.answer

    def _ask(self, slurm_conf: str | None, job_ids: list[str]) -> Answer:
        try:
            return scheduler(slurm_conf, self._timeout_s).states(job_ids) if job_ids else {}
        except SchedulerError as error:
            return error


def named_jobs(slurm: Scheduler, document: Mapping[str, Any]) -> list[str]:
    """Jobs under the name that was written down before a submission, since then. Raises SchedulerError."""
    since = None
    with suppress(ValueError, TypeError):  # a file that somebody edited: looked for as if it were of no time
        since = datetime.fromisoformat(document.get("written"))  # type: ignore[arg-type]
    return slurm.find_by_name(str(document["name"]), since)


def scheduler(slurm_conf: str | None, timeout_s: float = 30.0) -> Scheduler:
    """The SLURM of a configuration file, with the patience that questions about thousands of jobs need."""
    return Scheduler(slurm_conf, timeout_s)
