"""A sweep at one moment: its points, what they have cost, which is best, what to type next."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from mmhydra.errors import UserError
from mmhydra.files import read_object
from mmhydra.monitor.holder import Holder, read_holder
from mmhydra.monitor.reading import now_of, text
from mmhydra.monitor.words import count, python_module
from mmhydra.paths import short
from mmhydra.slurm import JobState, SchedulerError
from mmhydra.sweep.record import DRIVER, Record, SweepDirectory
from mmhydra.sweep.state.best import best, run_of
from mmhydra.sweep.state.labels import axes_of, evaluates
from mmhydra.sweep.state.parents import NOT_CHOSEN, at_most
from mmhydra.sweep.state.states import (
    ACTIVE,
    LATER,
    Memory,
    PointState,
    State,
    counts_of,
    needs_submission,
    read_states,
)
from mmhydra.sweep.state.stop import met, read_stop, used_gpu_hours

FAILED: tuple[State, ...] = ("failed", "stopped", "gone", "preempted")
_OVER: tuple[State, ...] = ("done", "unchosen")
_OVER_IN_A_SEARCH: tuple[State, ...] = (*_OVER, "stopped", "cancelled")


@dataclass(frozen=True)
class Overview:
    """A sweep. `states` are those of the record's points, in its order; the study has those of `points` now."""

    sweep: SweepDirectory
    record: Record
    states: list[PointState]
    submitter: Holder | None  # who submits or drives it; None if nobody ever did
    driver: JobState | None  # the job that drives a search, if there is one and SLURM knows it
    stop: Mapping[str, Any]  # what the program minds of the stop rule
    stop_met: str | None  # in words
    is_search: bool = False  # its points are trials, some of which it ends early: for it stopped ones are over
    most_runs: int | None = None  # of a search: so many it can have at most; None where its study does not say so

    @property
    def points(self) -> list[PointState]:
        """Points that are in the study."""
        return [each for each in self.states if each.point.in_study]

    @property
    def dropped(self) -> list[PointState]:
        """Points of earlier commands that the study has not any more."""
        return [each for each in self.states if not each.point.in_study]

    @property
    def axes(self) -> list[str]:
        """Keys of labels that vary."""
        return axes_of([each.point for each in self.states])

    @property
    def counts(self) -> dict[State, int]:
        """Points of the study by state, in the order of `STATES`, those that there are."""
        return counts_of(self.points)

    @property
    def ranked(self) -> list[PointState]:
        """Points of the study with a value, the best first."""
        return best(self.points, self.record)

    @property
    def leader(self) -> PointState | None:
        """The best point, if any has a value."""
        return next(iter(self.ranked), None)

    @property
    def due(self) -> list[PointState]:
        """Points of the study but for those that their stage has not chosen."""
        return [each for each in self.points if each.state != "unchosen"]

    @property
    def steps_due(self) -> int:
        """Steps that these take."""
        return sum(each.num_steps for each in self.due)

    @property
    def steps_made(self) -> int:
        """Of them so many are made."""
        return sum(min(each.step, each.num_steps) for each in self.due)

    @property
    def evaluations(self) -> list[PointState]:
        """Those of them that take no step, and only measure."""
        return [each for each in self.due if evaluates(each.point)]

    @property
    def num_measured(self) -> int:
        """How many evaluations have their value."""
        return sum(each.best is not None for each in self.evaluations)

    @property
    def stop_limits(self) -> str:
        """What the program minds of the stop rule, as the study says it."""
        return ", ".join(f"{key} {value}" for key, value in self.stop.items() if value is not None)

    @property
    def used_gpu_hours(self) -> float | None:
        """GPU-hours so far; None where no cluster of the sweep counts GPUs."""
        return used_gpu_hours(self.states)

    @property
    def usd(self) -> float:
        """The price of them."""
        return sum((each.gpu_hours or 0.0) * each.usd_per_gpu_hour for each in self.states)

    @property
    def planned_gpu_hours(self) -> float | None:
        """At most so many if all points run to the end; of stages that choose, as many points as they can choose."""
        if all(each.point.gpu_hours is None for each in self.points):
            return None
        hours = {run_of(each.point): each.point.gpu_hours or 0.0 for each in self.points}
        return sum(hours[run] for run in at_most([each.point for each in self.points], hours))

    @property
    def failed(self) -> list[PointState]:
        """Points of the study that a person should look at, the first of each kind first."""
        kinds = [state for state in FAILED if not (self.is_search and state == "stopped")]
        return [each for state in kinds for each in self.points if each.state == state]

    @property
    def elapsed_s(self) -> float:
        """Seconds that machines of any kind were at work, all points together."""
        return sum(each.elapsed_s or 0.0 for each in self.states)

    @property
    def is_submitting(self) -> bool:
        """Whether a process submits or drives it now, or waits in a queue to do so."""
        queued = self.driver is not None and self.driver.is_active
        return queued or (self.submitter is not None and self.submitter.alive)

    @property
    def is_active(self) -> bool:
        """Whether anything happens without anybody's doing."""
        return self.is_submitting or any(each.is_active for each in self.states)

    @property
    def state(self) -> str:
        """In one word: running, pending, done, failed, or open, which is none of these."""
        found = {each.state for each in self.points}
        if any(each.is_active for each in self.points) or self.is_submitting:
            waits = found & set(ACTIVE) <= {"pending", "waiting"}
            return "pending" if waits and not self.is_submitting else "running"
        if found <= set(_OVER_IN_A_SEARCH if self.is_search else _OVER) and "done" in found:
            return "done"
        return "failed" if self.failed else "open"

    @property
    def is_search_over(self) -> bool:
        """Whether a search has as many runs as it can have, and all are over."""
        over = sum(each.state in _OVER_IN_A_SEARCH for each in self.points)
        return self.most_runs is not None and over >= self.most_runs

    @property
    def problems(self) -> list[str]:
        """What a person should know."""
        told = []
        unasked = [each for each in self.states if each.remark is not None and "SLURM can't be asked" in each.remark]
        if unasked:
            told.append(f"SLURM can't be asked: {count(len(unasked), 'point')} as files tell, which may be late")
        active = [each for each in self.dropped if each.is_active]
        if active:
            told.append(
                f"{count(len(active), 'point')} not in the study any more, and at work; --prune cancels what is not"
                " in the study"
            )
        never = [each for each in self.states if each.remark is not None and "will never start" in each.remark]
        if never:
            told.append(f"{count(len(never), 'job')} will never start: {never[0].remark}")
        return told


def read_overview(sweep: SweepDirectory, memory: Memory | None = None) -> Overview:
    """Reads the record, the points and who is at work on them. Raises RecordError."""
    memory = memory or Memory()
    record = sweep.read()
    states, is_search = read_states(sweep, record, memory), sweep.is_search
    if is_search:
        states = [_as_trial(each) for each in states]
    stop = read_stop(sweep)
    stop_met = met(stop, record, [each for each in states if each.point.in_study])
    submitter = read_holder(sweep, now_of(sweep.path))
    driver, most_runs = _driver(sweep, memory), _most_runs(sweep) if is_search else None
    return Overview(sweep, record, states, submitter, driver, stop, stop_met, is_search, most_runs)


def _as_trial(each: PointState) -> PointState:
    """A search ends a trial as a person ends a run, by a file; the run can't tell who wrote it."""
    if each.state == "stopped" and "(file `stop`)" in (each.remark or ""):
        return replace(each, remark=f"ended early at step {each.step:,}")
    return each


def _driver(sweep: SweepDirectory, memory: Memory) -> JobState | None:
    document = read_object(sweep.search / DRIVER)
    job_id = text(document.get("job_id"))
    if job_id is None:
        return None
    answer = memory.ask_driver(text(document.get("slurm_conf")), [job_id])
    return None if isinstance(answer, SchedulerError) else answer.get(job_id)


def _most_runs(sweep: SweepDirectory) -> int | None:
    from mmhydra.sweep.study.files import read_study  # not above: it takes a tenth of `status`, and few are searches

    try:
        search = read_study(sweep.study, None).search
    except UserError:
        return None
    return None if search is None else search.num_runs


def commands(overview: Overview) -> dict[str, str]:
    """What to type next, by purpose; at least how to come to the report."""
    sweep, place = overview.sweep, shlex.quote(short(overview.sweep.path))
    found = {}
    failed = overview.failed
    if failed:
        found["why"] = python_module("logs", shlex.quote(short(sweep.run(failed[0].point).path)))
    if overview.is_active:
        found["follow"] = python_module("status", place, "--watch")
        found["cancel"] = python_module("cancel", place)
    elif overview.is_search:
        if not overview.is_search_over:
            found["go on"] = python_module("drive", place)
    elif any(needs_submission(each.state) for each in overview.points):
        found["go on"] = python_module("train", shlex.join(overview.record.command))
    coming = (each for each in overview.points if each.state in LATER)
    if any(not (each.remark or "").startswith(NOT_CHOSEN) for each in coming) and not overview.is_submitting:
        found["later stages"] = python_module("drive", place)
    stopped = next((each for each in failed if each.state == "stopped"), None)
    if stopped is not None:
        run = shlex.quote(short(sweep.run(stopped.point).path))
        found["if you so decide"] = python_module("train", f"resume={run}")
    found["report"] = python_module("report", place)
    return found
