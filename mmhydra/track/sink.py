"""What a sink is, which run it serves, and how a record is read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from mmhydra.errors import UserError

_NOT_METRICS = frozenset({"timestamp", "level", "run_id", "kind", "step"})
# JSON has no such numbers: the writer spells them as strings.
_NON_FINITE = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
_SUBSETS = {"train": "train", "validation": "val"}


class TrackError(UserError):
    """A sink is configured wrongly or cannot work here; the text says what to type."""


class Sink(Protocol):
    """Takes the records of one attempt, in order, all calls from one thread. Any method may raise."""

    def write(self, record: Mapping[str, Any]) -> None:
        """Deliver one record of metrics.jsonl."""

    def close(self) -> None:
        """Deliver what is buffered and release files, ports and locks."""


@dataclass(frozen=True)
class RunInfo:
    """The run and attempt that a sink shows."""

    run_id: str
    run_name: str
    model: str
    config: dict[str, Any]
    config_sha256: str
    git_commit: str | None  # None: the code was not in a git repository
    attempt: int


def subset(record: Mapping[str, Any]) -> str:
    """Which data `record` measures: "train", "val", or the record's kind if that is something else."""
    kind = str(record.get("kind", "train"))
    return _SUBSETS.get(kind, kind)


def step_of(record: Mapping[str, Any]) -> int | None:
    """The optimizer step of `record`; None if it has none."""
    step = record.get("step")
    return step if isinstance(step, int) and not isinstance(step, bool) else None


def numeric_fields(record: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of `record` by name, in the record's own units.

    Nested mappings join their names with "/": {"loss_of": {"text": 3.0}} gives "loss_of/text".
    Null and text are left out; the strings "NaN", "Infinity" and "-Infinity" are the numbers that they spell.
    """
    fields: dict[str, float] = {}
    for name, value in record.items():
        if name in _NOT_METRICS or isinstance(value, bool):
            continue
        if isinstance(value, int | float):
            fields[name] = float(value)
        elif isinstance(value, str) and value in _NON_FINITE:
            fields[name] = _NON_FINITE[value]
        elif isinstance(value, Mapping):
            fields.update({f"{name}/{inner}": number for inner, number in numeric_fields(value).items()})
    return fields
