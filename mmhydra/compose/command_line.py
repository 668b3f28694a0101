"""What can be told from overrides alone, before anything is composed: typos, doubles, and keys that are Hydra's."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, Sweep
from hydra.errors import HydraException

from mmhydra.config.problems import ConfigError, Problem
from mmhydra.config.schema import RunConfig
from mmhydra.config.typed import COMMAND_KEYS, is_known, nearest, no_such_choice, no_such_key

# Trackers combine; two models would be merged into something that is neither. The user's own groups may combine.
_SINGLE = {*RunConfig.model_fields, "experiment"} - {"track"}
# Hydra composes for us and starts nothing, so its other settings would be accepted and change nothing.
HYDRA_KEYS = ("hydra.searchpath", "hydra/sweeper", "hydra.sweeper")
_CURES = {
    "hydra.mode": "type -m to run several points",
    "hydra.run": "type paths.outputs=FOLDER (or set MMHYDRA_OUTPUTS)",
    "hydra.sweep": "type paths.outputs=FOLDER (or set MMHYDRA_OUTPUTS)",
    "hydra.output_subdir": "type paths.outputs=FOLDER (or set MMHYDRA_OUTPUTS)",
    "hydra/launcher": "type cluster=NAME, the cluster decides how a run starts",
    "hydra.launcher": "type cluster=NAME, the cluster decides how a run starts",
}


class Parsed(NamedTuple):
    """Overrides in their order, each once, and a warning for each that was given twice."""

    overrides: list[Override]
    warnings: list[str]

    @property
    def texts(self) -> list[str]:
        """The overrides as they were typed."""
        return [override.input_line or "" for override in self.overrides]


def parse(overrides: Sequence[str]) -> Parsed:
    """Raises ConfigError that lists all overrides that are no overrides, and all keys that are set twice."""
    parser = OverridesParser.create()
    problems: list[Problem] = []
    seen: dict[tuple[str, str | None], Override] = {}
    warnings = []
    for text in overrides:
        try:
            override = parser.parse_override(text)
            key = (override.key_or_group, override.package)
            repr(override.value())  # a sweep or a resolver with wrong arguments fails here
            if not override.key_or_group:
                raise ValueError("there is no key")
        except (HydraException, RecursionError, ValueError, TypeError) as error:
            problems.append(
                Problem((text or "''",), f"not of the form KEY=VALUE: {_first_line(error)}", rule="override")
            )
            continue
        first = seen.setdefault(key, override)
        if first is override:
            continue
        if _equal(first, override):
            warnings.append(f"{text} is given twice")
        else:
            problems.append(
                Problem(
                    (key[0],),
                    f"given twice and differently, {first.input_line} and {text}; leave one of them out",
                    rule="given_twice",
                )
            )
    if problems:
        raise ConfigError(problems)
    return Parsed(list(seen.values()), warnings)


def _equal(one: Override, other: Override) -> bool:
    """Whether two overrides say the same."""
    return one.type == other.type and _same(one.value(), other.value())


def _same(one: Any, other: Any) -> bool:
    """Whether two values are one; true is not 1, though Python thinks so."""
    if isinstance(one, Sweep) and type(one) is type(other):
        return _same(vars(one), vars(other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def require_known(overrides: Sequence[Override], files: Any, *, sweeping: bool) -> None:
    """Raises ConfigError that lists all keys, groups and choices that do not exist. `files` is Hydra's repository."""
    groups = [name for name in files.get_group_options("", ObjectType.GROUP) if name != "hydra"]
    problems = [problem for override in overrides for problem in _unknown(override, files, groups, sweeping)]
    if problems:
        raise ConfigError(problems)


def _unknown(override: Override, files: Any, groups: list[str], sweeping: bool) -> Iterator[Problem]:
    key, text = override.key_or_group, override.input_line or ""
    if key == "hydra" or key.startswith(("hydra.", "hydra/")):
        yield from _of_hydra(key)
    elif files.group_exists(key):
        yield from _choices(override, files, sweeping)
    elif override.package is not None or "/" in key:
        near = nearest(key, groups)
        yield Problem(
            (key,),
            f"no such group; did you mean {near[0]}?" if near else f"no such group; legal: {groups}",
            rule="unknown_group",
        )
    elif not override.is_delete() and key.partition(".")[0] not in COMMAND_KEYS and not is_known(key):
        yield Problem((key,), no_such_key(key, groups), rule="unknown_key")
    elif sweeping and isinstance(override.value(), Glob):
        yield Problem((key,), f"{text}: glob() is for groups; type the values, as in {key}=A,B", rule="sweep")
    elif override.is_sweep_override() and not sweeping:
        yield Problem(
            (key,), f"{text} names several values; type -m to run each of them, or quote: {key}='[...]'", rule="sweep"
        )


def _of_hydra(key: str) -> Iterator[Problem]:
    if any(key == legal or key.startswith(f"{legal}.") for legal in HYDRA_KEYS):
        return
    cure = next((text for start, text in _CURES.items() if key == start or key.startswith(f"{start}.")), None)
    near = nearest(key, HYDRA_KEYS)
    cure = cure or (f"did you mean {near[0]}?" if near else f"legal: {', '.join(HYDRA_KEYS)}")
    yield Problem((key,), f"Hydra only composes here, so this would change nothing; {cure}", rule="hydra_key")


def _choices(override: Override, files: Any, sweeping: bool) -> Iterator[Problem]:
    group, text = override.key_or_group, override.input_line or ""
    if override.is_delete():
        if group in RunConfig.model_fields and group not in _SINGLE:  # Hydra can't delete from a list of choices
            yield Problem((group,), f"{text} deletes nothing; type {group}=[] to choose none", rule="choice")
        return
    if override.is_sweep_override():
        if not sweeping:
            yield Problem((group,), f"{text} names several choices; type -m to run each of them", rule="sweep")
            return
        if not override.is_discrete_sweep():
            yield Problem((group,), f"{text}: a group has choices, not ranges; type {group}=A,B", rule="sweep")
            return
        pattern = override.value()
        if isinstance(pattern, Glob):
            values: list[Any] = pattern.filter(files.get_group_options(group))
        else:
            values = [_unquoted(value) for value in override.sweep_iterator()]
        if not values:
            yield Problem(
                (group,),
                f"{text} finds no choice; legal: {', '.join(files.get_group_options(group))}",
                rule="unknown_choice",
            )
    else:
        values = [override.value()]
    legal = files.get_group_options(group)
    for value in values:
        choices = value if isinstance(value, list) else [value]
        if isinstance(value, list) and group in _SINGLE:
            yield Problem((group,), f"{text}: a run has one {group}; legal: {', '.join(legal)}", rule="choice")
            continue
        for choice in choices:
            if choice is None or isinstance(choice, dict | list):
                yield Problem(
                    (group,), f"{text} chooses nothing; leave it out, or type one of {', '.join(legal)}", rule="choice"
                )
            elif not files.config_exists(f"{group}/{choice}"):
                yield Problem((group,), no_such_choice(group, str(choice), legal), rule="unknown_choice")


def _unquoted(value: Any) -> Any:
    return value.strip("'\"") if isinstance(value, str) else value
