"""The driver of a search as a SLURM job: one small task, which SLURM starts again when its time is up."""

import secrets
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from submitit.slurm.slurm import SlurmExecutor

from mmhydra.errors import ExitCode, UserError
from mmhydra.files import read_object, write_json
from mmhydra.launch.batch import BatchJob
from mmhydra.launch.search.setting import read_setting
from mmhydra.launch.slurm import REFUSALS, SubmissionError, as_configured, what_sbatch_said
from mmhydra.slurm import JobState, Scheduler, SchedulerError
from mmhydra.sweep.record import DRIVER, SweepDirectory
from mmhydra.sweep.state.asking import named_jobs
from mmhydra.sweep.study.space import Driver

_SIGNAL_DELAY_S = 60  # before its time is up: it ends, and the script asks for the next time


@dataclass(frozen=True)
class DriverJob:
    """`as_run` is a run on the cluster that takes the driver: it says which SLURM that is, and how to ask it."""

    sweep: SweepDirectory
    driver: Driver
    as_run: BatchJob

    @property
    def file(self) -> Path:
        """What is known of the job; E.g. `python -m mmhydra.cancel` reads it."""
        return self.sweep.search / DRIVER

    def parameters(self, name: str) -> dict[str, Any]:
        """For `SlurmExecutor.update_parameters`. It asks for no GPU, and needs none of what the trials need."""
        cluster, slurm = self.as_run.config.cluster, self.as_run.slurm
        return {
            "job_name": name,
            "partition": self.driver.partition or cluster.partition,
            "account": slurm.account,
            "qos": slurm.qos,
            "time": self.driver.time_limit_min or cluster.time_limit_min,
            "nodes": 1,
            "ntasks_per_node": 1,
            "cpus_per_task": 1,
            "comment": f"mmhydra driver of the search {self.sweep.name}",
            "signal_delay_s": _SIGNAL_DELAY_S,
            "setup": [*slurm.setup, *self._exports()],
            "teardown": [
                "code=$?",
                f'[ "$code" != {int(ExitCode.PREEMPTED)} ] || scontrol requeue "$SLURM_JOB_ID"',
                'exit "$code"',
            ],
            "additional_parameters": {"requeue": True, "chdir": str(self.sweep.search)},
        }

    def _exports(self) -> list[str]:
        variables: Mapping[str, str] = {
            **read_setting(self.sweep).environment,
            **self.as_run.slurm.environment,
            "PYTHONPATH": str(self.as_run.snapshot.path),
            "PYTHONSAFEPATH": "1",
        }
        return [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]


def submit_driver(job: DriverJob) -> str:
    """Submits the driver unless it is there already; returns its job id. For whoever holds the sweep's lease.

    Raises SubmissionError, also where nobody can tell whether sbatch took it, and SchedulerError where nobody knows
    whether there is one of an earlier command.
    """
    there = driver_job(job.sweep)
    if there is not None:
        return there.job_id
    name = f"{job.sweep.name}-driver-{secrets.token_hex(4)}"
    conf = job.as_run.slurm.slurm_conf
    document = {"state": "submitting", "name": name, "slurm_conf": conf, "written": datetime.now(UTC).isoformat()}
    write_json(job.file, document)
    try:
        with as_configured(job.as_run):
            executor = SlurmExecutor(folder=job.sweep.search, python=shlex.quote(sys.executable))
            executor.update_parameters(**job.parameters(name))
            command = f"{shlex.quote(sys.executable)} -u -m mmhydra.drive {shlex.quote(str(job.sweep.path))}"
            submitted = executor._submit_command(command)
        job_id = str(submitted.job_id)
    except REFUSALS as error:
        job_id = _taken_all_the_same(job, document, error)
    write_json(job.file, {**document, "state": "submitted", "job_id": job_id})
    return job_id


def driver_job(sweep: SweepDirectory) -> JobState | None:
    """The job that drives a search, if it is queued or runs. Raises SchedulerError."""
    document = read_object(sweep.search / DRIVER)
    if not document:
        return None
    job_id = document.get("job_id") or _found(document)
    if job_id is None:
        return None
    if "job_id" not in document:  # its submitter was killed
        write_json(sweep.search / DRIVER, {**document, "state": "submitted", "job_id": job_id})
    state = _scheduler(document).state(str(job_id))
    return state if state is not None and state.is_active else None


def _taken_all_the_same(job: DriverJob, document: Mapping[str, Any], error: Exception) -> str:
    """The driver that sbatch says it could not submit: a slow controller may have taken it. Raises SubmissionError."""
    told = what_sbatch_said(error, job.as_run)
    try:
        job_id = _found(document)
    except SchedulerError as unasked:
        raise SubmissionError(
            f"{told}\nwhether SLURM has taken the driver {document['name']} can't be found out: {unasked}\n"
            "type the same command again: nothing is submitted twice"
        ) from error
    if job_id is None:
        job.file.unlink()
        raise SubmissionError(told) from error
    return job_id


def _found(document: Mapping[str, Any]) -> str | None:
    return next(iter(named_jobs(_scheduler(document), document)), None)


def _scheduler(document: Mapping[str, Any]) -> Scheduler:
    return Scheduler(document.get("slurm_conf"))


def require_slurm(job: BatchJob) -> None:
    """Raises UserError for a cluster that takes no jobs."""
    if job.config.cluster.slurm is None:
        raise UserError(
            f"search.driver.where is job, and cluster={job.config.cluster.name} takes no jobs; type where: here, or "
            "cluster: NAME of a SLURM cluster beside it"
        )
