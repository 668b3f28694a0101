"""Which points of a sweep are best."""

import math
from collections.abc import Sequence
from typing import Protocol, TypeVar

from mmhydra.sweep.record import Record, RecordedPoint

Run = tuple[str, str]  # name and id of a run, which no two points of a sweep share


class Rated(Protocol):
    """A point and the best value of its sweep's metric."""

    @property
    def point(self) -> RecordedPoint:
        """What was recorded of it."""

    @property
    def best(self) -> float | None:
        """None if there is no value yet."""


_Rated = TypeVar("_Rated", bound=Rated)


def best(points: Sequence[_Rated], record: Record, n: int | None = None) -> list[_Rated]:
    """The best `n` points (None: all that have a value), the best first, equal ones in the study's order.

    Points without a value, and those whose value is NaN or infinite, are never among them.
    """
    sign = 1.0 if record.direction == "minimize" else -1.0
    found = [(sign * each.best, each) for each in points if each.best is not None and math.isfinite(each.best)]
    found.sort(key=lambda pair: (pair[0], pair[1].point.number))
    return [each for _, each in found[:n]]


def run_of(point: RecordedPoint) -> Run:
    """What names a point's run."""
    return (point.name, point.run_id)
