"""What differs between two trees of values, and whether a key of the config makes the numbers."""

import json
from collections.abc import Mapping
from enum import Enum
from typing import Any, NamedTuple

from pydantic import BaseModel

from mmhydra.config.base import NotIdentity, mark_of, sections_in
from mmhydra.config.frozen import flatten
from mmhydra.config.schema import RunConfig


class Absent(Enum):
    """What stands for the value of a side that lacks a field."""

    ABSENT = "absent"


class Difference(NamedTuple):
    """A field that two sides hold differently; `Absent.ABSENT` where one side lacks it."""

    field: str
    left: Any
    right: Any

    def __str__(self) -> str:
        return f"{self.field}: {_text(self.left)} -> {_text(self.right)}"


def _text(value: Any) -> str:
    return str(value.value) if value is Absent.ABSENT else json.dumps(value, ensure_ascii=False, default=str)


def differences(left: Mapping[str, Any], right: Mapping[str, Any]) -> list[Difference]:
    """Leaves that differ, in the order of the left side, then what only the right side has."""
    sides = flatten(dict(left)), flatten(dict(right))
    fields = dict.fromkeys([*sides[0], *sides[1]])
    pairs = [Difference(field, *(side.get(field, Absent.ABSENT) for side in sides)) for field in fields]
    return [pair for pair in pairs if pair.left != pair.right and not _is_told_below(pair, sides)]


def _is_told_below(pair: Difference, sides: tuple[dict[str, Any], ...]) -> bool:
    """Whether a section or list is null or empty on one side only: the fields that the other side has say it."""
    if not any(value is Absent.ABSENT for value in (pair.left, pair.right)):
        return False
    is_empty = any(value in (None, []) for value in (pair.left, pair.right))
    return is_empty and any(field.startswith(f"{pair.field}.") for side in sides for field in side)


def is_identity(key: str) -> bool:
    """Whether a dotted key of the config makes the numbers, by the marks of the schema.

    A key that the schema lacks, of an older or newer version, counts as identity: nothing says that it may differ.
    """
    sections: list[type[BaseModel]] = [RunConfig]
    for part in key.split("."):
        fields = [section.model_fields[part] for section in sections if part in section.model_fields]
        if any(mark_of(field.metadata, NotIdentity) for field in fields):
            return False
        if fields:
            sections = [inside for field in fields for inside in sections_in(field.annotation)]
        elif not part.isdigit():  # an index leads to the sections of its list
            return True
    return True
