"""Asks the scheduler of a site, whichever of its tools the site has."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mmhydra.errors import UserError
from mmhydra.hostlist import expand
from mmhydra.slurm.job_state import JobState, from_sacct, from_scontrol, from_squeue

TIMEOUT_S = 10.0  # a controller that does not answer makes the tools try for 18 s and more
_JOB_ID = re.compile(r"\d+([_+]\d+)?")
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
_SACCT = ("JobID", "State", "Reason", "ExitCode", "ElapsedRaw", "TimelimitRaw", "Start", "NodeList")
_KEY = re.compile(r"(?:^| )([A-Z][A-Za-z]*)=")
_OWN_FORMATS = ("SQUEUE_", "SACCT_", "SCANCEL_", "SCONTROL_", "SLURM_TIME_FORMAT")  # a user's wishes for his own eyes


class SchedulerError(UserError):
    """The scheduler can't be asked, or refuses."""


@dataclass(frozen=True)
class _Answer:
    """What one tool said of a job: a state, that there is no such job, or why it could not answer."""

    tool: str
    job: JobState | None = None
    failure: str | None = None


class Scheduler:
    """The SLURM that `slurm_conf` names (default: the one that this host's tools know).

    A job id is a number, or `123_4` for the fourth task of an array.
    """

    def __init__(self, slurm_conf: Path | None = None, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        environment = {name: value for name, value in os.environ.items() if not name.startswith(_OWN_FORMATS)}
        self._environment = {**environment, "LC_ALL": "C"}
        if slurm_conf is not None:
            self._environment["SLURM_CONF"] = str(slurm_conf)

    @property
    def is_available(self) -> bool:
        """Whether this host has a tool that knows jobs."""
        return any(shutil.which(tool) for tool in ("squeue", "scontrol", "sacct"))

    expand = staticmethod(expand)

    def state(self, job_id: str) -> JobState | None:
        """The job, or None if the scheduler does not know it (any more).

        Raises SchedulerError if that can't be found out, with what each tool said.
        """
        _require_job_id(job_id)
        controller: list[_Answer] = []
        for ask in (self._squeue, self._scontrol):
            answer = ask(job_id)
            controller.append(answer)
            if answer.job is not None:
                return answer.job
            if answer.failure is None or "no answer" in answer.failure:
                break  # the other one asks the same controller
        accounting = self._sacct(job_id)
        forgotten = any(answer.failure is None for answer in controller)
        if accounting.job is not None and not (forgotten and accounting.job.is_active):
            return accounting.job
        # Accounting learns late of new jobs: its "unknown" counts only where nobody else can be asked.
        missing = all(answer.failure == _MISSING for answer in controller)
        if forgotten or (missing and accounting.failure is None):
            return None
        answers = [*controller, accounting]
        if all(answer.failure == _MISSING for answer in answers):
            raise SchedulerError("SLURM can't be asked: neither squeue, scontrol nor sacct is on PATH of this host")
        told = [f"  {answer.tool}: {answer.failure or 'knows no such job'}" for answer in answers]
        raise SchedulerError("\n".join([f"SLURM can't be asked about job {job_id}:", *told]))

    def cancel(self, job_id: str) -> None:
        """Asks SLURM to end a job. A job that it does not know is no error. Raises SchedulerError."""
        self._order("scancel", job_id)

    def requeue(self, job_id: str) -> None:
        """Asks SLURM to end a job and start it again. Raises SchedulerError."""
        self._order("scontrol", "requeue", job_id)

    def _order(self, tool: str, *arguments: str) -> None:
        _require_job_id(arguments[-1])
        done = self._run(tool, *arguments)
        if isinstance(done, str):
            raise SchedulerError(f"{tool}: {done}")
        if done.returncode:
            said = (done.stderr + done.stdout).strip() or f"exit code {done.returncode}"
            raise SchedulerError(f"{' '.join([tool, *arguments])}: {said}")

    def _squeue(self, job_id: str) -> _Answer:
        columns = ",".join(f"{name}:{width}" for name, width in SQUEUE_COLUMNS.items())
        done = self._run("squeue", "-h", "-t", "all", "-j", job_id, "-O", columns)
        if isinstance(done, str):
            return _Answer("squeue", failure=done)
        jobs = []
        for line in done.stdout.splitlines():
            row, begin = {}, 0
            for name, width in SQUEUE_COLUMNS.items():
                row[name] = line[begin : begin + width].strip()
                begin += width
            if row["JobArrayID"] and row["State"]:
                jobs.append(from_squeue(row))
        return _told("squeue", jobs, job_id, done)

    def _scontrol(self, job_id: str) -> _Answer:
        done = self._run("scontrol", "-o", "show", "job", job_id)
        if isinstance(done, str):
            return _Answer("scontrol", failure=done)
        rows = [dict(_pairs(line)) for line in done.stdout.splitlines()]
        now = datetime.now().astimezone()
        jobs = [from_scontrol(row, now) for row in rows if {"JobId", "JobState"} <= row.keys()]
        return _told("scontrol", jobs, job_id, done)

    def _sacct(self, job_id: str) -> _Answer:
        done = self._run("sacct", "-X", "-n", "-P", "-j", job_id, "-o", ",".join(_SACCT))
        if isinstance(done, str):
            return _Answer("sacct", failure=done)
        rows = [line.split("|") for line in done.stdout.splitlines()]
        jobs = [from_sacct(dict(zip(_SACCT, row, strict=True))) for row in rows if len(row) == len(_SACCT)]
        return _told("sacct", jobs, job_id, done)

    def _run(self, *command: str) -> "subprocess.CompletedProcess[str] | str":
        """The finished process, or why there is none."""
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                env=self._environment,
                start_new_session=True,  # so that wrapper scripts of a site end with their children
            )
        except FileNotFoundError:
            return _MISSING
        except OSError as error:
            return f"can't be started ({error.strerror})"
        with process:
            try:
                out, err = process.communicate(timeout=self._timeout_s)
            except BaseException as error:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                if isinstance(error, subprocess.TimeoutExpired):
                    return f"no answer within {self._timeout_s:g} s"
                raise
        return subprocess.CompletedProcess(command, process.returncode, out, err)


_MISSING = "is not on PATH"


def _told(tool: str, jobs: list[JobState], job_id: str, done: "subprocess.CompletedProcess[str]") -> _Answer:
    if jobs:
        exact = [job for job in jobs if job.job_id == job_id]
        # The id of an array stands for all of its tasks: the one that is furthest from its end.
        order = sorted(exact or jobs, key=lambda job: (not job.is_active, job.is_pending))
        return _Answer(tool, job=order[0])
    said = " ".join(done.stderr.split())
    if "Invalid job id" in said or (done.returncode == 0 and not said):
        return _Answer(tool)
    return _Answer(tool, failure=said[-300:] or f"exit code {done.returncode}")


def _pairs(line: str) -> Iterator[tuple[str, str]]:
    """KEY=VALUE of scontrol, whose values may hold blanks."""
    found = list(_KEY.finditer(line))
    for this, following in zip(found, [*found[1:], None], strict=True):
        yield this[1], line[this.end() : following.start() if following else None].strip()


def _require_job_id(job_id: str) -> None:
    if not _JOB_ID.fullmatch(job_id):
        raise SchedulerError(f"{job_id!r} is no job id; give a number such as 123, or 123_4 for a task of an array")
