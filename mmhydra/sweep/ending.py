"""Ends all jobs of a sweep, or says how to end what is no job."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from mmhydra.files import read_object
from mmhydra.monitor.holder import Holder, read_holder
from mmhydra.monitor.reading import now_of, text
from mmhydra.monitor.words import count, python_module
from mmhydra.paths import short
from mmhydra.slurm import Scheduler
from mmhydra.sweep.record import RECORD, Record, RecordError, SweepDirectory
from mmhydra.sweep.state.asking import must_answer, scheduler
from mmhydra.sweep.state.best import run_of
from mmhydra.sweep.state.states import ARRAY, DRIVER, Memory, PointState, read_states

_MOST_TOLD = 5  # local processes by name


def cancel(sweep: SweepDirectory) -> Iterator[str]:
    """Cancels the jobs of a sweep and tells so, line by line. Raises SchedulerError if a SLURM can't be asked.

    First the job that drives a search and arrays whose submitter was killed, for they would bring new jobs.
    """
    record = sweep.read()
    submitter = read_holder(sweep, now_of(sweep.path))
    if submitter is not None and submitter.alive:
        yield f"process {submitter.pid} on {submitter.host} may go on to submit; end it first, then type this again:"
        yield _kill(submitter)
    ended = False
    for line in (*_driver(sweep), *_arrays(sweep)):
        yield line
        ended = True
    yield from _points(sweep, record, ended=ended)


def _driver(sweep: SweepDirectory) -> Iterator[str]:
    """The job of a search's driver, if it is at work; also one whose submitter was killed before it noted the job."""
    document = read_object(sweep.search / DRIVER)
    slurm = scheduler(text(document.get("slurm_conf")))
    job = text(document.get("job_id"))
    for job_id in _by_name(slurm, document) if job is None else [job]:
        state = slurm.state(job_id)
        if state is not None and state.is_active:
            slurm.cancel(job_id)
            yield f"job {job_id}, which drives the search, is being cancelled; it was {state.state}"


def _arrays(sweep: SweepDirectory) -> Iterator[str]:
    """Arrays that SLURM took and nobody noted. What they turn out to be later, the next submission finds."""
    for folder in sweep.arrays:
        document = read_object(folder / ARRAY)
        slurm = scheduler(text(document.get("slurm_conf")))
        states = slurm.states(jobs) if (jobs := _by_name(slurm, document)) else {}
        active = [job for job, state in states.items() if state is not None and state.is_active]
        if active:
            slurm.cancel_many(active)
            name = document["name"]
            yield f"array {name}, whose submitter was killed, is being cancelled: {', '.join(active)}"


def _by_name(slurm: Scheduler, document: Mapping[str, Any]) -> list[str]:
    """Jobs of a name under which something was being submitted when nobody noted any more what came of it."""
    name, written = text(document.get("name")), text(document.get("written"))
    if document.get("state") != "submitting" or name is None:
        return []
    return slurm.find_by_name(name, None if written is None else datetime.fromisoformat(written))


def _points(sweep: SweepDirectory, record: Record, *, ended: bool) -> Iterator[str]:
    points = [each for each in read_states(sweep, record, Memory(ask=must_answer)) if each.is_active]
    jobs: dict[str | None, list[PointState]] = {}
    local = []
    for each in points:
        if each.job_id is not None:
            jobs.setdefault(each.slurm_conf, []).append(each)
        else:
            local.append(each)
    for conf, those in jobs.items():
        scheduler(conf).cancel_many([each.job_id for each in those if each.job_id is not None])
        kinds = {state: sum(each.state == state for each in those) for state in dict.fromkeys(e.state for e in those)}
        told = ", ".join(f"{many:,} {state}" for state, many in kinds.items())
        yield (
            f"{count(len(those), 'job')} being cancelled; they were {told}"
            if len(those) > 1
            else (f"job {those[0].job_id} is being cancelled; it was {those[0].state}")
        )
    yield from _shared(sweep, [each for those in jobs.values() for each in those])
    yield from _local(sweep, local)
    if jobs:
        saved = sum(each.checkpoint is not None for those in jobs.values() for each in those)
        yield f"checkpoints are kept, {count(saved, 'run')} of these have one; this goes on from them:"
        yield python_module("train", shlex.join(record.command))
    elif not local and not ended:
        yield "nothing to cancel: nothing of this sweep is at work"


def _shared(sweep: SweepDirectory, cancelled: Sequence[PointState]) -> Iterator[str]:
    """Other sweeps that have the same runs: whoever looks after them should know why these ended."""
    ours = {run_of(each.point) for each in cancelled}
    for record in sorted(sweep.path.parent.glob(f"*/{RECORD}")) if ours else ():
        other = SweepDirectory(record.parent)
        if other.name == sweep.name:
            continue
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
        yield _kill(holder) if holder is not None else f"touch {short(run.trigger('stop'))}"
    if len(points) > _MOST_TOLD:
        yield f"and {len(points) - _MOST_TOLD:,} more: python -m mmhydra.status {short(sweep.path)} --state running"


def _kill(holder: Holder) -> str:
    return f"kill {holder.pid}" if holder.is_here else f"ssh {holder.host} kill {holder.pid}"
