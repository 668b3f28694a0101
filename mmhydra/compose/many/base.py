"""The config of one combination of group choices, kept apart by top-level key, and what a point changes on it.

Hydra merges the files of a combination key by key, and most keys stand in a file or two. So each key is merged once for
each list of files that set it, and a combination only puts its keys together.

All keys of all combinations have one root. What it holds is exchanged, not copied: an interpolation finds its way up to
the root and from there down into the combination that is in force.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.defaults_list import create_defaults_list
from hydra.core.default_element import ResultDefault
from hydra.core.override_parser.types import Override
from hydra.plugins.config_source import ConfigLoadError
from omegaconf import AnyNode, Container, DictConfig, Node, OmegaConf
from omegaconf._utils import split_key

from mmhydra.compose.loader import CONFIG_NAME
from mmhydra.compose.many.files import Files
from mmhydra.compose.many.interpolations import Interpolation, Path, affected, is_ordinary, leaves, reads

_HYDRA = "hydra"
_MISSING = "???"


class NotShared(Exception):
    """Only stock composition does this right."""


@dataclass(frozen=True)
class Part:
    """The value of a top-level key as files have it. `plain` has its interpolations unresolved; nobody changes it."""

    node: Node
    plain: Any
    interpolations: tuple[Interpolation, ...]
    has_missing: bool


@dataclass
class Base:
    """A combination. `tree` is None where it has no plain values before a point sets some that are missing."""

    content: dict[str, Node]
    interpolations: tuple[Interpolation, ...]
    tree: dict[str, Any] | None = None
    leaves: dict[str, Leaf | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Leaf:
    """An existing scalar that a point may give another value, and the interpolations that then have to be resolved."""

    node: AnyNode
    path: Path
    affected: tuple[Interpolation, ...]


class Bases:
    """Makes combinations, and the plain values of points. Not for several threads: see the root above."""

    def __init__(self, loader: ConfigLoaderImpl, files: Files, *, has_own_folders: bool) -> None:
        self._loader = loader
        self._files = files
        self._has_own_folders = has_own_folders
        self._root = DictConfig({})
        OmegaConf.set_struct(self._root, True)  # as Hydra does before it applies overrides
        self._layers: dict[tuple[str, str], DictConfig] = {}
        self._parts: dict[tuple[Any, ...], Part] = {}
        self.shipped_hydra: list[tuple[str, str, str]] = []

    # ------------------------------------------------------------ a combination

    def make(self, groups: Sequence[Override]) -> Base:
        """Raises NotShared, or whatever Hydra raises: stock composition then tells what is wrong."""
        setters: dict[str, list[tuple[str, str]]] = {}
        of_hydra: list[tuple[str, str, str]] = []
        for default in self._defaults(groups):
            name, package = default.config_path or "", default.package or ""
            if name.startswith(f"{_HYDRA}/"):
                of_hydra.append(self._of_hydra(name, package))
                continue
            for key in self._layer(default, name, package):
                if key != _HYDRA:
                    setters.setdefault(str(key), []).append((name, package))
                elif self._has_own_folders and not default.primary:
                    raise NotShared(f"{name} speaks of Hydra")
        if self._has_own_folders and of_hydra != self.shipped_hydra:
            raise NotShared("Hydra's own settings come from other files")
        parts = {key: self._part(key, tuple(layers)) for key, layers in setters.items()}
        content = {key: part.node for key, part in parts.items()}
        base = Base(content, tuple(item for part in parts.values() for item in part.interpolations))
        if not any(part.has_missing for part in parts.values()):
            tree = {key: part.plain for key, part in parts.items()}
            with self._in_force(content), suppress(Exception):  # a point may change what can't be resolved
                base.tree = self._resolved(tree, base.interpolations)
        return base

    def hydra_files(self, groups: Sequence[Override]) -> list[tuple[str, str, str]]:
        """The files of Hydra's own settings, their places in the config, and whose they are."""
        defaults = ((default.config_path or "", default.package or "") for default in self._defaults(groups))
        return [self._of_hydra(name, package) for name, package in defaults if name.startswith(f"{_HYDRA}/")]

    def _defaults(self, groups: Sequence[Override]) -> list[ResultDefault]:
        found = create_defaults_list(
            repo=self._files,
            config_name=CONFIG_NAME,
            overrides_list=list(groups),
            prepend_hydra=True,
            skip_missing=False,
        )
        return found.defaults

    def _of_hydra(self, name: str, package: str) -> tuple[str, str, str]:
        if package.partition(".")[0] != _HYDRA:
            raise NotShared(f"{name} sets values of the run")
        return name, package, str(self._files.load(name).path)

    def _layer(self, default: ResultDefault, name: str, package: str) -> DictConfig:
        """A file below the package that it goes to."""
        key = name, package
        if key not in self._layers:
            if self._files.load(name).is_schema_source or self._has_schema(name):
                raise NotShared(f"{name} has a structured config")
            config = self._loader._load_single_config(default=default, repo=self._files).config
            if not isinstance(config, DictConfig) or config._is_none() or config._is_interpolation():
                raise NotShared(f"{name} is no section")
            if not all(isinstance(inside, str) for inside in config):
                raise NotShared(f"{name} has keys that are no words")
            self._layers[key] = config
        return self._layers[key]

    def _has_schema(self, name: str) -> bool:
        try:
            return self._files.get_schema_source().load_config(f"{name}.yaml") is not None
        except ConfigLoadError:
            return False

    def _part(self, key: str, layers: tuple[tuple[str, str], ...]) -> Part:
        """Merges what files say of a key, as Hydra does."""
        known = self._parts.get((key, layers))
        if known is not None:
            return known
        before: list[Interpolation] = []
        merged = DictConfig({})
        for layer in layers:
            config = self._layers[layer]
            node = config._get_node(key)
            assert isinstance(node, Node)
            plain = _unresolved(node)
            if any(_is_merged_into(plain, item.path[1:]) for item in before):
                raise NotShared(f"{layer[0]} is merged into what an interpolation finds")
            before += _interpolations(key, plain)
            alone = DictConfig({})
            alone.__dict__["_content"][key] = node
            merged.merge_with(alone)
        node = merged._get_node(key)
        assert isinstance(node, Node)
        node._set_parent(self._root)
        plain = _unresolved(node)
        part = Part(
            node, plain, tuple(_interpolations(key, plain)), any(value == _MISSING for _, value in leaves(plain))
        )
        self._parts[key, layers] = part
        return part

    # ------------------------------------------------------------ a point

    def with_values(self, base: Base, overrides: Sequence[Override]) -> dict[str, Any] | None:
        """The plain values of a point that only gives existing scalars other values; None if it does more."""
        if base.tree is None:
            return None
        changes: list[tuple[Leaf, Any]] = []
        for override in overrides:
            leaf = self._leaf(base, override.key_or_group)
            if leaf is None:
                return None
            changes.append((leaf, override.value()))
        tree = Plain(base.tree)
        for leaf, value in changes:
            tree.put(leaf.path, value)
        changed = {leaf.path for leaf, _ in changes}
        stale = {item for leaf, _ in changes for item in leaf.affected if item.path not in changed}
        if stale:
            before = [leaf.node._value() for leaf, _ in changes]
            try:
                for leaf, value in changes:
                    leaf.node._set_value(value)
                with self._in_force(base.content):
                    for item in stale:
                        tree.put(item.path, _plain(self._at(item.path)))
            finally:
                for (leaf, _), value in zip(changes, before, strict=True):
                    leaf.node._set_value(value)
        return tree.root

    def with_overrides(self, base: Base, overrides: Sequence[Override]) -> dict[str, Any]:
        """The plain values of any other point, whose overrides Hydra applies to copies of the keys that they touch.

        Raises NotShared, or whatever Hydra raises.
        """
        changed = [tuple(split_key(override.key_or_group)) for override in overrides]
        own = [path for path, override in zip(changed, overrides, strict=True) if "${" in (override.input_line or "")]
        through = [*(item.path for item in base.interpolations), *own]
        if any(len(path) > len(way) and path[: len(way)] == way for path in changed for way in through):
            raise NotShared("an override reaches through an interpolation into another section")
        touched = {path[0] for path in changed}
        content = {key: copy.deepcopy(node) if key in touched else node for key, node in base.content.items()}
        with self._in_force(content):
            ConfigLoaderImpl._apply_overrides_to_config(list(overrides), self._root)
            if base.tree is None:
                return {key: _plain(node) for key, node in content.items()}
            tree = Plain({key: None if key in touched else base.tree[key] for key in content})
            for key in touched & content.keys():
                tree.put((key,), _plain(content[key]))
            for item in affected(changed, base.interpolations):
                if item.path[0] not in touched:
                    tree.put(item.path, _plain(self._at(item.path)))
        return tree.root

    def _leaf(self, base: Base, key: str) -> Leaf | None:
        if key not in base.leaves:
            base.leaves[key] = self._find_leaf(base, key)
        return base.leaves[key]

    def _find_leaf(self, base: Base, key: str) -> Leaf | None:
        path = tuple(key.split("."))
        node: Any = base.content.get(path[0])
        for part in path[1:]:
            if not isinstance(node, DictConfig) or node._is_none() or node._is_missing() or node._is_interpolation():
                return None
            node = node._get_node(part)
        if not isinstance(node, AnyNode):
            return None
        return Leaf(node, path, tuple(affected([path], base.interpolations)))

    # ------------------------------------------------------------ the root

    @contextmanager
    def _in_force(self, content: dict[str, Node]) -> Iterator[None]:
        before = self._root.__dict__["_content"]
        self._root.__dict__["_content"] = content
        try:
            yield
        finally:
            self._root.__dict__["_content"] = before

    def _resolved(self, tree: dict[str, Any], interpolations: Sequence[Interpolation]) -> dict[str, Any]:
        resolved = Plain(tree)
        for item in interpolations:
            resolved.put(item.path, _plain(self._at(item.path)))
        return resolved.root

    def _at(self, path: Path) -> Node:
        node: Any = self._root
        for part in path:
            node = node._get_node(part if isinstance(node, DictConfig) else int(part))
        assert isinstance(node, Node)
        return node


class Plain:
    """A plain tree that shares with another what it does not change."""

    def __init__(self, root: dict[str, Any]) -> None:
        self.root = dict(root)
        self._own: set[Path] = set()

    def put(self, path: Path, value: Any) -> None:
        """Sets a value that is there already, or a key of the root."""
        inside: Any = self.root
        for length in range(1, len(path)):
            part = path[length - 1] if isinstance(inside, dict) else int(path[length - 1])
            if path[:length] not in self._own:
                inside[part] = inside[part].copy()
                self._own.add(path[:length])
            inside = inside[part]
        inside[path[-1] if isinstance(inside, dict) else int(path[-1])] = value


def _unresolved(node: Node) -> Any:
    return OmegaConf.to_container(node, resolve=False) if isinstance(node, Container) else node._value()


def _plain(node: Node) -> Any:
    """What OmegaConf.to_container makes of a node inside of a config. Raises what it raises."""
    if node._is_missing():
        raise NotShared("a value is missing")
    found = node._dereference_node()
    if isinstance(found, Container):
        return OmegaConf.to_container(found, resolve=True, throw_on_missing=True)
    return found._value()


def _interpolations(key: str, plain: Any) -> Iterator[Interpolation]:
    for path, value in leaves(plain, (key,)):
        if isinstance(value, str) and "${" in value:
            if not is_ordinary(value):
                raise NotShared(f"{'.'.join(path)} reads more than keys and variables")
            yield Interpolation(path, reads(value))


def _is_merged_into(plain: Any, path: Path) -> bool:
    """Whether a file has a section, a list or `???` at a place: OmegaConf merges that into what stands there."""
    for part in path:
        if not isinstance(plain, dict) or part not in plain:
            return False
        plain = plain[part]
    return isinstance(plain, dict | list) or plain == _MISSING
