"""From a command line to a typed config: the only module that knows Hydra and OmegaConf."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal, get_args

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ValidationError

from mmhydra import paths
from mmhydra.config.cluster import Cluster
from mmhydra.config.schema import RunConfig
from mmhydra.errors import UserError

CONFIG_NAME = "config"
VERSION_BASE = "1.3"
COMMAND_KEYS = ("dry_run",)

DryRun = Literal["config"] | None

# Hydra goes on to advise `+key=value`, which the schema refuses.
_UNKNOWN_KEY = re.compile(r"Could not override '([^'@]+)'\.")


@dataclass(frozen=True)
class Request:
    """What one command line asks for: a run, and what to do with it."""

    config: RunConfig
    overrides: tuple[str, ...]
    dry_run: DryRun

    @property
    def cluster_is_explicit(self) -> bool:
        """Whether the command line named the cluster, so that it must be right even in a dry run."""
        return any(override.lstrip("+").startswith("cluster=") for override in self.overrides)


def register_resolvers() -> None:
    """Makes `${mmhydra.folder:VARIABLE,default}` known to OmegaConf."""
    OmegaConf.register_new_resolver("mmhydra.folder", paths.folder, replace=True)


def compose(overrides: Sequence[str]) -> Request:
    """Composes conf/ with Hydra overrides and types the result.

    Raises UserError with the text of Hydra's own errors, or with every value that has the wrong type.
    """
    register_resolvers()
    try:
        with initialize_config_dir(config_dir=str(paths.config_dir()), version_base=VERSION_BASE):
            composed = hydra_compose(CONFIG_NAME, overrides=list(overrides))
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError) as error:  # ValueError: model=null
        raise UserError(_of_hydra(error, overrides)) from error
    return to_request(composed, overrides)


def _of_hydra(error: Exception, overrides: Sequence[str]) -> str:
    if unknown := _UNKNOWN_KEY.match(str(error)):
        return _no_such_key(unknown.group(1))
    if isinstance(error, ValueError):  # these do not say which override is wrong
        return f"{error}, in: {' '.join(overrides)}"
    return str(error)


def to_request(composed: DictConfig, overrides: Sequence[str]) -> Request:
    """Types a composed config and takes the keys of the command out of it. Raises UserError, see `compose`."""
    try:
        tree = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise UserError(str(error)) from error
    assert isinstance(tree, dict)
    command = {key: tree.pop(key, None) for key in COMMAND_KEYS}
    if command["dry_run"] not in ("config", None):
        raise UserError(f"dry_run={command['dry_run']}: legal values are config and null; type dry_run=config")
    return Request(to_run_config(tree), tuple(overrides), command["dry_run"])


def to_run_config(tree: Mapping[Any, Any]) -> RunConfig:
    """Types a composed tree. Raises UserError that lists every key that is unknown, missing or of a wrong type."""
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        lines = [f"  {line}" for line in _describe(error.errors())]
        raise UserError("\n".join(["the config does not fit its schema:", *lines])) from error


def _describe(problems: Sequence[Any]) -> Iterator[str]:
    """One line a key. Pydantic reports each arm of a union by itself, under a name that holds a bracket."""
    by_key: dict[str, list[Any]] = {}
    for problem in problems:
        key = ".".join(str(part) for part in problem["loc"] if "[" not in str(part))
        by_key.setdefault(key, []).append(problem)
    for key, (first, *others) in by_key.items():
        if first["type"] == "extra_forbidden":
            yield _no_such_key(key)
        elif first["type"] == "missing":
            yield f"{key}: no value; every value comes from a YAML file or the command line"
        else:
            texts = [first["msg"], *(other["msg"].removeprefix("Input should be ") for other in others)]
            quoted = isinstance(first["input"], int | float) and first["type"] == "string_type"
            cure = f"; for text, type {key}='\"{first['input']}\"'" if quoted else ""
            yield f"{key}: {' or '.join(texts)}, got {first['input']!r}{cure}"


def _no_such_key(key: str) -> str:
    near = get_close_matches(key, [*COMMAND_KEYS, *_keys(RunConfig)])
    cure = f"did you mean {' or '.join(near)}?" if near else "dry_run=config prints all keys"
    return f"{key}: no such key; {cure}"


def _keys(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        yield f"{prefix}{name}"
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _keys(kind, f"{prefix}{name}.")


def known_clusters() -> dict[str, Cluster]:
    """The choices of the cluster group by name, smallest first."""
    clusters = {}
    for path in sorted((paths.config_dir() / "cluster").glob("*.yaml")):
        with suppress(ValidationError, yaml.YAMLError):  # one that builds on another file is no hint, and no fault
            clusters[path.stem] = Cluster.model_validate(yaml.load(path.read_text(), Loader=yaml.CSafeLoader))
    return dict(sorted(clusters.items(), key=lambda item: item[1].num_gpus or 0))
