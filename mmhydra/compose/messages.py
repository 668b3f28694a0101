"""Errors of Hydra, OmegaConf and YAML as messages that name a key, a place and a cure."""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from traceback import walk_tb
from typing import Any

import yaml
from hydra.core.default_element import ConfigDefault
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mmhydra.compose.command_line import CHOSEN
from mmhydra.compose.loader import known_clusters
from mmhydra.config.frozen import flatten
from mmhydra.config.problems import ConfigError, Origins, Problem
from mmhydra.config.typed import COMMAND_KEYS, is_known, no_such_key, to_run_config
from mmhydra.errors import UserError

# Hydra goes on to advise `+key=value`, which the schema refuses.
_UNKNOWN_KEY = re.compile(r"Could not override '([^'@]+)'\.")
_ALREADY_THERE = re.compile(r"Could not append to config\. An item is already at '([^']+)'")
_NO_SUCH_GROUP = re.compile(r"Could not override '([^'@]+)'\. No match in the defaults list")
_NOTHING_TO_DELETE = re.compile(r"Could not delete from config\. '([^']+)' does not exist")
_OVERRIDE_IN_FILE = re.compile(r"In '([^']+)': Could not override '([^'@]+)(@[^']+)?'")
_COMPOSING = re.compile(r": \w+ raised while composing config:")
_MAX_PROBLEMS = 50
_CLUSTER = "MMHYDRA_CLUSTER"  # conf/config.yaml reads it
_FILLED = {"loader.store": "loader=object_store"}  # sections that are null by default, and the choice that has one
_SLURM = "cluster.slurm"  # a section that is null where jobs are not submitted
# Sections whose keys are anybody's.
_OPEN = (f"{_SLURM}.environment", f"{_SLURM}.additional_parameters", "loader.store.options")


@contextmanager
def named(
    overrides: Sequence[str], origins: Origins | None, groups: Callable[[], Mapping[str, Sequence[str]]] = dict
) -> Iterator[None]:
    """Turns whatever goes wrong inside Hydra into a UserError. `groups` gives all groups with their choices.

    Everything, not the exceptions that Hydra declares: what is inside comes from the command line and from files
    alone, and Hydra lets AttributeError, AssertionError and RecursionError of its own through.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise _told(error, overrides, origins, groups) from error


def _told(
    error: Exception,
    overrides: Sequence[str],
    origins: Origins | None,
    groups: Callable[[], Mapping[str, Sequence[str]]],
) -> UserError:
    if isinstance(error, MissingConfigException):
        return UserError(_missing(error, groups()))
    if unmatched := _NO_SUCH_GROUP.search(str(error)):
        return UserError(_unmatched(unmatched.group(1), error, overrides, groups()))
    if (refused := _OVERRIDE_IN_FILE.match(str(error))) and refused.group(2) in CHOSEN:
        return UserError(_not_overridden(*refused.groups()))
    if isinstance(error, yaml.MarkedYAMLError):
        return UserError(_yaml(error))
    if unknown := _UNKNOWN_KEY.match(str(error)):
        key = unknown.group(1)
        text = _not_there(key, error, groups()) if is_known(key) else no_such_key(key)
        return ConfigError([Problem((key,), text, rule="unknown_key")], origins)
    if absent := _NOTHING_TO_DELETE.match(str(error)):
        key = absent.group(1)
        text = f"there is nothing to delete; leave ~{key} out" if is_known(key) else no_such_key(key, list(groups()))
        return ConfigError([Problem((key,), text, rule="unknown_key")], origins)
    if there := _ALREADY_THERE.match(str(error)):
        key = there.group(1)
        return ConfigError([Problem((key,), f"it is there already; type {key}=VALUE, without the plus")], origins)
    if clashes := origins.clashes() if origins is not None and not isinstance(error, RecursionError) else []:
        problems = [Problem((clash.key or clash.setting.where,), str(clash)) for clash in clashes]
        return ConfigError(problems, origins if all(clash.key for clash in clashes) else None)
    cause = next((inner for inner in _chain(error) if isinstance(inner, OmegaConfBaseException)), None)
    if isinstance(error, OSError | UnicodeDecodeError):
        return UserError(f"a config file can't be read: {error}")
    if cause is not None and cause.full_key:
        text = _first_line(cause)
        where = f" ({_first_line(error)})" if str(error) and _first_line(error) != text else ""
        return ConfigError([Problem((cause.full_key,), f"{text}{where}")], origins)
    text = next((str(inner) for inner in _chain(error) if str(inner)), type(error).__name__)
    if isinstance(error, RecursionError):
        text = _too_deep(error)
    elif not isinstance(error, HydraException | yaml.YAMLError | OmegaConfBaseException | UserWarning | ValueError):
        text = f"this can't be composed: {text}"
    command = f"\nin: {' '.join(overrides)}" if overrides else ""
    return UserError(f"{_without_advice(text)}{command}")


def _too_deep(error: RecursionError) -> str:
    """Hydra follows the defaults of files until Python stops it; the traceback knows the files that came again."""
    nodes = [getattr(frame.f_locals.get("root"), "node", None) for frame, _ in walk_tb(error.__traceback__)]
    times = Counter(node.get_config_path() for node in nodes if isinstance(node, ConfigDefault))
    files = sorted(f"{file}.yaml" for file, number in times.items() if file and number > 2)
    by = f", by the defaults of {', '.join(files)}" if files else ""
    return f"it is nested too deeply, or refers to itself{by}"


def _not_there(key: str, error: Exception, groups: Mapping[str, Sequence[str]]) -> str:
    """The schema has the key, so a section around it is null, or it is one of those that anybody names."""
    section, _, leaf = key.rpartition(".")
    absent = next((inner.full_key for inner in _chain(error) if isinstance(inner, OmegaConfBaseException)), None) or key
    if absent.rpartition(".")[0] == _SLURM:
        return f"this cluster has no SLURM, so it has no {leaf}; choose one that has{_slurm_clusters(groups)}"
    open_section = absent.rpartition(".")[0]
    if open_section in _OPEN and open_section == key:
        return f"{key} is open to names of your own, each of which is added: type +{absent}=VALUE"
    if section in _OPEN:
        return f"{section} has no {leaf} yet; to add it, type +{key}=VALUE"
    group, _, choice = section.rpartition(".")
    if choice.isdecimal():
        return f"{section} leaves {leaf} out; to add it, type +{key}=VALUE"
    chosen = f"{group}={choice}" if choice in groups.get(group, []) else _FILLED.get(section)
    cure = f"type {chosen}, or " if chosen else "type "
    return f"{section} is null here, so it has no {leaf}; {cure}'{section}={{{leaf}: VALUE}}'"


def _slurm_clusters(groups: Mapping[str, Sequence[str]]) -> str:
    known = known_clusters()
    without = [name for name, cluster in known.items() if cluster.slurm is None]
    legal = [name for name in groups.get("cluster", list(known)) if name not in without]
    return f": type cluster=NAME (legal: {', '.join(legal)})" if legal else ": type cluster=NAME"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()  # an error that is raised again may be among its own causes
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return _COMPOSING.sub("", lines[0]) if lines else type(error).__name__


def _without_advice(text: str) -> str:
    """Without what the schema would refuse, and without what only Hydra's authors understand."""
    lines = [line for line in text.splitlines() if "To append to your config" not in line]
    return "\n".join(line for line in lines if not line.strip().startswith(("full_key:", "object_type="))).strip()


def _unmatched(group: str, error: Exception, overrides: Sequence[str], groups: Mapping[str, Sequence[str]]) -> str:
    """A choice from a group that the defaults do not choose from."""
    text = _first_line(error).partition(" No match in")[0]
    given = next((override for override in overrides if override.startswith(f"{group}=")), None)
    if group in groups:
        cure = f"type +{given}" if given else f"write - /{group}: CHOICE, without override"
        return f"{text} conf/config.yaml chooses nothing from that group; {cure}"
    near = get_close_matches(group, list(groups), 3)
    cure = f"did you mean {' or '.join(near)}?" if near else f"groups are {', '.join(groups)}"
    return f"{text} There is no such group; {cure}"


def _not_overridden(file: str, group: str, package: str | None) -> str:
    """A file that overrides a group that conf/config.yaml chooses from, from a wrong place."""
    text = f"In '{file}': Could not override '{group}'."
    if package:
        cure = "A file that overrides other groups has # @package _global_ as its first line"
        return f"{text} {cure}, and its own values below the name of its group"
    return (
        f"{text} A file can override only groups that stand before its own in the defaults of conf/config.yaml, "
        f"and {group} stands later; type {group}=CHOICE on the command line"
    )


def _missing(error: MissingConfigException, groups: Mapping[str, Sequence[str]]) -> str:
    """A file that names a choice that does not exist."""
    first = _first_line(error)
    group, _, name = (error.missing_cfg_file or "").rpartition("/")
    options = list(error.options or groups.get(group, []))
    near = get_close_matches(name, options, 3, cutoff=0.5)
    cure = f"; did you mean {' or '.join(near)}?" if near else ""
    legal = f" (legal: {', '.join(options)})" if options else ""
    if group and group not in groups:
        near = get_close_matches(group, list(groups), 3)
        cure = f"; there is no group {group}{f', did you mean {near[0]}?' if near else ''}"
    chosen = f"; {_CLUSTER} chose it" if group == "cluster" and os.environ.get(_CLUSTER) == name else ""
    return f"{first.rstrip('.')}{chosen}{cure}{legal}"


def _yaml(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    where = f"{mark.name}:{mark.line + 1}:{mark.column + 1}: " if mark is not None else ""
    context = f" ({error.context})" if error.context else ""
    return f"{where}this is no YAML: {error.problem}{context}"


def resolved(composed: DictConfig, origins: Origins | None) -> dict[str, Any]:
    """The plain values of a composed config. Raises ConfigError with each interpolation and missing value at fault."""
    try:
        tree = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except Exception as error:  # resolvers raise what they like
        problems = [*_unfit(composed), *_unresolved(composed, "")][:_MAX_PROBLEMS]
        raise ConfigError(problems or [Problem(("config",), _first_line(error))], origins) from error
    assert isinstance(tree, dict)
    return {str(key): value for key, value in tree.items()}


def _unfit(composed: DictConfig) -> Iterator[Problem]:
    """What does not fit the schema besides: an empty section shows first as an interpolation that finds nothing."""
    tree = OmegaConf.to_container(composed, resolve=False)
    assert isinstance(tree, dict)
    texts = {key: value for key, value in flatten(tree).items() if isinstance(value, str)}
    open_keys = {key for key, value in texts.items() if "${" in value or value == "???"}
    try:
        to_run_config({key: value for key, value in tree.items() if key not in COMMAND_KEYS})
    except ConfigError as error:
        yield from (problem for problem in error.problems if open_keys.isdisjoint(problem.keys))


def _unresolved(node: Any, prefix: str) -> Iterator[Problem]:
    keys = range(len(node)) if isinstance(node, ListConfig) else list(node)
    for key in keys:
        name = f"{prefix}.{key}" if prefix else str(key)
        try:
            if OmegaConf.is_missing(node, key):
                yield Problem((name,), f"Missing mandatory value: {name}; type {name}=VALUE", rule="interpolation")
                continue
            value = node[key]
        except RecursionError:
            yield Problem((name,), "Recursive interpolation: it refers to itself", rule="interpolation")
            continue
        except Exception as error:
            yield Problem((name,), _interpolation(error), rule="interpolation")
            continue
        if isinstance(value, DictConfig | ListConfig) and not OmegaConf.is_interpolation(node, key):
            yield from _unresolved(value, name)


def _interpolation(error: Exception) -> str:
    text = _first_line(error)
    if "Recursive interpolation" in text or isinstance(error, RecursionError):
        return f"{text}; it refers to itself"
    return text
