"""What tells the points of a sweep apart: the axes that vary, and their values as numbers where they are."""

import math
from collections.abc import Hashable, Mapping, Sequence

from mmhydra.sweep.record import RecordedPoint

_LOG_RATIO = 10.0  # positive values that span more than this are read on a logarithmic axis


def axes_of(points: Sequence[RecordedPoint]) -> list[str]:
    """Keys of the labels whose values differ between points, in the order in which they first appear."""
    keys = list(dict.fromkeys(key for point in points for key in point.label))
    return [key for key in keys if len({point.label.get(key) for point in points}) > 1]


def short_names(axes: Sequence[str]) -> list[str]:
    """The last part of each key, `lr` of `optim.lr`; the whole key where two end alike."""
    last = [key.rpartition(".")[2] for key in axes]
    return [name if last.count(name) == 1 else key for key, name in zip(axes, last, strict=True)]


def numbers_of(values: Sequence[str | None]) -> list[float | None] | None:
    """The values as numbers, None where a point has none; None if any is no finite number, as a group choice is."""
    found: list[float | None] = []
    for value in values:
        try:
            number = None if value is None else float(value)
        except ValueError:
            return None
        if number is not None and not math.isfinite(number):
            return None
        found.append(number)
    return found if any(number is not None for number in found) else None


def is_logarithmic(values: Sequence[float | None]) -> bool:
    """Whether an axis of these numbers is better read on a logarithmic scale: rates, sizes."""
    known = sorted({value for value in values if value is not None})
    return len(known) > 2 and known[0] > 0 and known[-1] / known[0] >= _LOG_RATIO


def is_seed(key: str) -> bool:
    """Whether a key of a label is a seed: `seed` of a study's `seeds`, `seed.model`, or an earlier stage's."""
    return "seed" in key.lstrip("+").split(".")


def family_of(stage: str | None, label: Mapping[str, str]) -> Hashable:
    """Equal for points of a stage that differ in seeds alone."""
    return stage, frozenset((key, text) for key, text in label.items() if not is_seed(key))


def in_words(point: RecordedPoint, axes: Sequence[str]) -> str:
    """`optim.lr=0.001 model=1b`: a point by the axes that vary, as one would type it."""
    return " ".join(f"{key}={point.label[key]}" for key in axes if key in point.label)


def evaluates(point: RecordedPoint) -> bool:
    """Whether the run of a point takes no step, and only measures weights that there are."""
    has_weights = any(override.lstrip("+").startswith("checkpoint.init_from=") for override in point.overrides)
    return point.num_steps == 0 and (has_weights or (point.parent is not None and point.parent.start == "init"))
