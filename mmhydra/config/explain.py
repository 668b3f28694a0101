"""Where each value of a composed config comes from: which file and line, or which override, and what it replaced.

Reads the YAML files again, with positions; Hydra and OmegaConf keep none. So it is made only on failure and on request.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from mmhydra import paths

COMMAND_LINE = "command line"
_EMPTY = yaml.compose("{}", Loader=yaml.SafeLoader)
_MISSING = ("???", "'???'")  # a file that says so leaves what was there
_LEFT_OUT = "left out"  # of an element of a list
_MERGE, _NULL = "tag:yaml.org,2002:merge", "tag:yaml.org,2002:null"


@dataclass(frozen=True)
class Layer:
    """One thing that sets values: a YAML file or an override. Later layers win.

    `group` is the config group of a file, "" for the root and COMMAND_LINE for an override. `package` is where the
    document goes in the config. `document` is None where an override deletes.
    """

    name: str
    group: str
    package: tuple[str, ...]
    document: yaml.Node | None
    path: Path | None = None

    @classmethod
    def of_file(cls, path: Path, group: str, package: str) -> "Layer":
        """Raises OSError or yaml.YAMLError for a file that can't be read."""
        # Not libyaml's loader: OmegaConf reads with this one, and a file must not be fine for one of them alone.
        document = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        document = _EMPTY if document is None or document.tag == _NULL else document
        return cls(paths.short(path), group, tuple(filter(None, package.split("."))), document, path)

    @classmethod
    def of_override(cls, text: str, key: str, value: Any, *, deletes: bool = False) -> "Layer":
        """`key=value` as it was typed, and its value."""
        dumped = yaml.dump(value, Dumper=yaml.SafeDumper, allow_unicode=True)
        document = None if deletes else yaml.compose(dumped, Loader=yaml.SafeLoader)
        return cls(text, COMMAND_LINE, tuple(key.split(".")), document)


class Setting(NamedTuple):
    """A value as it stands in a layer, interpolations unresolved."""

    layer: Layer
    text: str
    line: int

    @property
    def where(self) -> str:
        """`conf/model/10b.yaml:12`, or the override."""
        if self.layer.group == COMMAND_LINE:
            name = self.layer.name
            return f"{name if name.isprintable() else repr(name)} ({COMMAND_LINE})"
        return f"{self.layer.name}:{self.line}"


class Collision(NamedTuple):
    """A key that files of two groups set to different values; the last one wins, but for the command line."""

    key: str
    settings: list[Setting]


class Clash(NamedTuple):
    """A layer that gives a key another shape than one before it, so that the two can't be merged.

    `key` is "" where a whole file is no section. `other` is where the key was given its shape; "" for the schema.
    """

    key: str
    setting: Setting
    other: str

    def __str__(self) -> str:
        shape = {"{": "a section", "[": "a list"}.get(self.setting.text[:1], "a value")
        wanted = "a section" if shape != "a section" else "a list"
        return (
            f"{shape}, where {f'{self.other} has ' if self.other else ''}{wanted}{'' if self.other else ' is needed'}"
        )


class Provenance:
    """The history of every key, from the layers in the order in which they were merged."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._layers = tuple(layers)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """All layers, the first merged first."""
        return self._layers

    def settings(self, key: str) -> list[Setting]:
        """What set a key, the oldest first; the last one is in force. Empty if nothing did.

        What sets something inside of a key counts only where it makes a section of it.
        """
        parts = tuple(key.split("."))
        found: list[Setting] = []
        for layer in self._layers:
            if layer.document is None:
                if layer.package == parts[: len(layer.package)]:
                    found.append(Setting(layer, "deleted", 0))
                continue
            if layer.package[: len(parts)] == parts and layer.package != parts:
                if not found or not found[-1].text.startswith(("{", "[")):
                    found.append(Setting(layer, _nested(layer, len(parts)), 1))
                continue
            if layer.package != parts[: len(layer.package)]:
                continue
            setting, replaces = _descend(layer, parts[len(layer.package) :])
            if setting is not None and not (found and setting.text in _MISSING and layer.group != COMMAND_LINE):
                found.append(setting)
            elif replaces:
                found.clear()
        return found

    def where(self, key: str) -> str:
        """Where the value in force was set; "" if nothing set it."""
        settings = self.settings(key)
        return settings[-1].where if settings else ""

    def describe(self, keys: Sequence[str]) -> list[str]:
        """One line for each key that something set: its value and where. Of several, null ones say nothing."""
        last = {key: settings[-1] for key in keys if (settings := self.settings(key))}
        last = {key: setting for key, setting in last.items() if setting.text != "null" or len(last) == 1}
        heads = {key: f"{key} = {setting.text}" for key, setting in last.items()}
        width = max((len(head) for head in heads.values()), default=0)
        return [f"{heads[key]:{width}}  {setting.where}" for key, setting in last.items()]

    def collisions(self) -> list[Collision]:
        """Keys that files of different groups set to different values."""
        by_key: dict[str, list[Setting]] = {}
        for layer in self._layers:
            if layer.group in ("", COMMAND_LINE) or layer.document is None:
                continue
            for key, node, line in _leaves(layer.document, layer.package):
                by_key.setdefault(key, []).append(Setting(layer, _text(node), line))
        return [
            Collision(key, settings)
            for key, settings in by_key.items()
            if len({setting.layer.group for setting in settings}) > 1
            and len({_comparable(setting.text) for setting in settings}) > 1
        ]

    def clashes(self) -> list[Clash]:
        """What can't be merged: a list with a section, and a value with what Hydra itself has as a section."""
        shapes: dict[tuple[str, ...], tuple[type, str]] = {(): (yaml.MappingNode, "")}
        found = []
        for layer in self._layers:
            if layer.document is None:
                continue
            for path, node, line in _nodes(layer.document, layer.package, layer.document.start_mark.line + 1):
                setting = Setting(layer, _text(node), line)
                shape, other = shapes.get(path, (type(node), ""))
                is_value = isinstance(node, yaml.ScalarNode)
                if shape is not type(node) and (not is_value or path[:1] in ((), ("hydra",))):
                    found.append(Clash(".".join(path), setting, other))
                if is_value:
                    shapes.pop(path, None)
                elif path:
                    shapes[path] = (type(node), setting.where)
        return found


def _nodes(node: yaml.Node, path: tuple[str, ...], line: int) -> Iterator[tuple[tuple[str, ...], yaml.Node, int]]:
    """A node and all that stand below it in sections, with their lines."""
    yield path, node, line
    if isinstance(node, yaml.MappingNode):
        for key, value in _pairs(node):
            if path or _name(key) != "defaults":
                yield from _nodes(value, (*path, _name(key)), key.start_mark.line + 1)


def _pairs(section: yaml.MappingNode) -> list[tuple[yaml.Node, yaml.Node]]:
    """Keys and values of a section, those of `<<: *other` included; the section's own win."""
    pairs = [(key, value) for key, value in section.value if key.tag != _MERGE]
    for key, value in section.value:
        if key.tag == _MERGE:
            for other in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                there = {_name(own) for own, _ in pairs}
                if isinstance(other, yaml.MappingNode):
                    pairs += [pair for pair in _pairs(other) if _name(pair[0]) not in there]
    return pairs


def _nested(layer: Layer, depth: int) -> str:
    """What a layer sets inside of a section, as a value of that section."""
    assert layer.document is not None
    inside = layer.package[depth:]
    return f"{''.join(f'{{{part}: ' for part in inside)}{_text(layer.document)}{'}' * len(inside)}"


def _descend(layer: Layer, parts: tuple[str, ...]) -> tuple[Setting | None, bool]:
    """The node at a path below a document, and whether a list on the way replaced what was there.

    A scalar on the way took the whole section away. What an element of a list lacks, it left out where it stands:
    no other layer can give it.
    """
    node, line = layer.document, 0
    assert node is not None
    replaces = False
    for depth, part in enumerate(parts):
        if isinstance(node, yaml.MappingNode):
            # "defaults" of a file is Hydra's; no section has such a key. A dotted name is one key, and a fault.
            names = (part, ".".join(parts[depth:]))
            inside = next(((key, value) for key, value in _pairs(node) if _name(key) in names), None)
            if inside is None:
                is_element = replaces and depth == len(parts) - 1 and parts[depth - 1].isdigit()
                return (Setting(layer, _LEFT_OUT, line) if is_element else None), replaces
            line, node = inside[0].start_mark.line + 1, inside[1]
            if _name(inside[0]) != part:
                break
        elif isinstance(node, yaml.SequenceNode):
            replaces = True
            if not part.isdigit() or int(part) >= len(node.value):
                return None, replaces
            node = node.value[int(part)]
            line = node.start_mark.line + 1
        else:
            break
    return Setting(layer, _text(node), line or node.start_mark.line + 1), replaces


def _leaves(node: yaml.Node, path: tuple[str, ...], line: int = 1) -> Iterator[tuple[str, yaml.Node, int]]:
    """Leaves with their lines; a list is one leaf, since lists replace each other as a whole."""
    if not isinstance(node, yaml.MappingNode) or not node.value:
        if path and not (isinstance(node, yaml.MappingNode) and len(path) == 1):
            yield ".".join(path), node, line
        return
    for key, value in _pairs(node):
        name = _name(key)
        if not path and name in ("defaults", "hydra"):
            continue
        yield from _leaves(value, (*path, name), key.start_mark.line + 1)


def _name(key: yaml.Node) -> str:
    return str(key.value) if isinstance(key, yaml.ScalarNode) else ""


def _text(node: yaml.Node) -> str:
    """A value on one line, as it was written."""
    if isinstance(node, yaml.ScalarNode):
        if node.tag == _NULL:
            return "null"
        quoted = node.style in ("'", '"') or node.value == "" or not node.value.isprintable()
        return repr(node.value) if quoted else str(node.value)
    if isinstance(node, yaml.SequenceNode):
        return f"[{', '.join(_text(item) for item in node.value)}]"
    assert isinstance(node, yaml.MappingNode)
    return f"{{{', '.join(f'{_name(key)}: {_text(value)}' for key, value in _pairs(node))}}}"


def _comparable(text: str) -> str | float:
    """1e-4 and 0.0001 are one value."""
    try:
        number = float(text)
    except ValueError:
        return text
    return text if math.isnan(number) else number
