"""Two sides, field by field, what makes the numbers first; an attempt or a checkpoint as a side."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from mmhydra.checkpoint.stamp import CheckpointError, read_stamp
from mmhydra.checkpoint.verify import config_faults, config_of
from mmhydra.config.differences import Absent, Difference, differences, is_identity
from mmhydra.errors import UserError
from mmhydra.paths import short
from mmhydra.run.directory import IDENTITY, Attempt, RunDirectoryError, find_run

NO_DIFFERENCE = "no difference"
# Of provenance.json. Left out: time and argv, which always differ, and what stands in the config or the last line.
_ORIGIN = ("git", "config_folders", "mmhydra", "python", "packages", "environment", "host")
# Of a stamp, whose `tokens` are not the group of that name.
_SAVED = {"attempt", "step", "stream", "mesh", "git", "config_folders", "packages", "parent", "lineage", "exemptions"}


@dataclass(frozen=True)
class Side:
    """What is compared: values by section. A section that the other side does not know is not compared.

    `numbers` make the numbers and stand beside the config; `origin` is all the rest.
    """

    title: str
    config: Mapping[str, Any]
    numbers: Mapping[str, Any] = field(default_factory=dict)
    origin: Mapping[str, Any] = field(default_factory=dict)
    run_id: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def sections(self) -> list[str]:
        """What it knows beside the config."""
        return [*self.numbers, *self.origin]


class Comparison(NamedTuple):
    """What differs, and what could not be compared."""

    title: str
    identity: list[Difference]
    rest: list[Difference]
    notes: list[str]
    run_ids: tuple[str, str] | None

    @property
    def is_equal(self) -> bool:
        """Whether nothing differs."""
        return not self.identity and not self.rest

    @property
    def text(self) -> list[str]:
        """The text form: what is compared, what could not be, what differs."""
        return [self.title, *(f"note: {note}" for note in self.notes), *self.fields]

    @property
    def fields(self) -> list[str]:
        """What differs, one field a line."""
        lines = []
        for title, found in {"identity (what makes the numbers)": self.identity, "everything else": self.rest}.items():
            lines += [f"{title}:", *(f"  {pair}" for pair in found)]
            lines += [] if found else [f"  {NO_DIFFERENCE}"]
        if self.run_ids is not None:
            lines.append(f"run id: {self.run_ids[0]} -> {self.run_ids[1]}")
        return lines

    @property
    def document(self) -> dict[str, Any]:
        """The JSON form; "absent" for a value that a side lacks."""
        run_ids = {} if self.run_ids is None else {"run_id": list(self.run_ids)}
        return {"identity": _pairs(self.identity), "rest": _pairs(self.rest), **run_ids}


def _pairs(found: list[Difference]) -> dict[str, list[Any]]:
    return {name: [value.value if isinstance(value, Absent) else value for value in values] for name, *values in found}


def compare(left: Side, right: Side) -> Comparison:
    """All that differs between what both sides know."""
    config = differences(left.config, right.config)
    numbers = differences(*_shared(left.numbers, right.numbers))
    origin = differences(*_shared(left.origin, right.origin))
    notes = [*left.notes, *right.notes]
    for side, other in ((left, right), (right, left)):
        if alone := [name for name in side.sections if name not in other.sections]:
            notes.append(f"not compared, as only {side.title} has it: {', '.join(alone)}")
    return Comparison(
        title=f"{left.title} -> {right.title}",
        identity=[*(pair for pair in config if is_identity(pair.field)), *numbers],
        rest=[*(pair for pair in config if not is_identity(pair.field)), *origin],
        notes=notes,
        run_ids=(left.run_id, right.run_id) if left.run_id and right.run_id else None,
    )


def _shared(left: Mapping[str, Any], right: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    names = [name for name in left if name in right]
    return {name: left[name] for name in names}, {name: right[name] for name in names}


def of_attempt(attempt: Attempt) -> Side:
    """A frozen attempt. Raises UserError if it can't be read or was changed after it was frozen."""
    config, _ = attempt.read_frozen()
    provenance = attempt.provenance()
    run_id = str(provenance.get("run_id"))
    digests: dict[str, Any] = {name: provenance[name] for name in ("manifests", "vocabulary") if name in provenance}
    return Side(
        title=f"attempt {attempt.number} of {short(attempt.run.path)}",
        config=config.model_dump(mode="json"),
        numbers={**digests, **_initial_weights(attempt.path, run_id)},
        origin={"attempt": attempt.number, **{name: provenance[name] for name in _ORIGIN if name in provenance}},
        run_id=run_id,
    )


def of_checkpoint(folder: Path) -> Side:
    """A checkpoint. Its weights are not read. Raises UserError if stamp or config can't be read or were changed."""
    folder = folder.absolute()
    stamp, config = read_stamp(folder), config_of(folder)
    if faults := config_faults(folder, stamp):
        raise CheckpointError(f"checkpoint {folder} is damaged: {'; '.join(faults)}")
    return Side(
        title=f"checkpoint {short(folder)} (step {stamp.step})",
        config=config.model_dump(mode="json"),
        numbers={
            "manifests": stamp.manifests,
            "vocabulary": stamp.vocabulary,
            **_initial_weights(folder, stamp.run_id),
        },
        origin={**stamp.model_dump(mode="json", include=_SAVED), "tokens_trained": stamp.tokens.model_dump()},
        run_id=stamp.run_id,
    )


def _initial_weights(place: Path, run_id: str) -> dict[str, Any]:
    """What a run started from, by the digest of a stamp or by run and step where it awaited one.

    Its config names paths only. Empty for a copy outside of it.
    """
    try:
        file = find_run(place).path / IDENTITY
    except RunDirectoryError:
        return {}
    try:
        document = yaml.load(file.read_bytes(), Loader=yaml.CSafeLoader)
        if document["run_id"] != run_id:
            return {}
        identity = document["identity"]
        starts = {"init_from_sha256": identity["init_from"], "extends_sha256": identity.get("extends")}
        return {name: _told(started_from) for name, started_from in starts.items()}
    except (OSError, yaml.YAMLError, UnicodeDecodeError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{file} can't be read as an identity: {error}") from error


def _told(started_from: Any) -> Any:
    """An awaited checkpoint as one value."""
    return (
        f"step {started_from['step']} of run {started_from['run']}" if isinstance(started_from, dict) else started_from
    )
