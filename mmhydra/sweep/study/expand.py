"""From a study to its points, in a fixed order, parents before children."""

import itertools
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mmhydra import paths
from mmhydra.errors import UserError
from mmhydra.monitor.words import count_are
from mmhydra.sweep.planned import Parent, Planned
from mmhydra.sweep.study.blocks import Resources, Stage, Study
from mmhydra.sweep.study.filters import FilterFault
from mmhydra.sweep.study.overrides import Layers, Override, label_in_words, split
from mmhydra.sweep.study.rules import MAX_POINTS, SEED_KEYS
from mmhydra.sweep.study.values import Value

_MAX_TOLD = 10  # points that a message lists
_SEED = "seed"  # in labels and filters, for both seeds

Choice = Mapping[str, Value]  # what one place of a factor, or of all factors, sets; keys as they are typed


@dataclass(frozen=True)
class _Draft:
    """A point as its children take it up: its overrides without those of a rule of resources, and those."""

    layers: Layers
    resources: tuple[str, ...]
    label: Mapping[str, str]
    index: int
    stage: str | None


def expand(study: Study, overrides: Sequence[Sequence[str]] = ((),)) -> list[Planned]:
    """All points of a study, each once; none for a search, which makes its own (`trial`).

    `overrides` are what is typed beside `sweep=`: a list for each combination of the values that are swept there. They
    win over the study, in all stages, and multiply its points. Says on standard error how many points were left out
    as the same as others. Raises UserError for filters without an answer or without points, and for too many points.
    """
    if study.search is not None:
        return []
    combinations = [tuple(map(split, combination)) for combination in overrides]
    planned: list[Planned] = []
    indices: dict[object, int] = {}
    parents_of: dict[int, list[int]] = {}  # of children that may be chosen, by all that they are the same child of
    num_doubles = 0
    for typed in combinations:
        # What a combination has for itself tells its points from those of the others.
        own = {one.key: one.text or "" for one in typed if any(one not in other for other in combinations)}
        drafts: dict[str | None, list[_Draft]] = {}
        for name, stage in study.all_stages.items():
            parents = drafts[stage.after] if stage.after is not None else None
            if parents is not None and typed is combinations[0]:
                _tell_inherited(study, name, stage, parents)
            points = _StagePoints(study, name, stage, typed, own)
            points.require_few(len(planned), 1 if parents is None else len(parents))
            found: dict[int, _Draft] = {}
            for draft, texts in points.made(parents):
                parent = None if parents is None else Parent(draft.index, stage.start)
                makes = (name, frozenset(texts), draft.index if stage.start != "none" else None)
                index = indices.setdefault(makes, len(planned))
                if stage.best is not None and draft.index not in (those := parents_of.setdefault(index, [])):
                    those.append(draft.index)
                if index < len(planned):
                    num_doubles += 1
                else:
                    planned.append(Planned(texts, draft.label, name, parent, stage.best))
                found.setdefault(index, _Draft(draft.layers, draft.resources, draft.label, index, name))
            drafts[name] = list(found.values())
    if num_doubles:
        told = f"{count_are(num_doubles, 'point')} left out, the same as others of {paths.short(study.path)}"
        print(f"note: {told}", file=sys.stderr)
    return [replace(one, more_parents=tuple(parents_of.get(at, ())[1:])) for at, one in enumerate(planned)]


def _tell_inherited(study: Study, name: str | None, stage: Stage, parents: Sequence[_Draft]) -> None:
    """Says which values of its parents' axes a stage has still, though it chooses another group above them."""
    own = {split(text).key for text in stage.overrides} | {split(key).key for one in stage.factors for key in one[0]}
    left = [
        key
        for key in dict.fromkeys(key for parent in parents for key in parent.label)
        if key not in own and "." in key and key.partition(".")[0] in own
    ]
    if left:
        groups = ", ".join(dict.fromkeys(key.partition(".")[0] for key in left))
        told = f"stages.{name} chooses {groups} anew, and has {', '.join(left)} of {stage.after} still"
        cure = f"type {', '.join(f'~{key}' for key in left)} among its overrides if it is not to"
        print(f"note: {paths.short(study.path)}: {told}; {cure}", file=sys.stderr)


def trial(study: Study, values: Mapping[str, str], overrides: Sequence[str] = ()) -> Planned:
    """A point of a search. `values` are the right sides of overrides by their keys, `overrides` what is typed.

    Raises UserError for a rule of resources without an answer.
    """
    own = [split(f"{key}={text}") for key, text in values.items()]
    typed = [split(text) for text in overrides]
    names = Layers([*map(split, study.overrides), *own, *typed]).values
    try:
        rule = _first(study.resources, names)
    except FilterFault as fault:
        raise UserError(f"{paths.short(study.path)}: {fault}") from fault
    chosen = () if rule is None else rule.overrides
    return Planned(Layers([*map(split, (*study.overrides, *chosen)), *own, *typed]).texts, dict(values))


class _StagePoints:
    """Makes the points of one stage for one combination of what is typed."""

    def __init__(
        self, study: Study, name: str | None, stage: Stage, typed: Sequence[Override], own: Mapping[str, str]
    ) -> None:
        self._study, self._name, self._stage = study, name, stage
        self._typed = [(override, override.value) for override in typed]
        self._of_combination = own
        self._overrides = [split(text) for text in stage.overrides]
        self._rules = (*stage.resources, *study.resources)
        # A typed value stands for all of its axis: filters see it, labels show it.
        fixed = {one.key: Value(one.text or "", value, one.text or "") for one, value in self._typed if one.sign != "~"}
        self._factors = [_fixed(factor, fixed) for factor in stage.factors]
        self._seeds: Sequence[int | None] = stage.seeds or (None,)

    def require_few(self, num_before: int, num_parents: int) -> None:
        """Raises UserError for more points than anybody means."""
        number = num_before + num_parents * math.prod(map(len, self._factors)) * len(self._seeds)
        if number > MAX_POINTS:
            raise UserError(f"{self._place}: that makes {number:,} points, at most {MAX_POINTS:,} are legal")

    def made(self, parents: Sequence[_Draft] | None) -> list[tuple[_Draft, tuple[str, ...]]]:
        """The points with all their overrides; a draft has the index of its parent, -1 without one.

        Raises UserError.
        """
        if parents is None:
            parents = [_Draft(Layers(map(split, self._study.overrides)), (), {}, -1, None)]
        made: list[tuple[_Draft, tuple[str, ...]]] = []
        faults: list[str] = []
        number = 0
        for parent in parents:
            parent, overrides = self._inherited(parent)
            base = parent.layers.copy()
            base.add_all(overrides)
            for places, seed in itertools.product(itertools.product(*self._factors), self._seeds):
                number += 1
                choice = {key: value for place in places for key, value in place.items()}
                try:
                    made += self._point(parent, overrides, base, choice, seed)
                except FilterFault as fault:
                    faults.append(f"{_shown(choice, parent)}: {fault}")
        if faults:
            more = [f"and {len(faults) - _MAX_TOLD} more"] if len(faults) > _MAX_TOLD else []
            raise UserError("\n".join([f"{self._place}: filters have no answer", *faults[:_MAX_TOLD], *more]))
        if number and not made:
            raise UserError(f"{self._place}: no point is left, only and exclude leave out all {number}")
        return made

    @property
    def _place(self) -> str:
        path = paths.short(self._study.path)
        return path if self._name is None else f"{path}: stages.{self._name}"

    def _inherited(self, parent: _Draft) -> tuple[_Draft, list[Override]]:
        """A parent without what the stage deletes of its axes, and what is left of the overrides of the stage."""
        deleted = {one.key for one in self._overrides if one.sign == "~"} & parent.label.keys()
        if not deleted:
            return parent, self._overrides
        layers = parent.layers.copy()
        layers.drop(deleted)
        return replace(parent, layers=layers), [one for one in self._overrides if one.key not in deleted]

    def _point(
        self, parent: _Draft, overrides: Sequence[Override], base: Layers, choice: Choice, seed: int | None
    ) -> list[tuple[_Draft, tuple[str, ...]]]:
        """The point of one choice; none if a filter leaves it out. Raises FilterFault."""
        own: list[tuple[Override, Any]] = [
            (split(key)._replace(text=value.text), value.value) for key, value in choice.items()
        ]
        own += [(Override("", key, str(seed)), seed) for key in SEED_KEYS if seed is not None]
        layers = base.copy()
        layers.add_all([*own, *self._typed])
        label = self._label(parent, choice, seed)
        names = layers.values if _SEED not in label else {**layers.values, _SEED: layers.values.get(SEED_KEYS[0])}
        if not all(one.holds(names) for one in self._stage.only):
            return []
        if any(one.holds(names) for one in self._stage.exclude):
            return []
        rule = _first(self._rules, names)
        if rule is not None:  # wins over what stands under overrides
            resources = rule.overrides
            whole = base.copy()
            whole.add_all(map(split, resources))
        else:  # those of the parent, which the stage may change
            resources = parent.resources
            whole = parent.layers.copy()
            whole.add_all(map(split, resources))
            whole.add_all(overrides)
        whole.add_all([*own, *self._typed])
        return [(_Draft(layers, resources, label, parent.index, self._name), whole.texts)]

    def _label(self, parent: _Draft, choice: Choice, seed: int | None) -> dict[str, str]:
        """The parent's label and the point's own. A value of the parent that is another one here goes by its stage."""
        own = {split(key).key: value.label for key, value in choice.items()}
        if seed is not None:
            own[_SEED] = str(seed)
        changed = {one.key for one in self._overrides} | own.keys()
        label: dict[str, str] = {}
        for key, text in parent.label.items():
            if key not in changed or own.get(key) == text:
                label[key] = text
            elif self._stage.start != "none":
                label[f"{parent.stage}.{key}"] = text
        return {**label, **own, **self._of_combination}


def _first(rules: Iterable[Resources], names: Mapping[str, Any]) -> Resources | None:
    """The first rule that holds."""
    return next((rule for rule in rules if rule.when is None or rule.when.holds(names)), None)


def _fixed(factor: Sequence[Choice], fixed: Mapping[str, Value]) -> list[Choice]:
    """A factor with typed values in place of its own, each place once."""
    if all(split(key).key not in fixed for place in factor for key in place):
        return list(factor)
    changed = [{key: fixed.get(split(key).key, value) for key, value in place.items()} for place in factor]
    return list({tuple((key, value.text) for key, value in place.items()): place for place in changed}.values())


def _shown(choice: Choice, parent: _Draft) -> str:
    return label_in_words({**parent.label, **{key: value.label for key, value in choice.items()}}) or "its point"
