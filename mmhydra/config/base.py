"""What every config section is made of: strictness, counts, and marks for identity and for later additions."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Section(BaseModel):
    """One part of a run's config: frozen, strictly typed, no unknown keys, and no defaults.

    A default here would be a value that no YAML file shows, so subclasses declare types only.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True)
class NotIdentity:
    """Marks a field that does not make the numbers, so it stays out of the run id. Says why."""

    reason: str


@dataclass(frozen=True)
class Legacy:
    """Marks a field that came after runs existed, with the value that those runs had without saying so.

    A frozen config that lacks the field reads as this value, and the field stays out of the run id while it equals
    it: ids survive upgrades. The value never changes afterwards, whatever the default in conf/ becomes.
    """

    value: Any


LABEL = "a label; the values beside it decide"


def mark_of(metadata: list[Any], kind: type) -> Any:
    """The mark of one kind on a field (`FieldInfo.metadata`), or None."""
    return next((mark for mark in metadata if isinstance(mark, kind)), None)


def sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The section classes that an annotation names, also in unions, lists and mappings."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from sections_in(argument)


def _integral(value: Any) -> Any:
    """Accepts 1e12 for a count: YAML and Hydra read it as a float."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


_INT64 = 2**63  # counts end up in tensors
Count = Annotated[int, BeforeValidator(_integral), Field(ge=0, lt=_INT64)]
PositiveCount = Annotated[int, BeforeValidator(_integral), Field(ge=1, lt=_INT64)]
PositiveFloat = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]  # a file name
