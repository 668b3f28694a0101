"""What every config section is made of: strictness, counts, and marks for identity and for later additions."""

import os
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Annotated, Any, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError


class Section(BaseModel):
    """One part of a run's config: frozen, strictly typed, no unknown keys, and no defaults.

    A default here would be a value that no YAML file shows, so subclasses declare types only.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _is_text(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuses what neither a file nor a path can hold, also inside lists and mappings."""
        field = cls.model_fields[info.field_name or ""]
        if isinstance(value, str) or not any(sections_in(field.annotation)):  # sections look at their own fields
            for text in _texts(value):
                if "\0" in text:
                    raise PydanticCustomError("no_text", "a NUL character is in it, which no path or variable can hold")
                if not _is_utf8(text):
                    raise PydanticCustomError("no_text", "text that is no UTF-8")
        return value


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inside in value.items():
            yield from _texts(key)
            yield from _texts(inside)
    elif isinstance(value, list):
        for inside in value:
            yield from _texts(inside)


def _is_utf8(text: str) -> bool:
    """False for lone surrogates: bytes of the command line that are no UTF-8, or escapes in YAML."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


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


class Element(Section):
    """A section that stands in a list. It may leave out fields with a Legacy value, which they then have.

    Lists replace each other as a whole, so no file of a group could give the others of an element what it lacks.
    """

    @model_validator(mode="before")
    @classmethod
    def _completed(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        marks = {name: mark_of(field.metadata, Legacy) for name, field in cls.model_fields.items()}
        return {name: deepcopy(mark.value) for name, mark in marks.items() if mark is not None} | value


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


def kind_of(value: Any) -> Any:
    """The `kind` that tells the sections of a union apart: pydantic's own discriminators refuse Section's validator."""
    return value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)


def _integral(value: Any) -> Any:
    """Accepts 1e12 for a count: YAML and Hydra read it as a float."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def unfit_path(path: str) -> str | None:
    """Why no system takes a path; None for one that is fit."""
    longest = max((len(os.fsencode(part)) for part in path.split("/")), default=0)
    if longest > _NAME_MAX:
        return f"a name of {longest} bytes is in the path, no folder takes more than {_NAME_MAX}; type a shorter one"
    if len(os.fsencode(path)) > _PATH_MAX:
        return f"a path of {len(os.fsencode(path))} bytes, no system takes more than {_PATH_MAX}; type a shorter one"
    return None


def _fit_path(path: str) -> str:
    if fault := unfit_path(path):
        raise PydanticCustomError("unfit_path", "{fault}", {"fault": fault})
    return path


_NAME_MAX = 255  # bytes: NAME_MAX of Linux
_PATH_MAX = 4095  # bytes: PATH_MAX of Linux, without the NUL at its end
_INT64 = 2**63  # counts end up in tensors
Count = Annotated[int, BeforeValidator(_integral), Field(ge=0, lt=_INT64)]
PositiveCount = Annotated[int, BeforeValidator(_integral), Field(ge=1, lt=_INT64)]
PositiveFloat = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]  # a file name
Folder = Annotated[str, AfterValidator(_fit_path)]
