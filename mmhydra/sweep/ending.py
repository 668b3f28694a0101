"""Ends all jobs of a sweep, or says how to end what is no job."""

import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from mmhydra.files import read_object
from mmhydra.monitor.holder import Holder, read_holder
from mmhydra.monitor.reading import now_of, text
from mmhydra.monitor.words import count, python_module
from mmhydra.paths import short
from mmhydra.slurm import Scheduler, SchedulerError
from mmhydra.sweep.record import ARRAY_RECORD, DRIVER, Record, RecordError, SweepDirectory
from mmhydra.sweep.state.asking import Answer, named_jobs, scheduler
from mmhydra.sweep.state.best import run_of
from mmhydra.sweep.state.states import Memory, PointState, counts_in_words, read_states

_MOST_TOLD = 5  # local processes by name


class _Slurms:
    """The SLURMs of a sweep. One that does not answer keeps nobody from ending what is at work elsewhere."""

    def __init__(self) -> None:
        self.silent: dict[str | None, SchedulerError] = {}

    def ask(self, slurm_conf: str | None, job_ids: Collection[str]) -> Answer:
        """As `BulkAsker`."""
        if slurm_conf not in self.silent:  # it would be waited for twice
            with self.noting(slurm_conf):
                return scheduler(slurm_conf).states(job_ids)
        return self.silent[slurm_conf]

    @contextmanager
    def noting(self, slurm_conf: str | None) -> Iterator[None]:
        """Keeps what goes wrong with a SLURM for the end."""
        try:
            yield
        except SchedulerError as error:
            self.silent.setdefault(slurm_conf, error)


def cancel(sweep: SweepDirectory) -> Iterator[str]:
    """Cancels the jobs of a sweep and tells so, line by line. Raises SchedulerError at the end if a SLURM is silent.

    First the job that drives a search and arrays whose submitter was killed, for they would bring new jobs.
    """
    slurms = _Slurms()
    record = sweep.read()
    submitter = read_holder(sweep, now_of(sweep.path))
    if submitter is not None and submitter.alive:
        yield f"process {submitter.pid} on {submitter.host} may go on to submit; end it first, then type this again:"
        yield _kill(submitter)
    ended = False
    for line in (*_driver(sweep, slurms), *_arrays(sweep, slurms)):
        yield line
        ended = True
    yield from _points(sweep, record, slurms, ended=ended)
    if slurms.silent:
        told = "\n".join(str(error) for error in slurms.silent.values())
        raise SchedulerError(f"{told}\njobs there may be at work still; type this again when SLURM answers")


def _driver(sweep: SweepDirectory, slurms: _Slurms) -> Iterator[str]:
    """The job of a search's driver, if it is at work; also one whose submitter was killed before it noted the job."""
    document = read_object(sweep.search / DRIVER)
    conf, job = text(document.get("slurm_conf")), text(document.get("job_id"))
    with slurms.noting(conf):
        slurm = scheduler(conf)
        for job_id in _by_name(slurm, document) if job is None else [job]:
            state = slurm.state(job_id)
            if state is not None and state.is_active:
                slurm.cancel(job_id)
                yield f"job {job_id}, which drives the search, is being cancelled; it was {state.state}"


def _arrays(sweep: SweepDirectory, slurms: _Slurms) -> Iterator[str]:
    """Arrays that SLURM took and nobody noted. What they turn out to be later, the next submission finds."""
    for folder in sweep.arrays:
        document = read_object(folder / ARRAY_RECORD)
        conf = text(document.get("slurm_conf"))
        if conf in slurms.silent:
            continue
        with slurms.noting(conf):
            slurm = scheduler(conf)
            states = slurm.states(jobs) if (jobs := _by_name(slurm, document)) else {}
            active = [job for job, state in states.items() if state is not None and state.is_active]
            if active:
                slurm.cancel_many(active)
                name = document["name"]
                yield f"array {name}, whose submitter was killed, is being cancelled: {', '.join(active)}"


def _by_name(slurm: Scheduler, document: Mapping[str, Any]) -> list[str]:
    """Jobs of a name under which something was being submitted when nobody noted any more what came of it."""
    if document.get("state") != "submitting" or text(document.get("name")) is None:
        return []
    return named_jobs(slurm, document)


def _points(sweep: SweepDirectory, record: Record, slurms: _Slurms, *, ended: bool) -> Iterator[str]:
    states = read_states(sweep, record, Memory(ask=slurms.ask))
    points = [
        each for each in states if each.is_active and (each.job_id is None or each.slurm_conf not in slurms.silent)
    ]
    jobs: dict[str | None, list[PointState]] = {}
    local = []
    for each in points:
        if each.job_id is not None:
            jobs.setdefault(each.slurm_conf, []).append(each)
        else:
            local.append(each)
    cancelled: list[PointState] = []
    for conf, those in jobs.items():
        with slurms.noting(conf):
            scheduler(conf).cancel_many([each.job_id for each in those if each.job_id is not None])
        if conf in slurms.silent:
            continue
        cancelled += those
        yield (
            f"{count(len(those), 'job')} being cancelled; they were {counts_in_words(those)}"
            if len(those) > 1
            else (f"job {those[0].job_id} is being cancelled; it was {those[0].state}")
        )
    yield from _shared(sweep, cancelled)
    yield from _local(sweep, local)
    if cancelled:
        saved = sum(each.checkpoint is not None for each in cancelled)
        yield f"checkpoints are kept, {count(saved, 'run')} of these have one; this goes on from them:"
        yield python_module("train", shlex.join(record.command))
    elif not local and not ended and not slurms.silent:
        yield "nothing to cancel: nothing of this sweep is at work"


def _shared(sweep: SweepDirectory, cancelled: Sequence[PointState]) -> Iterator[str]:
    """Other sweeps that have the same runs: whoever looks after them should know why these ended."""
    ours = {run_of(each.point) for each in cancelled}
    for other in sweep.others() if ours else ():
        with suppress(RecordError):  # one that can't be read has no say in what ends here
            shared = ours & {run_of(point) for point in other.read().points if point.in_study}
            if shared:
                whose = "one of them is a run" if len(shared) == 1 else f"{len(shared):,} of them are runs"
                yield f"note: {whose} of the sweep {other.name} too, whose own command submits what is cancelled again"


def _local(sweep: SweepDirectory, points: list[PointState]) -> Iterator[str]:
    """Processes are for whoever started them to end."""
    if not points:
        return
    yield f"{count(len(points), 'point')} without a job at work; this ends {'it' if len(points) == 1 else 'them'}:"
    for each in points[:_MOST_TOLD]:
        run = sweep.run(each.point)
        holder = read_holder(run, now_of(run.path))
        yield _kill(holder) if holder is not None else f"touch {shlex.quote(short(run.trigger('stop')))}"
    if len(points) > _MOST_TOLD:
        shown = python_module("status", shlex.quote(short(sweep.path)), "--state", "running")
        yield f"and {len(points) - _MOST_TOLD:,} more: {shown}"


def _kill(holder: Holder) -> str:
    return f"kill {holder.pid}" if holder.is_here else f"ssh {holder.host} kill {holder.pid}"
