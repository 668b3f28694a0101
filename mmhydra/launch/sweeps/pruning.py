"""Points that a study has not any more: told, and with --prune cancelled and taken out of the record."""

import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from rich.console import Console

from mmhydra.errors import UserError
from mmhydra.files import read_object
from mmhydra.launch.sweeps.recording import Key, key_of
from mmhydra.monitor.words import count_are, python_module
from mmhydra.paths import short
from mmhydra.sweep.record import ARRAY_RECORD, Record, RecordedPoint, RecordError, SweepDirectory
from mmhydra.sweep.state.asking import scheduler
from mmhydra.sweep.state.states import PointState, read_states
from mmhydra.sweep.study.overrides import label_in_words

_NAMED = 3  # points that a line names


def _removed_of(record: Record) -> list[RecordedPoint]:
    """Points of earlier commands that the last one did not have."""
    return [point for point in record.points if not point.in_study]


def tell_removed(console: Console, record: Record) -> None:
    """Says which points are not in the study any more, and what to type."""
    if removed := _removed_of(record):
        console.print(
            f"note: not in the study any more: {_in_words(removed)}; --prune beside -m cancels their jobs and takes "
            "them out of the sweep, their runs stay",
            markup=False,
        )


def prune(console: Console, sweep: SweepDirectory, record: Record) -> Record:
    """Cancels the jobs of removed points and drops these from the record. For whoever holds the lease.

    A run that another sweep has too goes on. Jobs that wait for a cancelled one are cancelled with it: SLURM would
    never start them, and their points may be due again. Raises UserError where it is not known what another sweep has,
    and SchedulerError where SLURM refuses; the record then stays.
    """
    removed = _removed_of(record)
    if not removed:
        return record
    active = [state for state in read_states(sweep, record) if state.is_active]
    staying = [state for state in active if state.point.in_study]
    active = [state for state in active if not state.point.in_study]
    elsewhere = set(_of_other_sweeps(sweep)) if active else set()
    ours = [state for state in active if key_of(state.point) not in elsewhere]
    jobs: dict[str | None, list[str]] = {}
    for state in ours:
        if state.job_id is not None:
            jobs.setdefault(state.slurm_conf, []).append(state.job_id)
    num_cancelled = sum(map(len, jobs.values()))
    waiting = _waiting_for(sweep, {job_id for job_ids in jobs.values() for job_id in job_ids}, staying)
    for state in waiting:
        assert state.job_id is not None, "what waits is a job"
        jobs.setdefault(state.slurm_conf, []).append(state.job_id)
    for conf, job_ids in jobs.items():
        scheduler(conf).cancel_many(job_ids)
    told = [f"{count_are(len(removed), 'point')} taken out of the sweep ({_in_words(removed)})"]
    told.append(f"{count_are(num_cancelled, 'job')} cancelled; the runs stay where they are")
    console.print("; ".join(told), markup=False)
    if waiting:
        told_of = f"{count_are(len(waiting), 'job')} cancelled too: they waited for these, and are submitted anew"
        console.print(f"note: {told_of}", markup=False)
    if len(active) > len(ours):
        console.print(f"note: {len(active) - len(ours)} of them go on, another sweep has them too", markup=False)
    for state in ours:
        if state.job_id is None:
            _tell_local(console, sweep, state)
    kept = replace(record, points=tuple(point for point in record.points if point.in_study))
    sweep.write(kept)
    return kept


def _tell_local(console: Console, sweep: SweepDirectory, state: PointState) -> None:
    place = short(sweep.run(state.point).path)
    command = python_module("cancel", shlex.quote(place))
    console.print(f"note: {place} runs on this machine; to end it type {command}", markup=False)


def _waiting_for(sweep: SweepDirectory, cancelled: Collection[str], staying: Sequence[PointState]) -> list[PointState]:
    """Points that wait in SLURM for one of some jobs, or for one that waits for these."""
    dependencies = {}
    for folder in sweep.arrays:
        document = read_object(folder / ARRAY_RECORD)
        kind, _, job_id = str(document.get("dependency")).partition(":")
        if job_id:
            dependencies[str(document.get("job_id"))] = kind, job_id
    gone = set(cancelled)
    found: list[PointState] = []
    left = [state for state in staying if state.state == "pending" and state.job_id is not None]
    while True:
        more = [state for state in left if _awaited(str(state.job_id), dependencies) in gone]
        if not more:
            return found
        found += more
        gone |= {str(state.job_id) for state in more}
        left = [state for state in left if str(state.job_id) not in gone]


def _awaited(job_id: str, dependencies: Mapping[str, tuple[str, str]]) -> str | None:
    """The job that a task waits for."""
    array, _, index = job_id.rpartition("_")
    kind, awaited = dependencies.get(array, ("", ""))
    return f"{awaited}_{index}" if kind == "aftercorr" else awaited or None


def _of_other_sweeps(sweep: SweepDirectory) -> Iterator[Key]:
    for other in sweep.others():
        try:
            points = other.read().points
        except RecordError as error:
            raise UserError(f"--prune cancels no job of a run that another sweep has too, and {error}") from error
        yield from (key_of(point) for point in points if point.in_study)


def _in_words(points: Sequence[RecordedPoint]) -> str:
    named = [label_in_words(point.label) or point.run_id for point in points]
    more = f", and {len(points) - _NAMED} more" if len(points) > _NAMED else ""
    return ", ".join(named[:_NAMED]) + more
