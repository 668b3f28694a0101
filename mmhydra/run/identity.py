"""Identity: what makes the numbers of a run, and the run id that names it.

The frozen config is hashed, never its difference from today's defaults, so editing a default makes a new run.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_origin

from pydantic import BaseModel

from mmhydra.config.base import Legacy, NotIdentity, mark_of, sections_in
from mmhydra.config.schema import RunConfig

RUN_ID_LENGTH = 12

# What a run starts from: the SHA-256 of a stamp; where another run is still to save it, {"run": its id, "step": N}.
StartedFrom = str | dict[str, Any] | None


def identity_fields(
    section: BaseModel, of_nested: Callable[[BaseModel], dict[str, Any]] | None = None
) -> dict[str, Any]:
    """The section's values but those that are marked NotIdentity or equal their Legacy value, nested ones likewise.

    `of_nested` stands for this function on the sections right inside, for whoever knows their values already.
    """
    chosen = {}
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        legacy = mark_of(field.metadata, Legacy)
        if mark_of(field.metadata, NotIdentity) is not None:
            continue
        plain = of_nested(value) if of_nested and isinstance(value, BaseModel) else _plain(value)
        if legacy is None or plain != legacy.value:
            chosen[name] = plain
    return chosen


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return identity_fields(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def excluded_fields(model: type[BaseModel], prefix: str = "") -> dict[str, str]:
    """Dotted names of all fields that are no identity, each with its reason; `*` stands for the index in a list."""
    reasons: dict[str, str] = {}
    for name, field in model.model_fields.items():
        path = f"{prefix}{name}"
        mark = mark_of(field.metadata, NotIdentity)
        if mark is not None:
            reasons[path] = mark.reason
        else:
            inside = f"{path}.*." if get_origin(field.annotation) is list else f"{path}."
            for section in sections_in(field.annotation):
                reasons |= excluded_fields(section, inside)
    return reasons


@dataclass(frozen=True)
class Identity:
    """The identity document of a run and its id."""

    document: dict[str, Any]

    @property
    def run_id(self) -> str:
        """First 12 hex digits of SHA-256 over the canonical JSON of the document."""
        text = json.dumps(self.document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:RUN_ID_LENGTH]


def identify(
    config: RunConfig,
    manifests: Mapping[str, str],
    init_from: StartedFrom,
    extends: StartedFrom = None,
    of_section: Callable[[BaseModel], dict[str, Any]] | None = None,
) -> Identity:
    """The identity of a config with the digests of its data manifests and what it starts from.

    `of_section` knows the identity fields of sections that other configs have too.
    """
    document: dict[str, Any] = {
        "config": identity_fields(config, of_section),
        "manifests": dict(sorted(manifests.items())),
        "init_from": init_from,
    }
    if extends is not None:  # absent otherwise: the ids of runs that were there before `extend` stay
        document["extends"] = extends
    if config.evaluates:  # validation trains nothing; here it is all there is
        document["validation_batches"] = config.training.validation_batches
    return Identity(document)
