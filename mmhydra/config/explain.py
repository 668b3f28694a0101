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
_EMPTY = yaml.MappingNode("tag:yaml.org,2002:map", [])


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
        document = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader) or _EMPTY
        return cls(paths.short(path), group, tuple(filter(None, package.split("."))), document, path)

    @classmethod
    def of_override(cls, text: str, key: str, value: Any, *, deletes: bool = False) -> "Layer":
        """`key=value` as it was typed, and its value."""
        document = None if deletes else yaml.compose(yaml.dump(value, Dumper=yaml.CSafeDumper), Loader=yaml.CSafeLoader)
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
            return f"{self.layer.name} ({COMMAND_LINE})"
        return f"{self.layer.name}:{self.line}"


class Collision(NamedTuple):
    """A key that files of two groups set to different values; the last one wins, but for the command line."""

    key: str
    settings: list[Setting]


class Provenance:
    """The history of every key, from the layers in the order in which they were merged."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._layers = tuple(layers)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """All layers, the first merged first."""
        return self._layers

    def settings(self, key: str) -> list[Setting]:
        """What set a key, the oldest first; the last one is in force. Empty if nothing did."""
        parts = tuple(key.split("."))
        found: list[Setting] = []
        for layer in self._layers:
            if layer.document is None:
                if layer.package == parts[: len(layer.package)]:
                    found.append(Setting(layer, "deleted", 0))
                continue
            if layer.package[: len(parts)] == parts and layer.package != parts:
                continue  # sets something inside of this section
            if layer.package != parts[: len(layer.package)]:
                continue
            setting = _descend(layer, parts[len(layer.package) :])
            if setting is not None:
                found.append(setting)
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


def _descend(layer: Layer, parts: tuple[str, ...]) -> Setting | None:
    """The node at a path below a document; a scalar on the way there took the whole section away."""
    node, line = layer.document, 0
    assert node is not None
    for part in parts:
        if isinstance(node, yaml.MappingNode):
            # "defaults" of a file is Hydra's; no section has such a key.
            inside = next(((key, value) for key, value in node.value if _name(key) == part), None)
            if inside is None:
                return None
            line, node = inside[0].start_mark.line + 1, inside[1]
        elif isinstance(node, yaml.SequenceNode):
            if not part.isdigit() or int(part) >= len(node.value):
                return None
            node = node.value[int(part)]
            line = node.start_mark.line + 1
        else:
            break
    return Setting(layer, _text(node), line or node.start_mark.line + 1)


def _leaves(node: yaml.Node, path: tuple[str, ...], line: int = 1) -> Iterator[tuple[str, yaml.Node, int]]:
    """Leaves with their lines; a list is one leaf, since lists replace each other as a whole."""
    if not isinstance(node, yaml.MappingNode) or not node.value:
        if path and not (isinstance(node, yaml.MappingNode) and len(path) == 1):
            yield ".".join(path), node, line
        return
    for key, value in node.value:
        name = _name(key)
        if not path and name in ("defaults", "hydra"):
            continue
        yield from _leaves(value, (*path, name), key.start_mark.line + 1)


def _name(key: yaml.Node) -> str:
    return str(key.value) if isinstance(key, yaml.ScalarNode) else ""


def _text(node: yaml.Node) -> str:
    """A value on one line, as it was written."""
    if isinstance(node, yaml.ScalarNode):
        quoted = node.style in ("'", '"') or node.value == ""
        return repr(node.value) if quoted else str(node.value)
    if isinstance(node, yaml.SequenceNode):
        return f"[{', '.join(_text(item) for item in node.value)}]"
    return f"{{{', '.join(f'{_name(key)}: {_text(value)}' for key, value in node.value)}}}"


def _comparable(text: str) -> str | float:
    """1e-4 and 0.0001 are one value."""
    try:
        number = float(text)
    except ValueError:
        return text
    return text if math.isnan(number) else number
