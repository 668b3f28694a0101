"""The points of a sweep before anything is composed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

# What a point takes of its parent's last checkpoint: nothing but the order, its weights, or its whole state.
Start = Literal["none", "init", "extend"]


@dataclass(frozen=True)
class Parent:
    """The point of an earlier stage that one waits for. `index` is its place in the list of planned points."""

    index: int
    start: Start


@dataclass(frozen=True)
class Planned:
    """One point. `overrides` are all that a single command line would need, but for its parent's checkpoint.

    `label` is what tells the point from the others: axes and their values, as they are typed. `num_best` is set where
    the stage goes on only with so many of the best points of the stage before: all its points are composed and checked
    beforehand, those with the best parents are run once all parents have ended. `more_parents` are then the places of
    further points of which this would be the same child: it is run if any of its parents is among the best.
    """

    overrides: tuple[str, ...]
    label: Mapping[str, str] = field(default_factory=dict)
    stage: str | None = None
    parent: Parent | None = None
    num_best: int | None = None
    more_parents: tuple[int, ...] = ()
