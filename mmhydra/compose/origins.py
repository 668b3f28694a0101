"""The layers that a command line is composed of, in the order in which Hydra merges them."""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode

from mmhydra.compose.loader import CONFIG_NAME, open_loader, repository
from mmhydra.config.explain import Layer, Provenance

_PACKAGE = re.compile(r"^# *@package +(\S+)", re.MULTILINE)


def provenance(
    overrides: Sequence[str], config_dirs: Sequence[Path] = (), config_name: str = CONFIG_NAME
) -> Provenance:
    """The history of every key; of the chosen files alone where Hydra can't even say which files take part."""
    loader = open_loader(config_dirs)
    try:
        defaults = loader.compute_defaults_list(config_name, list(overrides), RunMode.RUN)
        files = repository(loader, overrides)
    except Exception:  # what is wrong is already being told; this only adds to it
        return Provenance(list(_chosen(overrides, config_dirs)))
    layers = []
    for default in defaults.defaults:
        name = default.config_path or ""
        if name.startswith("hydra/"):
            continue
        path = _file_of(files.load_config(name).path, name)
        if path is not None:
            group = name.rpartition("/")[0]
            package = "" if default.package in (None, "_global_") else str(default.package)
            layers.append(Layer.of_file(path, group, package))
    return Provenance([*layers, *(layer_of(override) for override in defaults.config_overrides)])


def _chosen(overrides: Sequence[str], config_dirs: Sequence[Path]) -> Iterator[Layer]:
    """The user's files that a command line chooses by name: where the fault is, if conf/ has none."""
    parser = OverridesParser.create()
    for override in map(parser.parse_override, overrides):
        group, value = override.key_or_group, override.value()
        for choice in value if isinstance(value, list) else [value]:
            path = next((file for folder in config_dirs if (file := folder / group / f"{choice}.yaml").is_file()), None)
            if path is not None:
                with suppress(OSError, UnicodeDecodeError, yaml.YAMLError):
                    yield Layer.of_file(path, group, _package(path, group))


def _package(path: Path, group: str) -> str:
    """Where the `@package` line of a file puts it."""
    given = _PACKAGE.search(path.read_text(encoding="utf-8"))
    package = given.group(1) if given else "_group_"
    return {"_global_": "", "_group_": group.replace("/", ".")}.get(package, package)


def layer_of(override: Override) -> Layer:
    """An override of a value as a layer."""
    text = override.input_line or ""
    return Layer.of_override(text, override.key_or_group, override.value(), deletes=override.is_delete())


def of_frozen(path: Path, changes: Sequence[Layer] = ()) -> Provenance:
    """A frozen config and what was changed on it."""
    try:
        layers = [Layer.of_file(path, "", "")]
    except (OSError, yaml.YAMLError):
        layers = []
    return Provenance([*layers, *changes])


def _file_of(source: str, name: str) -> Path | None:
    """The YAML file of a config in a `file://` or `pkg://` source."""
    scheme, _, place = source.partition("://")
    if scheme == "pkg":
        found = find_spec(place.replace("/", "."))
        place = next(iter(found.submodule_search_locations or []), "") if found else ""
    path = Path(place) / f"{name.removesuffix('.yaml')}.yaml"
    return path if path.is_file() else None
