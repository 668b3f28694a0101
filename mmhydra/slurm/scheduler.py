"""Asks the scheduler of a site, whichever of its tools the site has."""

import os
import re
import signal
import subprocess
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from mmhydra.errors import UserError
from mmhydra.hostlist import ranges
from mmhydra.slurm.answers import (
    BULK_COLUMNS,
    MISSING,
    SACCT_COLUMNS,
    SQUEUE_COLUMNS,
    Answer,
    Answers,
    Done,
    all_told,
    by_id,
    columns_of,
    names_told,
    of_sacct,
    of_scontrol,
    of_squeue,
    told_of,
)
from mmhydra.slurm.job_state import JobState

TIMEOUT_S = 10.0  # a controller that does not answer makes the tools try for 18 s and more
_JOB_ID = re.compile(r"\d+([_+]\d+)?")
_MOST_ASKED = 500  # numbers in one question: a command line has room for more, a list of a site's squeue need not
_LOOK_BACK = timedelta(days=30)
_CLOCKS_DIFFER = timedelta(hours=1)
_MAX_ARRAY_SIZE = re.compile(r"^MaxArraySize\s*=\s*(\d+)", re.MULTILINE)
_OWN_FORMATS = ("SQUEUE_", "SACCT_", "SCANCEL_", "SCONTROL_", "SLURM_TIME_FORMAT")  # a user's wishes for his own eyes


class SchedulerError(UserError):
    """The scheduler can't be asked, or refuses."""


class Scheduler:
    """The SLURM that `slurm_conf` names (default: the one that this host's tools know).

    A job id is a number, or `123_4` for the fourth task of an array.
    """

    def __init__(self, slurm_conf: str | Path | None = None, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        environment = {name: value for name, value in os.environ.items() if not name.startswith(_OWN_FORMATS)}
        self._environment = {**environment, "LC_ALL": "C", "SLURM_BITSTR_LEN": "0"}  # 0: no list of tasks is cut
        if slurm_conf is not None:
            self._environment["SLURM_CONF"] = str(slurm_conf)

    def state(self, job_id: str) -> JobState | None:
        """The job, or None if the scheduler does not know it (any more).

        Raises SchedulerError if that can't be found out, with what each tool said.
        """
        _require_job_id(job_id)
        controller: list[Answer] = []
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
        missing = all(answer.failure == MISSING for answer in controller)
        if forgotten or (missing and accounting.failure is None):
            return None
        raise _unasked(f"job {job_id}", [*controller, accounting])

    def states(self, job_ids: Iterable[str]) -> dict[str, JobState | None]:
        """As `state`, for many jobs in few questions: by id, None for one that is not known (any more).

        Raises SchedulerError if that can't be found out for one of them.
        """
        wanted = list(dict.fromkeys(job_ids))
        # The whole of each array is asked for: 2,000 tasks are a question of two numbers.
        asked = list(dict.fromkeys(job_id.partition("_")[0] for job_id in wanted if _JOB_ID.fullmatch(job_id)))
        found: dict[str, JobState | None] = {}
        for begin in range(0, len(asked), _MOST_ASKED):
            part = asked[begin : begin + _MOST_ASKED]
            members = {job_id for job_id in wanted if job_id.partition("_")[0] in part}
            found |= self._states(part, members)
        return {job_id: found.get(job_id) for job_id in wanted}

    def _states(self, asked: Sequence[str], wanted: set[str]) -> dict[str, JobState]:
        """Those of `wanted` that are known; `asked` are the numbers that they are asked for by."""
        answer = self._squeue_many(asked)
        answers = [answer]
        if answer.failure is not None and "no answer" not in answer.failure:
            answer = self._scontrol_many(asked)
            answers.append(answer)
        found = {job_id: job for job_id, job in by_id(answer).items() if job_id in wanted}
        left = wanted - found.keys()
        if not left:
            return found
        accounting = self._sacct_many(sorted({job_id.partition("_")[0] for job_id in left}))
        forgotten = answer.failure is None
        told = {job_id: job for job_id, job in by_id(accounting).items() if job_id in left}
        found |= {job_id: job for job_id, job in told.items() if not (forgotten and job.is_active)}
        left -= found.keys()
        missing = all(one.failure == MISSING for one in answers)
        if not left or forgotten or (missing and accounting.failure is None):
            return found
        raise _unasked(f"jobs {', '.join(sorted(left)[:3])}{', ...' if len(left) > 3 else ''}", [*answers, accounting])

    def find_by_name(self, name: str, since: datetime | None = None) -> list[str]:
        """Ids of the jobs of this name, oldest first; an array counts as one. `since`: when the first can have begun.

        Raises SchedulerError if SLURM can't be asked.
        """
        done = self._run("squeue", "-h", "-t", "all", f"--name={name}", "-o", "%F")
        controller = names_told("squeue", done)
        if controller.names:
            return controller.names
        begin = (since or datetime.now().astimezone() - _LOOK_BACK).astimezone() - _CLOCKS_DIFFER
        from_ = f"--starttime={begin:%Y-%m-%dT%H:%M:%S}"
        accounting = names_told("sacct", self._run("sacct", "-X", "-n", "-P", from_, f"--name={name}", "-o", "JobID"))
        if accounting.names or controller.failure is None:
            return accounting.names
        if controller.failure == MISSING and accounting.failure is None:
            return []
        raise _unasked(f"jobs of the name {name}", [controller, accounting])

    def max_array_size(self) -> int:
        """MaxArraySize: the ids of an array's tasks are below it. Raises SchedulerError if SLURM does not tell."""
        done = self._run("scontrol", "show", "config")
        said = done if isinstance(done, str) else " ".join((done.stderr or done.stdout).split())[-300:]
        found = None if isinstance(done, str) else _MAX_ARRAY_SIZE.search(done.stdout)
        if found is None:
            raise SchedulerError(
                f"SLURM does not tell how large an array may be (scontrol show config: {said}); "
                "type cluster.slurm.max_array_size=N, MaxArraySize of its slurm.conf"
            )
        if int(found[1]) < 1:
            raise SchedulerError("this SLURM takes no job arrays: MaxArraySize is 0 in its slurm.conf")
        return int(found[1])

    def cancel_many(self, job_ids: Iterable[str]) -> None:
        """As `cancel`, with the tasks of an array as ranges, in as few calls as fit. Raises SchedulerError."""
        tasks: dict[str, list[int]] = {}
        words: list[str] = []
        for job_id in dict.fromkeys(job_ids):
            _require_job_id(job_id)
            array, _, task = job_id.partition("_")
            if task:
                tasks.setdefault(array, []).append(int(task))
            else:
                words.append(job_id)
        words += [f"{array}_[{ranges(sorted(numbers))}]" for array, numbers in tasks.items()]
        for begin in range(0, len(words), _MOST_ASKED):
            self._checked("scancel", *words[begin : begin + _MOST_ASKED])

    def cancel(self, job_id: str) -> None:
        """Asks SLURM to end a job. A job that it does not know is no error. Raises SchedulerError."""
        self._order("scancel", job_id)

    def requeue(self, job_id: str) -> None:
        """Asks SLURM to end a job and start it again. Raises SchedulerError."""
        self._order("scontrol", "requeue", job_id)

    def _order(self, tool: str, *arguments: str) -> None:
        _require_job_id(arguments[-1])
        self._checked(tool, *arguments)

    def _checked(self, tool: str, *arguments: str) -> None:
        done = self._run(tool, *arguments)
        if isinstance(done, str):
            raise SchedulerError(f"{tool}: {done}")
        if done.returncode:
            said = (done.stderr + done.stdout).strip() or f"exit code {done.returncode}"
            raise SchedulerError(f"{' '.join([tool, *arguments])}: {said}")

    def _squeue(self, job_id: str) -> Answer:
        done = self._run("squeue", "-h", "-t", "all", "-j", job_id, "-O", columns_of(SQUEUE_COLUMNS))
        if isinstance(done, str):
            return Answer("squeue", failure=done)
        return told_of("squeue", of_squeue(done.stdout, SQUEUE_COLUMNS), job_id, done)

    def _squeue_many(self, asked: Sequence[str]) -> Answers:
        # Tasks that wait are one job, `123_[0-3,7]`, and as a column of fixed width that may be cut. It is asked for
        # first: a task that starts meanwhile has a row of its own in the second answer. Not -r: SLURM 22.05 leaves
        # the last of them as it is.
        listed = self._run("squeue", "-h", "-t", "all", "-j", ",".join(asked), "-o", "%i")
        done = self._run("squeue", "-h", "-t", "all", "-j", ",".join(asked), "-O", columns_of(BULK_COLUMNS))
        answer = all_told("squeue", done, lambda out: of_squeue(out, BULK_COLUMNS))
        ids = all_told("squeue", listed, lambda out: [])
        names = [] if isinstance(listed, str) else listed.stdout.split()
        return replace(answer, names=names, failure=answer.failure or (None if names else ids.failure))

    def _scontrol(self, job_id: str) -> Answer:
        done = self._run("scontrol", "-o", "show", "job", job_id)
        if isinstance(done, str):
            return Answer("scontrol", failure=done)
        return told_of("scontrol", of_scontrol(done.stdout), job_id, done)

    def _scontrol_many(self, asked: Sequence[str]) -> Answers:
        """One question for each number: scontrol takes no list."""
        jobs: list[JobState] = []
        for number in asked:
            done = self._run("scontrol", "-o", "show", "job", number)
            answer = all_told("scontrol", done, of_scontrol)
            if answer.failure is not None:
                return answer
            jobs += answer.jobs
        return Answers.of("scontrol", jobs)

    def _sacct(self, job_id: str) -> Answer:
        done = self._run("sacct", "-X", "-n", "-P", "-j", job_id, "-o", ",".join(SACCT_COLUMNS))
        if isinstance(done, str):
            return Answer("sacct", failure=done)
        return told_of("sacct", of_sacct(done.stdout), job_id, done)

    def _sacct_many(self, asked: Sequence[str]) -> Answers:
        done = self._run("sacct", "-X", "-n", "-P", "-j", ",".join(asked), "-o", ",".join(SACCT_COLUMNS))
        return all_told("sacct", done, of_sacct)

    def _run(self, *command: str) -> Done:
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
            return MISSING
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


def _unasked(about: str, answers: Sequence[Answer | Answers]) -> SchedulerError:
    if all(answer.failure == MISSING for answer in answers):
        tools = [answer.tool for answer in answers]
        listed = f"neither {', '.join(tools[:-1])} nor {tools[-1]}"
        return SchedulerError(f"SLURM can't be asked: {listed} is on PATH of this host")
    told = [f"  {answer.tool}: {answer.failure or 'knows no such job'}" for answer in answers]
    return SchedulerError("\n".join([f"SLURM can't be asked about {about}:", *told]))


def _require_job_id(job_id: str) -> None:
    if not _JOB_ID.fullmatch(job_id):
        raise SchedulerError(f"{job_id!r} is no job id; give a number such as 123, or 123_4 for a task of an array")
