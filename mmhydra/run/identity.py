"""Identity: what makes the numbers of a run, and the run id that names it.

The frozen config is hashed, never its difference from today's defaults, so editing a default makes a new run.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from mmhydra.config.base import NotIdentity
from mmhydra.config.schema import RunConfig

RUN_ID_LENGTH = 12


def identity_fields(section: BaseModel) -> dict[str, Any]:
    """The section's values without those that are marked NotIdentity, nested sections likewise."""
    chosen = {}
    for name, field in type(section).model_fields.items():
        if not any(isinstance(mark, NotIdentity) for mark in field.metadata):
            chosen[name] = _plain(getattr(section, name))
    return chosen


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return identity_fields(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def excluded_fields(model: type[BaseModel], prefix: str = "") -> dict[str, str]:
    """Dotted names of all fields that are no identity, each with its reason."""
    reasons: dict[str, str] = {}
    for name, field in model.model_fields.items():
        path = f"{prefix}{name}"
        marks = [mark for mark in field.metadata if isinstance(mark, NotIdentity)]
        if marks:
            reasons[path] = marks[0].reason
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            reasons |= excluded_fields(field.annotation, f"{path}.")
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


def identify(config: RunConfig, manifests: Mapping[str, str], init_from_sha256: str | None) -> Identity:
    """The identity of a config with the digests of its data manifests and of the stamp it starts from."""
    return Identity(
        {
            "config": identity_fields(config),
            "manifests": dict(sorted(manifests.items())),
            "init_from": init_from_sha256,
        }
    )
