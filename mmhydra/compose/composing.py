"""From a command line to a Request: through Hydra, or from a frozen run."""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
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
from mmhydra.config.schema import RunConfig
from mmhydra.config.typed import COMMAND_KEYS, to_run_config
from mmhydra.errors import UserError

# Parts of Hydra's node that say how it was composed.
_OF_COMPOSING = ("runtime", "overrides", "searchpath")
_ABSENT = object()
_SWEEPER = ("hydra/sweeper", "hydra.sweeper")  # what a command line may say of Hydra besides hydra.searchpath
_RUNS = ("resume", "extend")


def compose(overrides: Sequence[str], config_dirs: Sequence[Path] = ()) -> Request:
    """Composes conf/ and the user's folders with overrides, and types the result; or takes the config of a run.

    Raises ConfigError with everything that is wrong with the command line or the values, or UserError.
    """
    parsed = parse(overrides)
    study = next((one.value() for one in parsed.overrides if one.key_or_group == "sweep"), None)
    if study is not None:  # with -m the sweeper takes it out
        raise ConfigError([_no_study(study)])
    from_a_run = from_run.request(parsed)
    if from_a_run is not None:
        return from_a_run
    folders = (*config_dirs, *_searched(parsed))
    tree, origins = compose_tree(parsed, config_dirs)
    return to_request(tree, parsed, origins, folders)


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
        if _has_own_folders(parsed, config_dirs):
            _require_hydra_as_shipped([composed], parsed, origins, root)
    return _plain(composed, origins), origins


def require_legal(parsed: Parsed, config_dirs: Sequence[Path], *, sweeping: bool) -> None:
    """Checks a command line that Hydra itself will serve, but for its values.

    Raises ConfigError for keys, groups and choices that do not exist, and for files that would steer Hydra.
    """
    from_a_run = [key for override in parsed.overrides if (key := override.key_or_group) in _RUNS and override.value()]
    if from_a_run and not sweeping:
        raise UserError(f"{from_a_run[0]}= takes the config of a run; type dry_run=config beside it, without flags")
    _searched(parsed)
    loader = open_loader(config_dirs)
    origins = LazyProvenance(lambda: provenance(parsed.texts, config_dirs))
    with named(parsed.texts, origins, lambda: known_groups(config_dirs)):
        require_known(parsed.overrides, repository(loader, parsed.texts), sweeping=sweeping)
        mode = RunMode.MULTIRUN if sweeping else RunMode.RUN
        composed = loader.load_configuration(CONFIG_NAME, parsed.texts, mode)
        if not _has_own_folders(parsed, config_dirs):
            return
        points = _points(loader, parsed) if sweeping else ()
        trees = [composed, *(loader.load_configuration(CONFIG_NAME, texts, mode) for texts in points)]
        _require_hydra_as_shipped(trees, parsed, origins)


def _points(loader: ConfigLoaderImpl, parsed: Parsed) -> Iterator[list[str]]:
    """The command line with each choice of each group that is swept, one at a time."""
    files = repository(loader, parsed.texts)
    for index, override in enumerate(OverridesParser.create(loader).parse_overrides(parsed.texts)):
        if override.is_discrete_sweep() and files.group_exists(override.key_or_group):
            for choice in override.sweep_string_iterator():
                texts = parsed.texts
                texts[index] = f"{override.get_key_element()}={choice}"
                yield texts


def _has_own_folders(parsed: Parsed, config_dirs: Sequence[Path]) -> bool:
    """Whether files other than those of conf/, which is trusted, may take part."""
    return bool(config_dirs) or any(override.key_or_group == "hydra.searchpath" for override in parsed.overrides)


def _searched(parsed: Parsed) -> tuple[Path, ...]:
    given = [override for override in parsed.overrides if override.key_or_group == "hydra.searchpath"]
    return searched_folders(given[-1].value()) if given else ()


def _plain(composed: DictConfig, origins: LazyProvenance) -> dict[str, Any]:
    if "hydra" in composed:
        composed = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    return resolved(composed, origins)


def _require_hydra_as_shipped(
    trees: Sequence[DictConfig], parsed: Parsed, origins: LazyProvenance, root: Path | None = None
) -> None:
    """Raises ConfigError if a file says anything of Hydra: that would make folders, start jobs or open logs."""
    given = [override for override in parsed.overrides if override.key_or_group.startswith(_SWEEPER)]
    chosen = any(override.key_or_group == "hydra/sweeper" for override in given)  # maybe one of the user's
    shipped = _shipped_hydra(root, () if chosen else tuple(override.input_line or "" for override in given))
    left_out = (*_OF_COMPOSING, "sweeper") if chosen else _OF_COMPOSING
    found = dict(difference for tree in trees for difference in _differences(shipped, _of_hydra(tree), left_out))
    problems = [
        Problem((key,), f"{told}, but mmhydra makes the folders and starts the runs; {_cure(key)}")
        for key, told in found.items()
    ]
    if problems:
        raise ConfigError(problems, origins)


def _cure(key: str) -> str:
    """What to do with a setting of Hydra in a file."""
    if key.startswith("hydra.sweeper.params"):
        return "to sweep from a file write a study, FOLDER/sweeps/NAME.yaml, and type -m sweep=NAME"
    return "remove it"


@cache
def _shipped_hydra(root: Path | None, overrides: tuple[str, ...]) -> dict[str, Any]:
    """What conf/ alone says of Hydra. MMHYDRA_CLUSTER may name a cluster that only the user's folders have."""
    loader = open_loader((), root)
    return _of_hydra(loader.load_configuration(CONFIG_NAME, ["cluster=local", *overrides], RunMode.RUN))


def _of_hydra(composed: DictConfig) -> dict[str, Any]:
    tree = OmegaConf.to_container(composed.hydra, resolve=False)
    assert isinstance(tree, dict)
    tree["job"].pop("override_dirname", None)  # made of the overrides
    return {str(key): value for key, value in tree.items()}


def _differences(
    shipped: Any, found: Any, left_out: Sequence[str] = (), key: str = "hydra"
) -> Iterator[tuple[str, str]]:
    """Keys that are not as shipped, each with what was found there."""
    if shipped and isinstance(shipped, dict) and isinstance(found, dict):
        for name in dict.fromkeys([*shipped, *found]):
            if name not in left_out:
                yield from _differences(shipped.get(name, _ABSENT), found.get(name, _ABSENT), key=f"{key}.{name}")
    elif shipped != found:
        yield key, "it is gone" if found is _ABSENT else repr(found)


def to_request(
    tree: dict[str, Any],
    parsed: Parsed,
    origins: LazyProvenance,
    config_dirs: Sequence[Path],
    typed: Callable[[dict[str, Any], LazyProvenance], RunConfig] = to_run_config,
) -> Request:
    """Types the plain values of a command line; takes the keys of the command out of them. Raises ConfigError."""
    command = {key: tree.pop(key, None) for key in COMMAND_KEYS}
    problems = [
        Problem((key,), f"{command[key]!r}; legal values are {legal}; type {key}={example}", rule="command")
        for key, (is_legal, legal, example) in _COMMAND_VALUES.items()
        if not is_legal(command[key])
    ]
    if command["sweep"] is not None:
        problems.append(_no_study(command["sweep"]))
    if command["confirm"] is True and all(override.key_or_group != "confirm" for override in parsed.overrides):
        problems.append(
            Problem(
                ("confirm",),
                "a file would confirm every bill for ever; remove it there, and type confirm=true",
                rule="command",
            )
        )
    if problems:
        raise ConfigError(problems, origins)
    return Request(
        config=typed(tree, origins),
        overrides=tuple(parsed.texts),
        dry_run=command["dry_run"],
        confirm=bool(command["confirm"]),
        origins=origins,
        config_dirs=tuple(config_dirs),
        warnings=tuple(parsed.warnings),
        code_is_frozen=command["code"] == "frozen",
    )


def _no_study(name: Any) -> Problem:
    return Problem(("sweep",), f"a study is many runs; type -m beside it: -m sweep={name}", rule="command")


_COMMAND_VALUES: dict[str, tuple[Callable[[Any], bool], str, str]] = {
    "dry_run": (
        lambda value: value in ("config", "sbatch", "freeze", None),
        "config, sbatch, freeze and null",
        "config",
    ),
    "code": (lambda value: value in ("frozen", None), "frozen and null", "frozen"),
    "confirm": (lambda value: value is None or isinstance(value, bool), "true and false", "true"),
    "resume": (lambda value: value is None, "run directories, on the command line alone", "outputs/NAME/RUN_ID"),
    "extend": (lambda value: value is None, "run directories, on the command line alone", "outputs/NAME/RUN_ID"),
}
