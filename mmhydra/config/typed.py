"""From a plain tree to a RunConfig, or to every key that is unknown, missing or of a wrong type."""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from typing import Any

from pydantic import BaseModel, ValidationError

from mmhydra.config.base import sections_in
from mmhydra.config.problems import ConfigError, Origins, Problem
from mmhydra.config.schema import RunConfig
from mmhydra.config.secrets import find_in_values

# Keys of the command: taken out of what Hydra composed before the config of the run is made.
COMMAND_KEYS = ("dry_run", "confirm", "resume", "extend")
_NEAR = 3  # suggestions at most


def to_run_config(tree: Mapping[Any, Any], origins: Origins | None = None) -> RunConfig:
    """Types a composed tree. Raises ConfigError that lists every key that is unknown, missing or of a wrong type."""
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(list(_problems(error.errors())), origins) from error


def _problems(faults: Sequence[Any]) -> Iterator[Problem]:
    """One a key. Pydantic reports each arm of a union by itself, under a name that holds a bracket."""
    by_key: dict[str, list[Any]] = {}
    for fault in faults:
        key = ".".join(str(part) for part in fault["loc"] if "[" not in str(part))
        by_key.setdefault(key, []).append(fault)
    for key, (first, *others) in by_key.items():
        yield Problem((key,), _fault(key, first, others), rule="schema")


def _fault(key: str, first: Any, others: Sequence[Any]) -> str:
    if first["type"] == "extra_forbidden":
        name = str(first["loc"][-1])
        if "." in name:
            nested = f"{name.replace('.', ': {')}: VALUE{'}' * name.count('.')}"
            return f"a dot in a name makes no section in YAML; write {nested}"
        return no_such_key(key)
    if first["type"] == "missing":
        return "no value; every value comes from a YAML file or the command line"
    if first["type"] in ("model_type", "dict_type"):
        return f"this is a section, not a value; type one of its keys, such as {_example(key)}"
    texts = [first["msg"], *(other["msg"].removeprefix("Input should be ") for other in others)]
    given = first["input"]
    if any(find_in_values({key: str(given)})):
        given = "what looks like a secret"
    quoted = isinstance(given, int | float) and first["type"] == "string_type"
    cure = f"; for text, type {key}='\"{given}\"'" if quoted else ""
    return f"{' or '.join(texts)}, got {given!r}{cure}"


def _example(section: str) -> str:
    inside = [key for key in known_keys() if key.startswith(f"{section}.")]
    return inside[0] if inside else f"{section}.KEY=VALUE"


def no_such_key(key: str, groups: Sequence[str] = ()) -> str:
    """The message for a key that does not exist, with the nearest that do."""
    near = nearest(key, [*COMMAND_KEYS, *known_keys(), *groups])
    return f"no such key; {_or(near)}" if near else "no such key; dry_run=config prints all keys"


def no_such_choice(group: str, choice: str, choices: Sequence[str]) -> str:
    """The message for a choice that a group does not have."""
    near = get_close_matches(choice, choices, _NEAR, cutoff=0.5)
    cure = f"; {_or([f'{group}={name}' for name in near])}" if near else ""
    legal = f"legal: {', '.join(sorted(choices))}" if choices else f"{group} has no file NAME.yaml"
    return f"{group}={choice}: no such choice{cure} ({legal})"


def _or(near: Sequence[str]) -> str:
    return f"did you mean {' or '.join(near)}?"


def nearest(key: str, known: Sequence[str]) -> list[str]:
    """Known keys that may have been meant by `key`: the same last word elsewhere first, then likely slips."""
    last = key.rpartition(".")[2]
    same_word = [name for name in known if name.rpartition(".")[2] == last]
    alike = get_close_matches(key, known, _NEAR)
    if not same_word and not alike:
        words = {name.rpartition(".")[2]: name for name in reversed(known)}
        alike = [words[word] for word in get_close_matches(last, list(words), 1, cutoff=0.75)]
    return list(dict.fromkeys([*same_word, *alike]))[:_NEAR]


@cache
def known_keys() -> tuple[str, ...]:
    """Dotted names of all sections and fields of RunConfig, elements of lists left out."""
    return tuple(_keys(RunConfig, ""))


def _keys(section: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in section.model_fields.items():
        yield f"{prefix}{name}"
        if not _is_list(field.annotation):
            for inside in sections_in(field.annotation):
                yield from _keys(inside, f"{prefix}{name}.")


def _is_list(annotation: Any) -> bool:
    return getattr(annotation, "__origin__", None) is list


@cache
def _open_keys() -> tuple[str, ...]:
    """Keys that hold lists: what stands below them is named by numbers and words that pydantic checks."""
    return tuple(_lists(RunConfig, ""))


def _lists(section: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in section.model_fields.items():
        if _is_list(field.annotation):
            yield f"{prefix}{name}"
        for inside in sections_in(field.annotation):
            yield from _lists(inside, f"{prefix}{name}.")


def is_known(key: str) -> bool:
    """Whether the schema has a key, or a list that the key goes into."""
    return key in known_keys() or any(key.startswith(f"{name}.") for name in _open_keys())
