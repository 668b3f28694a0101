"""The arguments of a command: overrides, the user's config folders, and flags that only Hydra itself serves."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from mmhydra.errors import UserError

# Flags that would replace conf/config.yaml, or start from a pickled job: the run would be none of ours.
_REFUSED = {
    "config_name": "--config-name",
    "config_path": "--config-path",
    "experimental_rerun": "--experimental-rerun",
}
_FOLDER = ("--config-dir", "-cd")
_PRUNE = "--prune"
_SERVED_BY_HYDRA = ("help", "hydra_help", "cfg", "multirun", "shell_completion", "info")


class Arguments(NamedTuple):
    """`flags` are what Hydra serves, in an order that its parser takes; empty for a plain command.

    `prune`: jobs of points that a study has not any more are cancelled.
    """

    overrides: list[str]
    config_dirs: tuple[Path, ...]
    flags: list[str]
    prune: bool = False

    @property
    def is_sweep(self) -> bool:
        """Whether each override may name several values."""
        return "--multirun" in self.flags


def read_arguments(arguments: Sequence[str]) -> Arguments:
    """Splits a command line; flags and overrides may stand in any order. Raises UserError for an unknown flag."""
    if not any(argument.startswith("-") for argument in arguments):
        return Arguments(list(arguments), (), [])
    # Here, not above: a plain command needs no flags of Hydra's.
    from hydra._internal.utils import get_args_parser

    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]
    parser.add_argument(_PRUNE, action="store_true")
    found = parser.parse_intermixed_args(list(arguments))
    if (found.resolve or found.package) and not (found.cfg or found.help):
        raise UserError("--resolve and --package say how --cfg prints; type --cfg job beside them")
    if sum(argument.partition("=")[0] in _FOLDER for argument in arguments) > 1:
        raise UserError(
            "--config-dir is given twice, Hydra takes one; type 'hydra.searchpath=[file:///...]' for others"
        )
    if found.config_dir == "":  # which would be the current folder: a variable of the shell that is not set
        raise UserError("--config-dir names no folder; type --config-dir FOLDER")
    refused = [flag for name, flag in _REFUSED.items() if getattr(found, name) is not None]
    if refused:
        raise UserError(
            f"{' '.join(refused)}: the root of a run is conf/config.yaml; give your own groups with --config-dir FOLDER"
        )
    if found.prune and not found.multirun:
        raise UserError(f"{_PRUNE} cancels jobs of points that a sweep has not any more; type -m beside it")
    folders = (Path(found.config_dir),) if found.config_dir is not None else ()
    return Arguments(found.overrides, folders, _flags(found), found.prune)


def _refuse(message: str) -> NoReturn:
    raise UserError(f"{message}; python -m mmhydra.train --help lists what there is")


def _flags(found: argparse.Namespace) -> list[str]:
    if not any(getattr(found, name) for name in _SERVED_BY_HYDRA):
        return []
    switches = ("help", "hydra_help", "resolve", "multirun", "shell_completion")
    flags = [f"--{name.replace('_', '-')}" for name in switches if getattr(found, name)]
    for name in ("cfg", "package", "info", "config_dir"):
        if getattr(found, name) is not None:
            flags += [f"--{name.replace('_', '-')}", str(getattr(found, name))]
    return flags
