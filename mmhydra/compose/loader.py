"""Hydra's config loader over conf/ and the user's own folders."""

import warnings
from collections.abc import Sequence
from contextlib import suppress
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
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; type --config-dir FOLDER with groups in it")
    files = sorted(path.relative_to(folder) for path in folder.rglob("*.yaml"))
    lines = []
    for file in files:
        if (paths.config_dir() / file).is_file():
            lines.append(f"  {folder / file} is hidden by {paths.config_dir() / file}; give it another name")
        try:
            (folder / file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            lines.append(f"  {folder / file} can't be read: {error}")
    if lines:
        raise UserError("\n".join([f"the groups in {folder} can't be used:", *lines]))


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
    folders = tuple(
        Path(place.removeprefix("file://")) for place in places if "://" not in place.removeprefix("file://")
    )
    for folder in folders:
        _require_usable(folder)
    return folders


def known_groups(config_dirs: Sequence[Path] = ()) -> dict[str, list[str]]:
    """All groups with their choices, the user's included."""
    loader = open_loader(config_dirs)
    names = [name for name in loader.get_group_options("", ObjectType.GROUP) if name != "hydra"]
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
