"""A YAML file as plain values, with the line of each."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from mmhydra import paths
from mmhydra.config import secrets
from mmhydra.config.problems import ConfigError, Problem
from mmhydra.sweep.study.values import Value, ValueFault, plain, read_node, require_plain

Loc = Sequence[str | int]  # keys and places in lists, from the root
_MOST_VALUES = 1_000_000  # a study of a hundred thousand listed points has fewer


class Document:
    """A file that was read. `tree` is made of dicts, tuples, plain values, and `Value` where `is_value(loc)` says so.

    Numbers are read as on a command line: 1e-4 is one.
    """

    def __init__(self, path: Path, is_value: Callable[[Loc], bool]) -> None:
        """Raises ConfigError for a file that can't be read, that is no YAML, or that has a key twice.

        Raises SecretError, before anything else that would repeat a secret, for one in any line, comments too.
        """
        self.path = path
        self._is_value = is_value
        self._faults: list[Problem] = []
        try:
            self.text = path.read_text(encoding="utf-8")
            _refuse_secrets(self.text, paths.short(path))
            self._root = yaml.compose(self.text, Loader=yaml.SafeLoader)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigError([Problem((paths.short(path),), f"the file can't be read: {reason}")]) from error
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            where = f"{paths.short(path)}:{mark.line + 1}" if mark else paths.short(path)
            context = f" ({error.context})" if error.context else ""
            raise ConfigError([Problem((where,), f"this is no YAML: {error.problem}{context}")]) from error
        except (yaml.YAMLError, RecursionError) as error:
            raise ConfigError([Problem((paths.short(path),), f"this is no YAML: {error}")]) from error
        try:
            if self._root is not None and _size(self._root, {}) > _MOST_VALUES:
                told = f"aliases make more than {_MOST_VALUES:,} values of it; write what is meant"
                raise ConfigError([Problem((paths.short(path),), told)])
            self.tree = None if self._root is None else self._plain(self._root, ())
        except RecursionError:
            raise ConfigError([Problem((paths.short(path),), "it refers to itself, or is nested too deeply")]) from None
        if self._faults:
            raise ConfigError(self._faults)

    def problem(self, loc: Loc, message: str, line: int | None = None) -> Problem:
        """A reason why the file is refused, with its line."""
        where = f"{paths.short(self.path)}:{line or self.line(loc)}"
        return Problem((f"{where}: {'.'.join(map(str, loc))}" if loc else where,), message)

    def line(self, loc: Loc) -> int:
        """Where a key stands; for one that is not there, where the section around it does."""
        node, line = self._root, 1
        for part in loc:
            if isinstance(node, yaml.MappingNode):
                pair = next((pair for pair in node.value if getattr(pair[0], "value", None) == part), None)
                if pair is None:
                    break
                line, node = pair[0].start_mark.line + 1, pair[1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
                node = node.value[part]
                line = node.start_mark.line + 1
        return line

    def _plain(self, node: yaml.Node, loc: tuple[str | int, ...]) -> Any:
        try:
            if self._is_value(loc):
                return read_node(node)
            require_plain(node)
        except ValueFault as fault:
            self._faults.append(self.problem(loc, str(fault), fault.line))
            return Value("", None, "")
        if isinstance(node, yaml.SequenceNode):
            return tuple(self._plain(item, (*loc, index)) for index, item in enumerate(node.value))
        if isinstance(node, yaml.MappingNode):
            return self._section(node, loc)
        assert isinstance(node, yaml.ScalarNode)
        return plain(node)

    def _section(self, node: yaml.MappingNode, loc: tuple[str | int, ...]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else "a list or a section"
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                self._faults.append(self.problem(loc, f"{name} is no key; a key is a word", line))
            elif name in found:
                first = self.line((*loc, name))
                self._faults.append(self.problem((*loc, name), f"it stands in line {first} already", line))
            elif name == "<<":
                self._faults.append(self.problem((*loc, name), "merges of YAML are not read; write the keys", line))
            else:
                found[name] = self._plain(value, (*loc, name))
        return found


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node stands for, those of its aliases each time; `known` by object, as aliases share one."""
    if id(node) not in known:
        children: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            children = list(node.value)
        elif isinstance(node, yaml.MappingNode):
            children = [part for pair in node.value for part in pair]
        known[id(node)] = 1 + sum(_size(child, known) for child in children)
    return known[id(node)]


def _refuse_secrets(text: str, file: str) -> None:
    """The text is kept beside the runs as it stands. Raises SecretError."""
    lines = enumerate(text.split("\n"), 1)
    unmarked = {f"{file}:{number}": line for number, line in lines if secrets.ALLOW not in line}
    found = (*secrets.find_in_values(unmarked), *secrets.find_in_text(text, file))  # also what a variable holds
    by_place = {finding.place: finding for finding in found}
    secrets.refuse(by_place[place] for place in unmarked if place in by_place)
