"""What can be told from overrides alone, before anything is composed: typos, doubles, and keys that are Hydra's."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, OverrideType, Sweep
from hydra.errors import HydraException

from mmhydra.compose import launcher_keys
from mmhydra.compose.loader import DATASET_GROUPS
from mmhydra.config.problems import ConfigError, Problem
from mmhydra.config.schema import RunConfig
from mmhydra.config.typed import COMMAND_KEYS, is_known, nearest, no_such_choice, no_such_key, takes

# What the defaults of conf/config.yaml choose from; the user's own groups stand nowhere there.
CHOSEN = (*RunConfig.model_fields, "experiment")
# Trackers combine; two models would be merged into something that is neither. The user's own groups may combine.
_SINGLE = {*CHOSEN} - {"track"}
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


class Parser(Protocol):
    """What reads an override: Hydra's parser, or one that remembers."""

    def parse_override(self, text: str, /) -> Override:
        """Raises HydraException, RecursionError, ValueError or TypeError for what is no override."""


def parse(overrides: Sequence[str], parser: Parser | None = None) -> Parsed:
    """Raises ConfigError that lists all overrides that are no overrides, and all keys that are set twice."""
    parser = parser or OverridesParser.create()
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
            message = f"not of the form KEY=VALUE: {_no_form(text, error, parser)}"
            problems.append(Problem((text or "''",), message, rule="override"))
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


def _no_form(text: str, error: Exception, parser: Parser) -> str:
    key, sign, value = text.partition("=")
    if not sign and not text.startswith("~"):
        return "there is no '='"
    if key and value[:1] in ("[", "{") and value[-1] not in "]}":
        return f"{_first_line(error)}; quote the whole argument for the shell, as in '{key}={value}...'"
    with suppress(HydraException, RecursionError, ValueError, TypeError):
        if key and isinstance(parser.parse_override(f"{key}='{value}'").value(), str):
            return f"{_first_line(error)}; quote it: {key}=\"'{value}'\""
    return _first_line(error)


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
    left_out = ("hydra", *DATASET_GROUPS)
    groups = [name for name in files.get_group_options("", ObjectType.GROUP) if name not in left_out]
    problems = [problem for override in overrides for problem in _unknown(override, files, groups, sweeping)]
    if problems:
        raise ConfigError(problems)


def _unknown(override: Override, files: Any, groups: list[str], sweeping: bool) -> Iterator[Problem]:
    key, text = override.key_or_group, override.input_line or ""
    if key == "hydra" or key.startswith(("hydra.", "hydra/")):
        yield from _of_hydra(override, files)
    elif key in DATASET_GROUPS:
        yield Problem(
            (key,),
            f"a run chooses nothing from this group, it names finished datasets (data=NAME); this one is for "
            f"{DATASET_GROUPS[key]}",
            rule="choice",
        )
    elif files.group_exists(key):
        yield from _choices(override, files, sweeping)
    elif override.package is not None or "/" in key:
        dotted = key.replace("/", ".")
        near = [dotted] if is_known(dotted) else nearest(key, groups)
        cure = f"did you mean {near[0]}?" if near else f"legal: {', '.join(groups)}"
        yield Problem((key,), f"no such group; {cure}", rule="unknown_group")
    elif not override.is_delete() and key.partition(".")[0] not in COMMAND_KEYS and not is_known(key):
        yield Problem((key,), no_such_key(key, groups), rule="unknown_key")
    elif sweeping and isinstance(override.value(), Glob):
        yield Problem((key,), f"{text}: glob() is for groups; type the values, as in {key}=A,B", rule="sweep")
    elif override.is_sweep_override() and not sweeping:
        yield Problem(
            (key,), f"{text} names several values; type -m to run each of them{_as_one(override)}", rule="sweep"
        )


def _as_one(override: Override) -> str:
    """How to give several values as one, for a key that takes a list or text."""
    key, _, value = (override.input_line or "").partition("=")
    if takes(override.key_or_group, list):
        return f", or make them a list: '{key}=[{value}]'"
    return f", or quote it: {key}=\"'{value}'\"" if takes(override.key_or_group, str) and "'" not in value else ""


def _of_hydra(override: Override, files: Any) -> Iterator[Problem]:
    key = override.key_or_group
    if any(key == legal or key.startswith(f"{legal}.") for legal in HYDRA_KEYS):
        choice = override.value()
        if "/" in key and not override.is_delete() and not files.config_exists(f"{key}/{choice}"):
            legal = files.get_group_options(key)
            yield Problem((key,), no_such_choice(key, str(choice), legal), rule="unknown_choice")
        return
    if key.startswith(launcher_keys.PREFIX):  # with -m it is read as the key of the cluster
        yield Problem((key,), f"it is for -m alone; {launcher_keys.cure(key)}", rule="hydra_key")
        return
    cure = next((text for start, text in _CURES.items() if key == start or key.startswith(f"{start}.")), None)
    near = nearest(key, HYDRA_KEYS)
    cure = cure or (f"did you mean {near[0]}?" if near else f"legal: {', '.join(HYDRA_KEYS)}")
    yield Problem((key,), f"Hydra only composes here, so this would change nothing; {cure}", rule="hydra_key")


def _choices(override: Override, files: Any, sweeping: bool) -> Iterator[Problem]:
    group, text = override.key_or_group, override.input_line or ""
    plain = f"{group}{text[text.find('=') :]}"
    if group in CHOSEN and override.package is not None:
        yield Problem((group,), f"{text}: the groups of a run have no packages; type {plain}", rule="choice")
        return
    if override.type is OverrideType.FORCE_ADD or (group in CHOSEN and override.is_add()):
        plus, why = ("", "chooses from it already") if group in CHOSEN else ("+", "chooses nothing from it yet")
        cure = f"type {plus}{plain}, {'without the plus' if not plus else 'with one plus'}"
        yield Problem((group,), f"{text}: conf/config.yaml {why}; {cure}", rule="choice")
        return
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
            if isinstance(choice, dict) and choice and group in RunConfig.model_fields:
                cure = " ".join(f"{group}.{key}={_typed(inside)}" for key, inside in choice.items())
                yield Problem((group,), f"{text} chooses nothing; to set values, type {cure}", rule="choice")
            elif choice is None or isinstance(choice, dict | list):
                yield Problem(
                    (group,), f"{text} chooses nothing; leave it out, or type one of {', '.join(legal)}", rule="choice"
                )
            elif not files.config_exists(f"{group}/{choice}"):
                yield Problem((group,), no_such_choice(group, str(choice), legal), rule="unknown_choice")


def _typed(value: Any) -> str:
    return "VALUE" if value is None or isinstance(value, dict | list) else str(value)


def _unquoted(value: Any) -> Any:
    return value.strip("'\"") if isinstance(value, str) else value
