"""Which points of a sweep are best."""

import math
import statistics
from collections.abc import Hashable, Sequence
from typing import Protocol, TypeVar

from mmhydra.sweep.record import Record, RecordedPoint
from mmhydra.sweep.state.labels import family_of

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


def best_families(points: Sequence[_Rated], record: Record, n: int) -> list[list[_Rated]]:
    """The best `n` families, the best first: points that differ in seeds alone, by the mean of their values."""
    families: dict[Hashable, list[_Rated]] = {}
    for each in best(points, record):
        families.setdefault(family_of(each.point.stage, each.point.label), []).append(each)
    sign = 1.0 if record.direction == "minimize" else -1.0

    def rank(family: Sequence[_Rated]) -> tuple[float, int]:
        values = [each.best for each in family if each.best is not None]
        return sign * statistics.fmean(values), min(each.point.number for each in family)

    return sorted(families.values(), key=rank)[:n]


def run_of(point: RecordedPoint) -> Run:
    """What names a point's run."""
    return (point.name, point.run_id)
