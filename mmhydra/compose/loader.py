"""Hydra's config loader over conf/ and the user's own folders."""

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import yaml
from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.object_type import ObjectType
from hydra.core.utils import JobRuntime, setup_globals
from omegaconf import OmegaConf
from pydantic import ValidationError

from mmhydra import paths
from mmhydra.config.cluster import Cluster
from mmhydra.config.secrets import PREFIX
from mmhydra.errors import UserError

CONFIG_NAME = "config"
VERSION_BASE = "1.3"
# Groups of datasets, which runs choose nothing from, and the command that each is for.
DATASET_GROUPS = {
    "codec": "python -m mmhydra.data build dataset=NAME codec@dataset.codecs.image=CHOICE",
    "crawl": "python -m mmhydra.data crawl CHOICE ID",
    "dataset": "python -m mmhydra.data build dataset=CHOICE",
}
_MAX_DEPTH = 3  # of groups inside groups
_MAX_FAULTS = 20  # told of one folder
_NO_GROUPS = ("node_modules", "__pycache__")


def register_resolvers() -> None:
    """Makes `${mmhydra.folder:VARIABLE,default}` and `${secret:VARIABLE}` known to OmegaConf."""
    OmegaConf.register_new_resolver("mmhydra.folder", paths.folder, replace=True)
    OmegaConf.register_new_resolver("secret", lambda name: f"{PREFIX}{name}", replace=True)


def open_loader(config_dirs: Sequence[Path], root: Path | None = None) -> ConfigLoaderImpl:
    """Hydra's loader. The user's folders come after conf/, as Hydra's `--config-dir` puts them.

    `root` stands for conf/, to compose another version of it.

    Raises UserError for a folder that does not exist.
    """
    for folder in config_dirs:
        _require_usable(folder)
    register_resolvers()
    # Not hydra.initialize_config_dir: that is a global of which there is one, and a point of a sweep is composed
    # inside of another. It would also run the callbacks that a YAML file names.
    version.setbase(VERSION_BASE)
    setup_globals()
    JobRuntime.instance().conf.name = "train"  # its `set` logs
    search_path = create_config_search_path(str(root or paths.config_dir()))
    for folder in config_dirs:
        search_path.prepend("command-line", f"file://{folder.absolute()}", SearchPathQuery(provider="schema"))
    return ConfigLoaderImpl(search_path)


def _require_usable(folder: Path) -> None:
    """Raises UserError for a folder that does not exist, or whose files could not be read or would never be."""
    try:
        is_there = folder.is_dir()
        lines = list(islice(_faults(folder), _MAX_FAULTS)) if is_there else []
    except (OSError, ValueError) as error:  # too long, not readable, or no path at all
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{folder}: the folder can't be read: {reason}; type --config-dir FOLDER") from error
    if not is_there:
        raise UserError(f"{folder}: there is no such folder; type --config-dir FOLDER with groups in it")
    if lines:
        raise UserError("\n".join([f"the groups in {folder} can't be used:", *lines]))


def _faults(folder: Path) -> Iterator[str]:
    for path in _config_files(folder):
        shipped = paths.config_dir() / path.relative_to(folder)
        if path.suffix == ".yml":
            if path.parent != folder:
                yield f"  {path} would never be read: files end in .yaml; rename it"
            continue
        if shipped.is_file():
            yield f"  {path} is hidden by {shipped}; give it another name"
        try:
            if not path.is_file():  # a pipe would be waited for
                raise OSError("it is no file")
            path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            yield f"  {path} can't be read: {error}"


def _config_files(folder: Path) -> Iterator[Path]:
    """What is named as YAML in a folder and in its groups; not the whole disk, should the folder be its root."""
    for place, folders, files in os.walk(folder):
        inside = Path(place)
        for name in sorted([*files, *folders]):
            if name.endswith((".yaml", ".yml")) and not name.startswith("."):
                yield inside / name
        deep = len(inside.relative_to(folder).parts) >= _MAX_DEPTH
        folders[:] = [] if deep else sorted(name for name in folders if name[0] != "." and name not in _NO_GROUPS)


def repository(loader: ConfigLoaderImpl, overrides: Sequence[str]) -> Any:
    """The files that a command line can choose from, `hydra.searchpath` of the overrides included.

    Raises UserWarning for a place on the search path that does not exist: Hydra only warns, and goes on without it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        _, caching = loader._parse_overrides_and_create_caching_repo(None, list(overrides))
    return caching


def searched_folders(search_path: object) -> tuple[Path, ...]:
    """The folders of a `hydra.searchpath`: the user's own groups as those of `--config-dir` are.

    Raises UserError, see `open_loader`, for a folder that can't be used.
    """
    places = [place for place in search_path if isinstance(place, str)] if isinstance(search_path, list) else []
    texts = [text for place in places if "://" not in (text := place.removeprefix("file://"))]
    if "" in texts:
        raise UserError("hydra.searchpath names no folder; type 'hydra.searchpath=[file:///FOLDER]'")
    folders = tuple(map(Path, texts))
    for folder in folders:
        _require_usable(folder)
    return folders


def known_groups(config_dirs: Sequence[Path] = ()) -> dict[str, list[str]]:
    """The groups of runs with their choices, the user's included."""
    loader = open_loader(config_dirs)
    names = [name for name in loader.get_group_options("", ObjectType.GROUP) if name not in ("hydra", *DATASET_GROUPS)]
    return {name: loader.get_group_options(name) for name in sorted(names)}


def known_clusters(config_dirs: Sequence[Path] = ()) -> dict[str, Cluster]:
    """The choices of the cluster group by name, smallest first."""
    clusters: dict[str, Cluster] = {}
    for folder in (paths.config_dir(), *config_dirs):
        for path in sorted((folder / "cluster").glob("*.yaml")):
            # One that builds on another file, or is broken, is no hint, and no fault of this run.
            with suppress(ValidationError, yaml.YAMLError, OSError, UnicodeDecodeError):
                cluster = Cluster.model_validate(yaml.load(path.read_text(), Loader=yaml.CSafeLoader))
                clusters.setdefault(path.stem, cluster)
    return dict(sorted(clusters.items(), key=lambda item: item[1].num_gpus or 0))
