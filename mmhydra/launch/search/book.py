"""The book of a search: what was asked of Optuna and told to it, on disk before anything follows from it.

The only module that knows Optuna. One process at a time has the book open; whoever opens it holds the sweep's lease.
"""

import logging
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import NopPruner
from optuna.samplers import BaseSampler, GridSampler, QMCSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from optuna.trial import Trial as Asked

from mmhydra.errors import UserError
from mmhydra.sweep.study.space import Choice, Dimension, Sampler, Search, override_value

_NAME, _SPACE, _HALVING = "search", "space", "halving"
_STATES: dict[TrialState, "State"] = {
    TrialState.RUNNING: "running",
    TrialState.WAITING: "running",
    TrialState.COMPLETE: "done",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}
State = Literal["running", "done", "pruned", "failed"]


class BookError(UserError):
    """A journal that can't be read, or that belongs to another space."""


@dataclass(frozen=True)
class Trial:
    """What the book says of a trial. `number` counts from 1.

    `notes` are what the driver wrote beside it: `run_id`, `name`, `failed_attempts`, `pruned_at`, `told`; and of the
    book itself `halving`: the values with which it came to its rungs, and whether it goes on.
    """

    number: int
    state: State
    values: Mapping[str, Choice]
    reports: Mapping[int, float]  # value of the metric by step
    value: float | None
    notes: Mapping[str, Any]


class Book:
    """A study of Optuna in a journal file."""

    def __init__(self, journal: Path, search: Search, direction: Literal["minimize", "maximize"]) -> None:
        """Opens the journal, or begins it. Raises BookError."""
        self._search = search
        self._by_name = {key: _distribution(dimension) for key, dimension in search.space.items()}
        _mend(journal)
        logging.getLogger("optuna").setLevel(logging.ERROR)  # our own lines tell what happens
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            try:
                storage = JournalStorage(JournalFileBackend(str(journal)))
                self._study = optuna.create_study(
                    storage=storage,
                    study_name=_NAME,
                    direction=direction,
                    load_if_exists=True,
                    pruner=NopPruner(),  # `should_go_on` is ours
                )
            except (OSError, ValueError, KeyError) as error:
                raise BookError(f"{journal} can't be read: {error}; it is the journal of the search") from error
        self._storage = storage
        self._require_space(journal)
        self._ids = {trial.number: trial._trial_id for trial in self._study.get_trials(deepcopy=False)}

    @property
    def num_trials(self) -> int:
        """How many there will be in all: a grid ends by itself."""
        return self._search.num_runs if self._search.sampler.kind == "grid" else self._search.num_trials

    @property
    def trials(self) -> list[Trial]:
        """All trials, oldest first."""
        return [self._read(trial) for trial in self._study.get_trials(deepcopy=False)]

    @property
    def best(self) -> Trial | None:
        """The trial with the best value of those that came to their end."""
        done = [trial for trial in self.trials if trial.state == "done" and trial.value is not None]
        is_low = self._study.direction == optuna.study.StudyDirection.MINIMIZE
        return min(done, key=lambda trial: (trial.value or 0.0) if is_low else -(trial.value or 0.0), default=None)

    def ask(self) -> Trial:
        """The next trial, with its values, which are in the journal when this returns."""
        number = len(self._ids)
        self._study.sampler = _sampler(self._search, number)
        trial = self._study.ask()
        self._ids[trial.number] = trial._trial_id
        return self._suggest(trial)

    def complete(self, trial: Trial) -> Trial:
        """The trial with all of its values, where the process that asked for it ended in between."""
        if len(trial.values) == len(self._by_name):
            return trial
        self._study.sampler = _sampler(self._search, trial.number - 1)
        return self._suggest(Asked(self._study, self._id(trial)))

    def note(self, trial: Trial, name: str, value: Any) -> Trial:
        """Writes a note beside a trial."""
        self._storage.set_trial_user_attr(self._id(trial), name, value)
        return self.read(trial)

    def report(self, trial: Trial, step: int, value: float) -> bool:
        """Reports the metric at a step. Returns whether the trial should go on."""
        self._storage.set_trial_intermediate_value(self._id(trial), step, value)
        return self.should_go_on(trial)

    def should_go_on(self, trial: Trial) -> bool:
        """Whether the newest report of a trial is good enough; asked again by a driver that takes it up.

        It decides as Optuna's SuccessiveHalvingPruner. That notes the rung, and others have to note the verdict:
        if a driver is killed in between, a bad trial goes on. Here both are one line of the journal.
        """
        halving, trial = self._search.halving, self.read(trial)
        noted = trial.notes.get(_HALVING, {"rungs": [], "goes_on": True})
        if halving is None or not trial.reports:
            return True
        step, value = max(trial.reports.items())
        if math.isnan(value):
            return False
        rungs, goes_on = list(noted["rungs"]), bool(noted["goes_on"])
        while goes_on and step >= halving.min_steps * halving.factor ** len(rungs):
            others = [other.notes.get(_HALVING, {"rungs": []})["rungs"] for other in self.trials]
            there = [values[len(rungs)] for values in others if len(values) > len(rungs)]
            goes_on = self._is_among_best(value, [*there, value], halving.factor)
            rungs.append(value)
        if len(rungs) > len(noted["rungs"]):
            self.note(trial, _HALVING, {"rungs": rungs, "goes_on": goes_on})
        return goes_on

    def _is_among_best(self, value: float, values: Sequence[float], factor: int) -> bool:
        """Whether a value is among the best 1 of `factor`; of fewer values the best one is."""
        is_low = self._study.direction == optuna.study.StudyDirection.MINIMIZE
        last = sorted(values, reverse=not is_low)[max(1, len(values) // factor) - 1]
        return value <= last if is_low else value >= last

    def tell(self, trial: Trial, state: Literal["done", "pruned", "failed"], value: float | None, told: str) -> Trial:
        """Ends a trial; `value` for one that is done. A trial that has ended already stays as it is."""
        self._storage.set_trial_user_attr(self._id(trial), "told", told)
        ends = {"done": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
        self._study.sampler = _sampler(self._search, trial.number - 1)
        self._study.tell(trial.number - 1, value if state == "done" else None, ends[state], skip_if_finished=True)
        return self.read(trial)

    def _require_space(self, journal: Path) -> None:
        space = {key: optuna.distributions.distribution_to_json(one) for key, one in self._by_name.items()}
        there = self._study.user_attrs.get(_SPACE)
        if there is None:
            self._study.set_user_attr(_SPACE, space)
        elif there != space:
            raise BookError(f"the space is not that of {journal}; a search of another space needs a name of its own")

    def _suggest(self, trial: Asked) -> Trial:
        for key, distribution in self._by_name.items():
            trial._suggest(key, distribution)
        return self._read(self._storage.get_trial(trial._trial_id))

    def _id(self, trial: Trial) -> int:
        known: int = self._ids[trial.number - 1]
        return known

    def read(self, trial: Trial) -> Trial:
        """What the book says of a trial now."""
        return self._read(self._storage.get_trial(self._id(trial)))

    def _read(self, trial: FrozenTrial) -> Trial:
        values = {key: self._value(key, trial.params[key]) for key in self._by_name if key in trial.params}
        value = trial.value if trial.state == TrialState.COMPLETE else None
        number: int = trial.number + 1
        return Trial(
            number,
            _STATES[trial.state],
            values,
            dict(sorted(trial.intermediate_values.items())),
            value,
            dict(trial.user_attrs),
        )

    def _value(self, key: str, stored: Any) -> Choice:
        choices = self._search.space[key].choices
        if choices is None:
            found: Choice = stored
            return found
        return next(choice for choice in choices if override_value(choice) == stored)


class _Grid(GridSampler):  # type: ignore[misc]
    """Optuna's own wants to end a loop that we do not have."""

    def after_trial(self, *arguments: Any) -> None:
        """Nothing: the driver counts."""


def _sampler(search: Search, number: int) -> BaseSampler:
    """The sampler of one trial. Its random numbers follow from seed and trial, so a new driver proposes nothing twice.

    A sequence (qmc) and a grid have an order that follows from the seed alone.
    """
    chosen: Sampler = search.sampler
    own = (chosen.seed + 1_000_003 * number) % 2**32
    if chosen.kind == "random":
        return RandomSampler(seed=own)
    if chosen.kind == "grid":
        return _Grid({key: _grid(dimension) for key, dimension in search.space.items()}, seed=chosen.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if chosen.kind == "qmc":
            independent = RandomSampler(seed=own)
            return QMCSampler(
                seed=chosen.seed,
                scramble=True,
                independent_sampler=independent,
                warn_asynchronous_seeding=False,
                warn_independent_sampling=False,
            )
        # Trials under way count as bad ones, so that those at the same time differ.
        return TPESampler(seed=own, multivariate=True, constant_liar=True)


def _distribution(dimension: Dimension) -> BaseDistribution:
    if dimension.choices is not None:
        return CategoricalDistribution([override_value(choice) for choice in dimension.choices])
    low, high = dimension.corners[0], dimension.corners[-1]
    if dimension.is_int:
        return IntDistribution(low, high, log=dimension.log, step=int(dimension.step or 1))
    return FloatDistribution(low, high, log=dimension.log, step=dimension.step)


def _grid(dimension: Dimension) -> list[Choice]:
    values = dimension.values or []
    return [override_value(value) for value in values] if dimension.choices is not None else values


def _mend(journal: Path) -> None:
    """Takes away what a driver that was killed left: its lock, and a line that it did not write to the end.

    Raises BookError where nothing can be written.
    """
    try:
        journal.parent.mkdir(parents=True, exist_ok=True)
        journal.with_name(f"{journal.name}.lock").unlink(missing_ok=True)
        if not journal.exists():
            return
        with open(journal, "r+b") as file:
            content = file.read()
            whole = content.rfind(b"\n") + 1
            if whole < len(content):
                file.truncate(whole)
    except OSError as error:
        raise BookError(f"{journal} can't be written: {error}; it is the journal of the search") from error
