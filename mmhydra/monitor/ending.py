"""Ends a run's job, or says how to end what is no job."""

from collections.abc import Iterator

from mmhydra.checkpoint.stamp import stamped_steps
from mmhydra.errors import UserError
from mmhydra.monitor.facts import scheduler_of
from mmhydra.monitor.find import job_id
from mmhydra.monitor.holder import read_holder
from mmhydra.monitor.reading import now_of
from mmhydra.monitor.words import count, python_module
from mmhydra.paths import short
from mmhydra.run.directory import Attempt, RunDirectory
from mmhydra.slurm import JobState, Scheduler

_MAX_JOBS = 5  # the newest ones of a run are asked for


def cancel(run: RunDirectory) -> Iterator[str]:
    """Cancels the run's jobs and tells so, line by line. Raises SchedulerError if SLURM can't be asked or refuses."""
    attempts = run.attempts
    jobs = list(dict.fromkeys(job for attempt in reversed(attempts) if (job := job_id(attempt)) is not None))[
        :_MAX_JOBS
    ]
    scheduler = _scheduler(attempts) if jobs else Scheduler()
    states = {job: scheduler.state(job) for job in jobs}
    active = {job: state for job, state in states.items() if state is not None and state.is_active}
    for job, state in active.items():
        scheduler.cancel(job)
        yield f"job {job} is being cancelled; it was {_was(state)}"
    if active:
        yield from _kept(run)
        return
    holder = read_holder(run, now_of(run.path))
    if holder is not None and holder.alive:
        yield f"no job, but process {holder.pid} on {holder.host} is at work; this ends it:"
        yield f"kill {holder.pid}" if holder.is_here else f"ssh {holder.host} kill {holder.pid}"
        yield "and this lets it save a checkpoint first:"
        yield f"touch {short(run.trigger('stop'))}"
        return
    newest = states.get(jobs[0]) if jobs else None
    told = (
        f": job {jobs[0]} {'is ' + newest.state if newest is not None else 'is no longer known to SLURM'}"
        if jobs
        else ""
    )
    yield f"nothing to cancel{told or ': nothing of this run is at work'}"


def _scheduler(attempts: list[Attempt]) -> Scheduler:
    for attempt in reversed(attempts):
        try:
            return scheduler_of(attempt.read_frozen()[0])
        except (UserError, OSError):
            continue
    return Scheduler()


def _was(job: JobState) -> str:
    where = f" on {count(len(job.nodes), 'node')}" if job.nodes else ""
    return f"{job.state}{where}"


def _kept(run: RunDirectory) -> Iterator[str]:
    steps = stamped_steps(run.checkpoints)
    if not steps:
        yield "there is no checkpoint yet"
        return
    yield f"the checkpoint of step {steps[-1]} is kept; this goes on from it:"
    yield python_module("train", f"resume={short(run.path)}")
