"""Studies: YAML files that say which runs are made, and why. docs/sweeps.md describes the format."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from mmhydra import paths
from mmhydra.config.base import sections_in
from mmhydra.config.problems import ConfigError, Problem
from mmhydra.errors import UserError
from mmhydra.sweep.study.blocks import Block, Study
from mmhydra.sweep.study.document import Document, Loc
from mmhydra.sweep.study.rules import find_faults

__all__ = ["Study", "find_study", "known_studies", "read_study"]

FOLDER = "sweeps"  # below a folder of the user's own groups
_OWN = "FILE.yaml, or NAME of FOLDER/sweeps/NAME.yaml with --config-dir FOLDER"
_NEEDED = {
    "question": "write in a sentence or two what these runs are to answer",
    "stop_rule": "write when people stop, or what result ends it; `stop` has what the program minds by itself",
}


def find_study(name: str, config_dirs: Sequence[Path] = ()) -> Path:
    """The file of a study: in the folder `sweeps` of the user's folders, then in the project's; or a path to one.

    Raises UserError that lists the studies there are.
    """
    if name.endswith(".yaml"):
        if not Path(name).is_file():
            raise UserError(f"sweep={name}: there is no such file")
        return Path(name)
    known = known_studies(config_dirs)
    if name in known:
        return next(path for folder in _folders(config_dirs) if (path := folder / f"{name}.yaml").is_file())
    near = get_close_matches(name, known, 3)
    meant = f"; did you mean {' or '.join(f'sweep={one}' for one in near)}?" if near else "."
    lines = [f"  {one:<16} {_question(find_study(one, config_dirs))}" for one in known]
    raise UserError("\n".join([f"sweep={name}: no such study{meant} There are:", *lines, f"or type sweep={_OWN}"]))


def known_studies(config_dirs: Sequence[Path] = ()) -> list[str]:
    """The names that `find_study` knows, sorted."""
    files = (path for folder in _folders(config_dirs) for path in folder.glob("*.yaml"))
    return sorted({path.stem for path in files if path.is_file()})


def read_study(path: Path, typed: Collection[str] | None = ()) -> Study:
    """A study, checked as far as it can be without composing. Raises ConfigError with all problems, each with its line.

    `typed` are the keys that are typed beside it, which filters may name; None for a study that was read before, with
    others. Raises SecretError, with all lines, for a file that holds something secret.
    Groups and choices are not known here: composing its points tells of those.
    """
    document = Document(path, _is_value)
    if not isinstance(document.tree, dict):
        raise ConfigError([document.problem((), "a study is a section with question, stop_rule and axes")])
    try:
        study = Study.model_validate(document.tree)
    except ValidationError as error:
        raise ConfigError(_in_order(document, _faults(error, document.tree))) from error
    study._path = path
    study._text = document.text
    if problems := _in_order(document, find_faults(study, typed)):
        raise ConfigError(problems)
    return study


def _in_order(document: Document, faults: Iterable[tuple[Loc, str]]) -> list[Problem]:
    return [document.problem(loc, told) for loc, told in sorted(faults, key=lambda fault: document.line(fault[0]))]


def _folders(config_dirs: Sequence[Path]) -> list[Path]:
    return [*(folder / FOLDER for folder in config_dirs), paths.sweeps_dir()]


def _question(path: Path) -> str:
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
        return " ".join(str(document["question"]).split())
    except (OSError, UnicodeError, yaml.YAMLError, TypeError, KeyError):
        return "(it can't be read)"


def _is_value(loc: Loc) -> bool:
    """Whether a place in a study holds a value of an override."""
    inside = loc[2:] if loc[:1] == ("stages",) else loc
    depths = {"axes": 3, "zip": 4, "points": 3}
    return bool(inside) and len(inside) == depths.get(str(inside[0]))


def _faults(error: ValidationError, tree: Mapping[str, Any]) -> Iterator[tuple[Loc, str]]:
    """One for each place, with what is legal there."""
    told: set[tuple[str | int, ...]] = set()
    for fault in error.errors():
        loc = _in_file(fault["loc"], tree)
        if loc not in told:
            told.add(loc)
            yield loc, _told(fault, loc)


def _in_file(loc: Sequence[Any], tree: Any) -> tuple[str | int, ...]:
    """Without the names that pydantic adds for arms of unions and keys of mappings; a missing key stays."""
    found: list[str | int] = []
    for index, part in enumerate(loc):
        is_there = isinstance(tree, dict) and part in tree
        is_there = is_there or (isinstance(tree, tuple) and isinstance(part, int) and part < len(tree))
        if is_there:
            tree = tree[part]
            found.append(part)
        elif index == len(loc) - 1 and isinstance(tree, dict) and part != "[key]":
            found.append(part)
    return tuple(found)


def _told(fault: Any, loc: Loc) -> str:
    kind, given = fault["type"], fault["input"]
    name = str(loc[-1]) if loc else ""
    if fault["loc"][-1:] == ("[key]",):
        return f"{name!r} is no name; names are made of letters, digits, ., _ and -, and begin with a letter or digit"
    if kind == "extra_forbidden":
        legal = _legal(loc[:-1])
        near = get_close_matches(name, legal, 1)
        return f"no such key; {f'did you mean {near[0]}? ' if near else ''}(legal: {', '.join(legal)})"
    if kind == "missing":
        return f"it is missing; {_NEEDED.get(name, 'write it')}"
    if kind == "tuple_type":
        shown = "nothing" if given is None else "a section" if isinstance(given, dict) else f"{given!r}"
        return f"a list is needed, such as [A, B]; it is {shown}"
    if kind in ("dict_type", "model_type", "model_attributes_type"):
        return f"a section of KEY: VALUE is needed; it is {'nothing' if given is None else 'a list or a value'}"
    if name in _NEEDED and (kind == "string_pattern_mismatch" or given is None):
        return f"it is empty; {_NEEDED[name]}"
    if kind == "string_type" and loc[-2:-1] == ("overrides",):
        if isinstance(given, dict) and len(given) == 1:
            return "an override is written with =, as on a command line: " + "=".join(map(str, *given.items()))
        return f"an override is text, KEY=VALUE; it is {given!r}. One that holds a comma or a bracket stands in quotes"
    if kind in ("filter", "seeds", "search", "study"):
        return str(fault["msg"])
    return f"{fault['msg']}, got {given!r}"


def _legal(loc: Loc) -> list[str]:
    """The keys of the section at a place."""
    sections: list[type[BaseModel]] = [Study]
    for part in loc:
        fields = [field for section in sections for name, field in _fields(section) if name == part]
        if fields:  # names of stages, keys of axes and places in lists are no fields
            sections = [inside for field in fields for inside in sections_in(field)]
    names = dict.fromkeys(name for section in sections for name, _ in _fields(section))
    return sorted(names, key=lambda name: name in Block.model_fields)


def _fields(section: type[BaseModel]) -> Iterator[tuple[str, Any]]:
    for name, field in section.model_fields.items():
        yield field.alias or name, field.annotation
