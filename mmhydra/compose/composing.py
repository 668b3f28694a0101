"""From a command line to a Request: through Hydra, or from a frozen run."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from mmhydra.compose import from_run
from mmhydra.compose.command_line import Parsed, parse, require_known
from mmhydra.compose.loader import CONFIG_NAME, known_groups, open_loader, repository, searched_folders
from mmhydra.compose.messages import named, resolved
from mmhydra.compose.origins import provenance
from mmhydra.compose.request import LazyProvenance, Request
from mmhydra.config.explain import Provenance
from mmhydra.config.problems import ConfigError, Problem
from mmhydra.config.typed import COMMAND_KEYS, to_run_config

# What conf/config.yaml says of Hydra itself. A file of a user that says otherwise would make folders or start jobs.
_HYDRA_AS_SHIPPED: dict[str, Any] = {
    "mode": None,
    "output_subdir": None,
    "run.dir": ".",
    "sweep.dir": ".",
    "sweep.subdir": ".",
    "job.chdir": False,
    "job.env_set": {},
    "job.env_copy": [],
    "callbacks": {},
    "env": {},
    "verbose": False,
    "launcher._target_": "hydra._internal.core_plugins.basic_launcher.BasicLauncher",
}


def compose(overrides: Sequence[str], config_dirs: Sequence[Path] = ()) -> Request:
    """Composes conf/ and the user's folders with overrides, and types the result; or takes the config of a run.

    Raises ConfigError with everything that is wrong with the command line or the values, or UserError.
    """
    parsed = parse(overrides)
    from_a_run = from_run.request(parsed)
    if from_a_run is not None:
        return from_a_run
    folders = (*config_dirs, *_searched(parsed))
    tree, origins = compose_tree(parsed, config_dirs)
    return _to_request(tree, parsed, origins, folders)


def compose_tree(
    parsed: Parsed, config_dirs: Sequence[Path] = (), root: Path | None = None
) -> tuple[dict[str, Any], LazyProvenance]:
    """The composed and resolved values, not yet typed, and where they come from. Raises ConfigError.

    `root` stands for conf/; where the values of such a folder come from is not told, as it is a passing copy.
    """
    texts = parsed.texts
    origins = LazyProvenance(lambda: provenance(texts, config_dirs) if root is None else Provenance([]))
    loader = open_loader(config_dirs, root)
    with named(texts, origins, lambda: known_groups(config_dirs)):
        require_known(parsed.overrides, repository(loader, texts), sweeping=False)
        composed = loader.load_configuration(CONFIG_NAME, texts, RunMode.RUN)
    return _plain(composed, origins), origins


def require_legal(parsed: Parsed, config_dirs: Sequence[Path], *, sweeping: bool) -> None:
    """Checks a command line that Hydra itself will serve, but for its values.

    Raises ConfigError for keys, groups and choices that do not exist, and for files that would steer Hydra.
    """
    _searched(parsed)
    loader = open_loader(config_dirs)
    origins = LazyProvenance(lambda: provenance(parsed.texts, config_dirs))
    with named(parsed.texts, origins, lambda: known_groups(config_dirs)):
        require_known(parsed.overrides, repository(loader, parsed.texts), sweeping=sweeping)
        mode = RunMode.MULTIRUN if sweeping else RunMode.RUN
        composed = loader.load_configuration(CONFIG_NAME, parsed.texts, mode)
    _require_hydra_as_shipped(composed, origins)


def _searched(parsed: Parsed) -> tuple[Path, ...]:
    given = [override for override in parsed.overrides if override.key_or_group == "hydra.searchpath"]
    return searched_folders(given[-1].value()) if given else ()


def _plain(composed: DictConfig, origins: LazyProvenance) -> dict[str, Any]:
    if "hydra" in composed:
        _require_hydra_as_shipped(composed, origins)
        composed = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    return resolved(composed, origins)


def _require_hydra_as_shipped(composed: DictConfig, origins: LazyProvenance) -> None:
    found = {key: OmegaConf.select(composed.hydra, key) for key in _HYDRA_AS_SHIPPED}
    problems = [
        Problem((f"hydra.{key}",), f"{found[key]!r}, but mmhydra makes the folders and starts the runs; remove it")
        for key, shipped in _HYDRA_AS_SHIPPED.items()
        if str(found[key]) != str(shipped)
    ]
    if problems:
        raise ConfigError(problems, origins)


def _to_request(tree: dict[str, Any], parsed: Parsed, origins: LazyProvenance, config_dirs: Sequence[Path]) -> Request:
    command = {key: tree.pop(key, None) for key in COMMAND_KEYS}
    problems = [
        Problem((key,), f"{command[key]!r}; legal values are {legal}; type {key}={example}")
        for key, (is_legal, legal, example) in _COMMAND_VALUES.items()
        if not is_legal(command[key])
    ]
    if problems:
        raise ConfigError(problems, origins)
    return Request(
        config=to_run_config(tree, origins),
        overrides=tuple(parsed.texts),
        dry_run=command["dry_run"],
        confirm=bool(command["confirm"]),
        origins=origins,
        config_dirs=tuple(config_dirs),
        warnings=tuple(parsed.warnings),
    )


_COMMAND_VALUES: dict[str, tuple[Callable[[Any], bool], str, str]] = {
    "dry_run": (lambda value: value in ("config", None), "config and null", "config"),
    "confirm": (lambda value: value is None or isinstance(value, bool), "true and false", "true"),
    "resume": (lambda value: value is None, "run directories, on the command line alone", "outputs/NAME/RUN_ID"),
    "extend": (lambda value: value is None, "run directories, on the command line alone", "outputs/NAME/RUN_ID"),
}
