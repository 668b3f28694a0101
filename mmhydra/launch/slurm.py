"""Submits an attempt to SLURM through submitit, and leaves."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from submitit.core.utils import DelayedSubmission, FailedJobError, FailedSubmissionError
from submitit.slurm.slurm import SlurmExecutor

from mmhydra.compose import Request
from mmhydra.config.frozen import config_sha256, to_yaml
from mmhydra.config.schema import RunConfig
from mmhydra.errors import ExitCode, UserError
from mmhydra.files import read_object, write_atomic, write_json
from mmhydra.job.bridge import Bridge
from mmhydra.launch.batch import BRIDGE, BatchJob, Subject
from mmhydra.launch.naming import name_or_reason
from mmhydra.paths import short
from mmhydra.run.directory import Attempt, RunDirectory
from mmhydra.run.outcome import conclude, ended_for_good
from mmhydra.run.provenance import read_code, store_code
from mmhydra.run.snapshot import snapshot_of
from mmhydra.slurm.scheduler import Scheduler, SchedulerError

# What submitit raises if sbatch does not take a job, or can't be started.
REFUSALS = (FailedJobError, FailedSubmissionError, OSError, subprocess.SubprocessError)
NOT_SUBMITTED = "it was not submitted"  # the reason in the outcome of an attempt that sbatch did not take


class SubmissionError(UserError):
    """sbatch did not take the job."""


def was_refused(attempt: Attempt) -> bool:
    """Whether sbatch did not take it: it never began, whatever else is said of it."""
    return read_object(attempt.outcome).get("reason") == NOT_SUBMITTED


class _Executor(SlurmExecutor):
    """submitit asks for srun before it makes a script; a dry run needs none."""

    @classmethod
    def affinity(cls) -> int:
        """Always usable."""
        return 1


def script(job: BatchJob) -> str:
    """The batch script of a job."""
    return script_of(executor_of(job, job.subject))


def script_of(executor: SlurmExecutor) -> str:
    """The batch script that an executor would submit."""
    text: str = executor._make_submission_file_text(executor._submitit_command_str, "")
    return text


def submit_attempt(attempt: Attempt, job: BatchJob) -> str:
    """Submits a frozen attempt and returns the job's id. Raises SubmissionError with what sbatch said."""
    executor = executor_of(job, job.subject)
    try:
        bridge = _prepare(attempt, job)
        with as_configured(job):
            submitted = executor.submit(bridge)
    except REFUSALS as error:
        told = what_sbatch_said(error, job)
        conclude(attempt, ExitCode.CONFIG, told, requeue=False, reason=NOT_SUBMITTED)
        raise SubmissionError(told) from error
    job_id = str(submitted.job_id)
    document = {
        "job_id": job_id,
        "cluster": job.config.cluster.name,
        "submitted": datetime.now(UTC).isoformat(),
        "script": str(submitted.paths.submission_file),
    }
    write_json(attempt.submitted, document)
    return job_id


def batch_job(attempt: Attempt, config: RunConfig) -> BatchJob:
    """The job of a frozen attempt."""
    provenance = attempt.provenance()
    snapshot = snapshot_of(provenance)
    assert snapshot is not None, "what is frozen now stores its code"
    run_path = attempt.run.path
    return BatchJob(config, provenance["run_id"], provenance["config_sha256"], run_path, attempt.path, snapshot)


def planned_job(request: Request) -> BatchJob:
    """The job that a request would become; nothing is written. Raises UserError for what a start would refuse."""
    config = request.config
    run_id = name_or_reason(config).partition(" ")[0]  # or `pending`
    outputs = Path(config.paths.outputs)
    run = request.run or RunDirectory(outputs / config.name / run_id)
    snapshot = store_code(read_code()[0], outputs, keep=False)
    return BatchJob(config, run.path.name, config_sha256(to_yaml(config)), run.path, run.next_attempt, snapshot)


def require_no_job(run: RunDirectory) -> None:
    """Refuses a second start beside a job that is queued or runs. Raises UserError, also where SLURM can't be asked."""
    submitted = [attempt for attempt in run.attempts if attempt.submitted.exists()]
    if not submitted:
        return
    attempt = submitted[-1]
    job_id = json.loads(attempt.submitted.read_text())["job_id"]
    try:
        slurm = attempt.read_frozen()[0].cluster.slurm
    except UserError:  # an attempt that was edited: the next one is frozen anew
        slurm = None
    try:
        state = Scheduler(slurm.slurm_conf if slurm is not None else None).state(job_id)
    except SchedulerError as error:
        if ended_for_good(run.attempts[-1]):
            return  # it ended, and what it said last is not that it runs again
        raise UserError(
            f"the run {run.path} may be under way as SLURM job {job_id}, and {error}\n"
            f"if you know that this job is gone, type rm {short(attempt.submitted)}"
        ) from error
    if state is not None and state.is_active:
        python, place = short(Path(sys.executable)), short(run.path)
        raise UserError(
            f"the run {run.path} is under way as SLURM job {job_id} ({state.state}); to look at it type\n"
            f"  {python} -m mmhydra.status {place}\nto end it\n  {python} -m mmhydra.cancel {place}"
        )


def write_script(attempt: Attempt, job: BatchJob) -> Path:
    """Writes the batch script of a frozen attempt, for a person to submit. Raises SubmissionError."""
    file = job.submitit_folder / "submit.sh"
    try:
        _prepare(attempt, job)
        write_atomic(file, f"{script(job).rstrip()}\n".encode())
    except OSError as error:
        raise SubmissionError(f"the batch script can't be written: {error}") from error
    return file


def _prepare(attempt: Attempt, job: BatchJob) -> Bridge:
    """Writes what a task runs, for whatever job starts it."""
    bridge = Bridge(str(attempt.path))
    job.submitit_folder.mkdir(exist_ok=True)
    DelayedSubmission(bridge).dump(job.submitit_folder / BRIDGE)
    return bridge


def executor_of(job: BatchJob, subject: Subject) -> SlurmExecutor:
    """What makes and submits the script of a job, for its run or for several that ask for the same."""
    executor = _Executor(folder=subject.folder, python=job.python)
    executor.update_parameters(**job.parameters(subject))
    return executor


@contextmanager
def as_configured(job: BatchJob) -> Iterator[None]:
    """The variables that sbatch sees: SLURM_CONF as the cluster says, and no other of SLURM's.

    SBATCH_PARTITION of a shell would win over what the script says, and what an salloc has set would reach the job.
    """
    before = dict(os.environ)
    for name in before:
        if name.startswith(("SBATCH_", "SLURM_")) and name != "SLURM_CONF":
            del os.environ[name]
    if job.slurm.slurm_conf is not None:
        os.environ["SLURM_CONF"] = job.slurm.slurm_conf
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def what_sbatch_said(error: Any, job: BatchJob) -> str:
    """Why a submission failed; `error` is one of REFUSALS."""
    if isinstance(error, OSError):
        return f"the job could not be handed to sbatch: {error}"
    cause = error.__cause__
    said = getattr(cause, "stderr", None) or getattr(cause, "output", None) or str(error)
    text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
    return f"cluster={job.config.cluster.name} did not take the job, sbatch says: {text.strip()}"
