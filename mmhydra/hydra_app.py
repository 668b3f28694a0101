"""The same command line under `@hydra.main`, for what only Hydra itself does: -m, --cfg, --info, --help, completion."""

import os
import sys
import tempfile
from collections.abc import Callable
from unittest.mock import patch

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from mmhydra import paths
from mmhydra.compose import (
    CONFIG_NAME,
    VERSION_BASE,
    known_groups,
    named,
    register_resolvers,
    require_legal,
)
from mmhydra.compose.arguments import Arguments
from mmhydra.compose.command_line import parse
from mmhydra.errors import UserError


def run_hydra(arguments: Arguments) -> list[list[str]]:
    """Serves Hydra's flags. Returns the overrides of each point of a sweep, in order; none for flags that only print.

    The points are composed by whoever runs them, as without -m: all of them are checked before the first starts.
    Raises UserError for what is wrong with the command line.
    """
    register_resolvers()
    texts = arguments.overrides
    if "--shell-completion" not in arguments.flags:
        parsed = parse(arguments.overrides)
        texts = parsed.texts
        require_legal(parsed, arguments.config_dirs, sweeping=arguments.is_sweep)
        for warning in parsed.warnings:
            print(f"warning: {warning}", file=sys.stderr)
    points: list[list[str]] = []

    @hydra.main(version_base=VERSION_BASE, config_path=str(paths.config_dir()), config_name=CONFIG_NAME)
    def application(composed: DictConfig) -> None:
        overrides = HydraConfig.get().overrides
        search = [text for text in overrides.hydra if text.startswith("hydra.searchpath=")]
        points.append([*overrides.task, *search])

    with (
        tempfile.TemporaryDirectory(prefix="mmhydra-sweep-") as scratch,
        named(texts, None, lambda: known_groups(arguments.config_dirs)),
    ):
        try:
            _serve(application, [*arguments.flags, *texts], scratch if arguments.is_sweep else None)
        except SystemExit as end:
            if end.code:
                raise UserError("Hydra refuses this command line") from end
    return points


def _serve(application: Callable[[], None], arguments: list[str], scratch: str | None) -> None:
    """Runs Hydra's application, with its errors as they are. What Hydra writes goes into a scratch folder."""
    kept = [f"hydra.sweep.dir={scratch}", "hydra.sweep.subdir=.", "hydra.output_subdir=null"]
    sweep = kept if scratch is not None else []
    with (
        patch.object(sys, "argv", [sys.argv[0], *arguments, *sweep]),
        # Else Hydra prints its errors in its own words and ends.
        patch.dict(os.environ, {"HYDRA_FULL_ERROR": "1"}),
    ):
        application()
