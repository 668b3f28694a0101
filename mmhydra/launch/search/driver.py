"""Drives a search: asks for trials while slots are free, follows them, ends bad ones, tells how they ended.

Nothing that it knows is in memory alone. What it asked is in the journal before a run starts, and a run is found again
by its id: so a driver may be killed at any moment, and the next one goes on, with no trial lost and none run twice.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

from mmhydra.errors import ExitCode, UserError
from mmhydra.launch.search.book import Book, Trial
from mmhydra.launch.search.trials import Candidate
from mmhydra.launch.slurm import was_refused
from mmhydra.launch.sweeps.recording import Key, key_of
from mmhydra.monitor.words import count
from mmhydra.run.status import read_status
from mmhydra.sweep.record import Record, RecordedPoint, SweepDirectory
from mmhydra.sweep.state.asking import BulkAsker
from mmhydra.sweep.state.curves import Curves, best_step
from mmhydra.sweep.state.states import ACTIVE, Memory, PointState, read_states
from mmhydra.sweep.state.stop import met
from mmhydra.sweep.study.space import Choice, Search, texts

POLL_S = 1.0
_ASK_S = 10.0  # between two questions to SLURM; how a run ended is in its files, at once
_REFUSALS = 3
_RETRY_S = 60.0
_FAILED_IN_A_ROW = 5  # then something is wrong that no other values cure


class Runs(Protocol):
    """How the runs of trials start and end. They live on when the driver does not."""

    def start(self, candidates: Sequence[Candidate]) -> None:
        """Starts or submits runs that nobody has under way; UserError for one that can't be."""

    def starting(self, candidate: Candidate) -> bool:
        """Whether a process was started for a run that has written nothing yet."""

    def refusal(self, candidate: Candidate) -> str | None:
        """Why its process ended before the run began; None if it did not, or is not over."""

    def end(self, state: PointState) -> None:
        """Asks a run to save and end, or takes it out of the queue."""


@dataclass
class _Way:
    """A trial that is under way."""

    trial: Trial
    candidate: Candidate
    is_new: bool  # this driver asked for it


@dataclass
class Driver:
    """One process that has the book open, and the sweep's lease."""

    sweep: SweepDirectory
    record: Record
    search: Search
    book: Book
    compose: Callable[[int, Mapping[str, Choice]], Candidate]
    runs: Runs
    stop: Mapping[str, Any] = field(default_factory=dict)  # the study's stop rule, as far as a program minds it
    say: Callable[[str], None] = print
    poll_s: float = POLL_S
    memory: Memory = field(default_factory=lambda: Memory(Curves(), BulkAsker(_ASK_S)))
    _ways: dict[int, _Way] = field(default_factory=dict)
    _ending: dict[int, RecordedPoint] = field(default_factory=dict)  # trials that were ended, whose runs still save
    _enough: str | None = None  # why nothing more is asked for
    _failed: list[int] = field(default_factory=list)  # in a row, under this driver: the next one tries again
    _refusals: int = 0  # of submissions, in a row
    _not_before: float = 0.0

    def run(self) -> ExitCode:
        """Drives to the end: all trials told, all of their runs over. FAILED if no trial came to its end."""
        self.take_up()
        while self.round():
            time.sleep(self.poll_s)
        done = [trial for trial in self.book.trials if trial.state == "done"]
        return ExitCode.DONE if done else ExitCode.FAILED

    @property
    def under_way(self) -> int:
        """Slots that are taken. Trials of equal values share a run, and take a slot each until it ends."""
        return len(self._ways)

    def round(self) -> bool:
        """One look at everything. Returns whether anything is left to wait for."""
        states = self._look([way.candidate.recorded for way in self._ways.values()])
        due = self._follow_all(states)
        asked = self._fill()
        self._start([*due, *(way.candidate for way in asked)])
        self._wait_for_the_ended()
        return bool(self._ways or self._ending or self._may_ask())

    # ------------------------------------------------------------ trials of a driver before this one

    def take_up(self) -> None:
        """Goes on with what a driver before left under way."""
        trials = self.book.trials
        for trial in trials:
            if trial.state == "running":
                self._adopt(self.book.complete(trial))
        by_number = {point.number: point for point in self.record.points}
        ended = [by_number[trial.number] for trial in trials if trial.state == "pruned" and trial.number in by_number]
        # One without the file has taken note of it, or somebody has started it again since.
        self._ending = {point.number: point for point in ended if self.sweep.run(point).trigger("stop").exists()}
        if self._ways:
            self.say(f"goes on with {len(self._ways)} of {count(len(trials), 'trial')} that are under way")

    def _adopt(self, trial: Trial, *, is_new: bool = False) -> _Way | None:
        """Takes a trial into the record and among those under way; None if it can't be a run."""
        try:
            candidate = self.compose(trial.number, trial.values)
        except UserError as error:
            self._tell(trial, "failed", None, f"can't be run: {error}")
            return None
        if trial.notes.get("run_id") != candidate.recorded.run_id:
            trial = self.book.note(trial, "run_id", candidate.recorded.run_id)
        way = self._ways[trial.number] = _Way(trial, candidate, is_new)
        return way

    # ------------------------------------------------------------ following

    def _look(self, points: Sequence[RecordedPoint]) -> dict[Key, PointState]:
        if not points:
            return {}
        states = read_states(self.sweep, replace(self.record, points=tuple(points)), self.memory)
        return {key_of(state.point): state for state in states}

    def _follow_all(self, states: Mapping[Key, PointState]) -> list[Candidate]:
        """Follows all trials; returns those whose runs have to be started (again)."""
        due = []
        for way in list(self._ways.values()):
            state = states[way.candidate.run]
            if self._is_bad(way, state):
                self._prune(way, state)
            elif self._is_due(way, state):
                due.append(way.candidate)
        return due

    def _is_bad(self, way: _Way, state: PointState) -> bool:
        """Reports what is new of the metric. Whether the trial is to be ended for it."""
        if "pruned_at" in way.trial.notes and state.state != "done":
            return True  # a driver before this one decided so
        is_over = state.state == "done"  # it has cost all that it could
        was_asked, way.is_new = way.is_new, True
        newest, num_steps = max(way.trial.reports, default=-1), way.candidate.recorded.num_steps
        if not was_asked and not is_over and newest < num_steps and not self.book.should_go_on(way.trial):
            return True  # the driver before this one was killed between a report and its verdict, or the note of it
        curve = self._curve(way.candidate)
        steps = [step for step in curve if step > newest]
        is_bad = False
        for step in steps:
            goes_on = self.book.report(way.trial, step, curve[step])
            if not goes_on and not is_over and step < num_steps:
                is_bad = True
                break
        if steps:
            way.trial = self.book.read(way.trial)
        return is_bad

    def _curve(self, candidate: Candidate) -> Mapping[int, float]:
        run = self.sweep.run(candidate.recorded)
        return self.memory.curves.read([attempt.metrics for attempt in run.attempts], self.record.metric)

    def _prune(self, way: _Way, state: PointState) -> None:
        """Ends a trial. The decision is on disk before anything is ended: its exit code 3 is ours then."""
        step = max(way.trial.reports, default=0)
        if "pruned_at" not in way.trial.notes:
            way.trial = self.book.note(way.trial, "pruned_at", step)
        if state.is_active and not self._is_shared(way):
            self.runs.end(state)
        self._ending[way.trial.number] = way.candidate.recorded
        value = way.trial.reports.get(step)
        told = f"{self.record.metric} {value:.5g} at step {step}" if value is not None else f"at step {step}"
        self._tell(way.trial, "pruned", None, f"{told}: others are better, ended early")

    def _is_shared(self, way: _Way) -> bool:
        """Whether another trial that goes on has the same run."""
        others = (other for other in self._ways.values() if other.trial.number != way.trial.number)
        return any(other.candidate.run == way.candidate.run for other in others)

    def _is_due(self, way: _Way, state: PointState) -> bool:
        """Tells Optuna of a trial that ended. Whether its run has to be started (again)."""
        trial, word = way.trial, state.state
        if word == "done":
            curve = self._curve(way.candidate)
            step = best_step(curve, self.record.direction)
            if step is None:
                told = f"its metrics have no {self.record.metric}; does training.validation_interval divide its steps?"
                self._tell(trial, "failed", None, told)
            else:
                self._tell(trial, "done", curve[step], f"{self.record.metric} {curve[step]:.5g} at step {step}")
        elif word in ACTIVE or self.runs.starting(way.candidate):
            return False
        elif word == "stopped":
            self._tell(trial, "pruned", None, f"it stopped itself, or a person stopped it: {state.remark or ''}")
        elif word == "cancelled":
            self._tell(trial, "failed", None, state.remark or "its job was cancelled")
        elif (why := self.runs.refusal(way.candidate)) is not None:
            self._tell(trial, "failed", None, why)
        elif word in ("failed", "preempted", "gone"):
            return self._tries_again(way, state)
        else:  # missing, frozen: asked for, and not started
            return True
        return False

    def _tries_again(self, way: _Way, state: PointState) -> bool:
        if state.attempt is not None and was_refused(state.attempt):  # which says nothing about the trial
            return True
        failed = dict.fromkeys(way.trial.notes.get("failed_attempts", []))
        number = state.attempt.number if state.attempt is not None else 0
        if number not in failed:
            way.trial = self.book.note(way.trial, "failed_attempts", [*failed, number])
        num_failed = len(way.trial.notes["failed_attempts"])
        why = state.remark or state.state
        if _is_hopeless(state) or num_failed > self.search.attempts:
            self._tell(way.trial, "failed", None, why)
            return False
        told = f"started again ({num_failed} of {self.search.attempts})"
        self.say(f"trial {way.trial.number} {state.state}: {_line(why)}; {told}")
        return True

    def _tell(self, trial: Trial, state: Literal["done", "pruned", "failed"], value: float | None, told: str) -> None:
        before = self.book.best
        ended = self.book.tell(trial, state, value, told)
        self._ways.pop(trial.number, None)
        self._failed = [*self._failed, ended.number] if state == "failed" else []
        best = self.book.best
        is_best = state == "done" and best is not None and best.number == trial.number
        more = " (the best so far)" if is_best and before is not None else ""
        self.say(f"trial {ended.number} {state}: {_line(told)}{more}")

    # ------------------------------------------------------------ new trials

    def _may_ask(self) -> bool:
        if self._enough is None:
            self._enough = self._reason_to_stop()
            if self._enough is not None and len(self.book.trials) < self.book.num_trials:
                self.say(f"no further trials: {self._enough}")
        return self._enough is None and len(self.book.trials) < self.book.num_trials

    def _reason_to_stop(self) -> str | None:
        if len(self._failed) >= _FAILED_IN_A_ROW:
            return f"the last {len(self._failed)} that ended have failed; mend what is wrong, and drive on"
        if self.stop:
            reached = met(self.stop, self.record, read_states(self.sweep, self.record, self.memory))
            if reached is not None:
                return f"the stop rule of the study is met: {reached}"
        return None

    def _fill(self) -> list[_Way]:
        """Asks for trials until no slot is free."""
        asked = []
        while self.under_way < self.search.concurrency and self._may_ask():
            way = self._adopt(self.book.ask(), is_new=True)
            if way is not None:
                values = " ".join(f"{key}={text}" for key, text in texts(way.trial.values).items())
                self.say(
                    f"trial {way.trial.number} of {self.book.num_trials}: {values}, run {way.candidate.recorded.run_id}"
                )
                asked.append(way)
        return asked

    def _start(self, candidates: Iterable[Candidate]) -> None:
        """Records runs, and starts those that nobody has."""
        once = list({candidate.run: candidate for candidate in candidates}.values())
        if not once:
            return
        self._write([candidate.recorded for candidate in once])
        states = self._look([candidate.recorded for candidate in once])
        # One that was there before: of another sweep, or of equal values. The next round follows it.
        new = [candidate for candidate in once if states[candidate.run].state not in (*ACTIVE, "done", "stopped")]
        if new and time.monotonic() >= self._not_before:
            self._try_to_start(new)

    def _try_to_start(self, candidates: Sequence[Candidate]) -> None:
        """A queue that takes no more jobs takes them later. Raises UserError if nothing else of ours is in it."""
        try:
            self.runs.start(candidates)
        except UserError as error:
            self._refusals += 1
            if self._refusals > _REFUSALS and self.under_way <= len(candidates):
                raise
            trials = count(len(candidates), "trial")
            self.say(f"{trials} could not be started, tried again in {_RETRY_S:.0f} s: {_line(str(error))}")
            self._not_before = time.monotonic() + _RETRY_S
        else:
            self._refusals = 0

    def _write(self, points: Sequence[RecordedPoint]) -> None:
        """Adds points to the record, each run once."""
        there = {key_of(point) for point in self.record.points}
        fresh = [point for point in points if key_of(point) not in there]
        if fresh:
            now = datetime.now(UTC).isoformat()
            together = sorted([*self.record.points, *fresh], key=lambda point: point.number)
            self.record = replace(self.record, points=tuple(together), updated=now)
            self.sweep.write(self.record)

    def _wait_for_the_ended(self) -> None:
        """Runs that were asked to end still save; one that went back into the queue meanwhile is taken out of it."""
        wanted = {way.candidate.run for way in self._ways.values()}
        states = self._look(list(self._ending.values()))
        for number, point in list(self._ending.items()):
            state = states[key_of(point)]
            if not state.is_active or key_of(point) in wanted:
                del self._ending[number]
            elif state.state in ("pending", "waiting"):
                self.runs.end(state)


def _is_hopeless(state: PointState) -> bool:
    """Whether the same again would fail the same way: config, data or a checkpoint is wrong."""
    status = read_status(state.attempt.status) if state.attempt is not None else None
    return status is not None and status.exit_code == ExitCode.CONFIG


def _line(text: str) -> str:
    """The first line of what was told."""
    return text.strip().splitlines()[0] if text.strip() else "it does not say why"
