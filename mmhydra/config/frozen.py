"""The one text form of a RunConfig: what a dry run prints and what a worker reads are these bytes."""

import hashlib
from copy import deepcopy
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from mmhydra.config.base import Legacy, mark_of, sections_in
from mmhydra.config.schema import RunConfig
from mmhydra.config.typed import problems_of
from mmhydra.errors import UserError


class FrozenConfigError(UserError):
    """A config text that is no RunConfig."""


def to_yaml(config: RunConfig) -> bytes:
    """The frozen text of a config: declared order, one line per scalar, UTF-8."""
    text: str = yaml.dump(
        config.model_dump(mode="python"), Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True, width=1000
    )
    return text.encode()


def from_yaml(text: bytes) -> RunConfig:
    """Reads a frozen config back, also one of an earlier version, whose later fields then have their legacy values.

    Raises FrozenConfigError for anything that `to_yaml` never wrote.
    """
    try:
        tree = yaml.load(text, Loader=yaml.CSafeLoader)
        if not isinstance(tree, dict):
            raise FrozenConfigError("not a frozen config of this version of mmhydra: it has no keys")
        add_legacy(tree, RunConfig)
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        lines = [f"  {problem}" for problem in problems_of(error)]
        raise FrozenConfigError("\n".join(["not a frozen config of this version of mmhydra:", *lines])) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FrozenConfigError(f"not a frozen config of this version of mmhydra: {error}") from error


def add_legacy(tree: Any, section: type[BaseModel]) -> None:
    """Gives a tree the fields that came after it was written."""
    if isinstance(tree, list):
        for item in tree:
            add_legacy(item, section)
    if not isinstance(tree, dict):
        return
    for name, field in section.model_fields.items():
        legacy = mark_of(field.metadata, Legacy)
        if legacy is not None:
            tree.setdefault(name, deepcopy(legacy.value))
        for inside in sections_in(field.annotation):
            add_legacy(tree.get(name), inside)


def config_sha256(text: bytes) -> str:
    """The config hash: SHA-256 over the frozen bytes, in hex."""
    return hashlib.sha256(text).hexdigest()


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Leaves by dotted path; list elements by index."""
    if isinstance(tree, dict):
        items = [(str(key), value) for key, value in tree.items()]
    elif isinstance(tree, list) and tree:
        items = [(str(index), value) for index, value in enumerate(tree)]
    else:
        return {prefix: tree}
    leaves: dict[str, Any] = {}
    for key, value in items:
        leaves |= flatten(value, f"{prefix}.{key}" if prefix else key)
    return leaves
