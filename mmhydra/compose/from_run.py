"""`resume=RUN_DIR` and `extend=RUN_DIR`: the config is that of a run, and conf/ has no say."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf

from mmhydra import paths
from mmhydra.checkpoint.stamp import CheckpointError, stamped_steps, step_of
from mmhydra.checkpoint.verify import resolve
from mmhydra.compose.command_line import Parsed
from mmhydra.compose.loader import register_resolvers
from mmhydra.compose.messages import named, resolved
from mmhydra.compose.origins import layer_of, of_frozen
from mmhydra.compose.request import LazyProvenance, Request
from mmhydra.config.explain import Layer
from mmhydra.config.problems import ConfigError, Problem
from mmhydra.config.schema import RunConfig
from mmhydra.config.typed import COMMAND_KEYS, is_known, known_keys, no_such_key, to_run_config
from mmhydra.errors import UserError
from mmhydra.run.directory import FROZEN_CONFIG, Attempt, RunDirectory, RunDirectoryError, find_run, newest_frozen

_VERBS = ("resume", "extend")
_STARTS = ("checkpoint.init_from", "checkpoint.extend_from", "checkpoint.awaits")


def request(parsed: Parsed) -> Request | None:
    """The request of a command line with `resume=` or `extend=`; None for any other. Raises UserError."""
    asked = [override for override in parsed.overrides if override.key_or_group in _VERBS]
    odd = [override for override in asked if override.type is not OverrideType.CHANGE or override.package is not None]
    if odd:
        problems = [Problem((one.key_or_group,), f"{one.input_line}; type {one.key_or_group}=RUN_DIR") for one in odd]
        raise ConfigError(problems)
    asked = [override for override in asked if override.value()]
    if not asked:
        return None
    if len(asked) > 1:
        raise ConfigError([Problem(_VERBS, "either go on with a run, or extend it; leave one of them out")])
    verb = asked[0].key_or_group
    place = _place(asked[0])
    run = find_run(place)
    _require_step(place, run, verb)
    attempt = newest_frozen(run)
    command = {
        override.key_or_group: override for override in parsed.overrides if override.key_or_group in COMMAND_KEYS
    }
    changes = [override for override in parsed.overrides if override.key_or_group not in COMMAND_KEYS]
    resumes = verb == "resume"
    start = [] if resumes else [_start(asked[0], place, run)]
    origins = LazyProvenance(lambda: of_frozen(attempt.path / FROZEN_CONFIG, [*map(layer_of, changes), *start]))
    return Request(
        config=_resumed(attempt, run, changes) if resumes else _extended(attempt, place, changes, origins),
        overrides=tuple(parsed.texts),
        dry_run=_value(command, "dry_run", ("config", "sbatch", "freeze", None)),
        confirm=bool(_value(command, "confirm", (True, False, None))),
        origins=origins,
        warnings=tuple(parsed.warnings),
        run=run if resumes else None,
        code_is_frozen=_value(command, "code", ("frozen", None)) == "frozen",
    )


def _place(override: Override) -> Path:
    """The path that was typed; a run id alone may read as a number, and `..` would make no name of a run."""
    value = override.value()
    text = value if isinstance(value, str) else (override.input_line or "").partition("=")[2]
    place = Path(os.path.abspath(os.path.expanduser(text)))
    return place if _leads_into_run(place) else Path(os.path.realpath(place))


def _leads_into_run(place: Path) -> bool:
    """Whether a path leads into a run as it is typed: a link to a run keeps the name that people gave it."""
    try:
        find_run(place)
    except RunDirectoryError:
        return False
    return True


def _require_step(place: Path, run: RunDirectory, verb: str) -> None:
    """Refuses a place inside of a run that does not exist, and an older checkpoint to resume. Raises UserError."""
    folder = _checkpoint(place, run)
    if folder == run.path:
        if not place.exists():
            raise RunDirectoryError(f"{place} does not exist; the run is {run.path}")
        return
    steps = stamped_steps(run.checkpoints)
    if step_of(folder) not in steps:
        raise RunDirectoryError(f"{folder} is no checkpoint; the run has the steps {steps}")
    if verb == "resume" and step_of(folder) != steps[-1]:
        raise RunDirectoryError(
            f"resume= goes on from the newest checkpoint, step {steps[-1]}; to start again from {folder.name} make a "
            f"run of its own: type extend={folder} KEY=VALUE"
        )


def _start(asked: Override, place: Path, run: RunDirectory) -> Layer:
    """`extend=` as what sets the checkpoint that a run goes on from."""
    folder = _checkpoint(place, run)
    told = f"the newest of {run.path}" if folder == run.path else str(folder)
    return Layer.of_override(asked.input_line or "", "checkpoint.extend_from", told)


def _value(command: dict[str, Override], key: str, legal: Sequence[Any]) -> Any:
    value = command[key].value() if key in command else None
    if value not in legal or type(value) not in {type(item) for item in legal}:  # 1 is not true
        raise ConfigError([Problem((key,), f"{value!r}; legal: {', '.join(str(item) for item in legal)}")])
    return value


def _resumed(attempt: Attempt, run: RunDirectory, changes: Sequence[Override]) -> RunConfig:
    if changes:
        texts = " ".join(override.input_line or "" for override in changes)
        raise UserError(
            f"resume={run.path} takes the frozen config as it is, so {texts} would change nothing; leave it out, or "
            f"type extend={run.path} {texts} to go on from its last checkpoint with other values"
        )
    return attempt.read_frozen()[0]


def _extended(attempt: Attempt, place: Path, changes: Sequence[Override], origins: LazyProvenance) -> RunConfig:
    problems = [
        Problem((change.key_or_group,), _not_a_leaf(change.key_or_group))
        for change in changes
        if not is_known(change.key_or_group) or _is_section(change.key_or_group) or change.is_delete()
    ]
    problems += [
        Problem((change.key_or_group,), f"extend={place} says where to start from; leave it out")
        for change in changes
        if change.key_or_group in _STARTS
    ]
    problems += [
        Problem((change.key_or_group,), f"{change.input_line} names several values; type -m to run each of them")
        for change in changes
        if change.is_sweep_override()
    ]
    if problems:
        raise ConfigError(problems)
    config, _ = attempt.read_frozen()
    try:
        parent = resolve(_checkpoint(place, attempt.run))
    except CheckpointError as error:
        raise UserError(f"extend={place}: {error}; only a run with a checkpoint can be extended") from error
    register_resolvers()
    tree = OmegaConf.create(config.model_dump())
    OmegaConf.set_struct(tree, True)
    with named([change.input_line or "" for change in changes], origins):
        ConfigLoaderImpl._apply_overrides_to_config(list(changes), tree)
        tree.checkpoint.init_from = None
        tree.checkpoint.extend_from = str(parent)
        tree.checkpoint.awaits = False  # it is there
        _use_folders_of_today(tree, {change.key_or_group for change in changes})
    return to_run_config(resolved(tree, origins), origins)


def _use_folders_of_today(tree: DictConfig, typed: set[str]) -> None:
    """A child of somebody else's run is written where MMHYDRA_OUTPUTS of this command says."""
    for name, variable in {"data": "MMHYDRA_DATA", "outputs": "MMHYDRA_OUTPUTS"}.items():
        if os.environ.get(variable) and f"paths.{name}" not in typed:
            tree.paths[name] = paths.folder(variable, name)


def _checkpoint(place: Path, run: RunDirectory) -> Path:
    """The checkpoint that a path leads into; the run itself, whose newest one is meant, for any other path."""
    return next((folder for folder in (place, *place.parents) if folder.parent == run.checkpoints), run.path)


def _is_section(key: str) -> bool:
    return any(name.startswith(f"{key}.") for name in known_keys())


def _not_a_leaf(key: str) -> str:
    if _is_section(key):
        inside = [name for name in known_keys() if name.startswith(f"{key}.")]
        return f"extend changes single values of the frozen config, not groups; type them, such as {inside[0]}=..."
    return no_such_key(key)
