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
    Request,
    compose,
    known_groups,
    named,
    register_resolvers,
    require_legal,
)
from mmhydra.compose.arguments import Arguments
from mmhydra.compose.command_line import parse
from mmhydra.errors import ExitCode, UserError, refuse


def run_hydra(arguments: Arguments, handle: Callable[[Request], ExitCode]) -> ExitCode:
    """Serves Hydra's flags. Gives each point of a sweep to `handle`, in order; returns the first code that is not 0.

    Raises UserError for what is wrong with the command line, before the first point.
    """
    register_resolvers()
    texts = arguments.overrides
    if "--shell-completion" not in arguments.flags:
        parsed = parse(arguments.overrides)
        texts = parsed.texts
        require_legal(parsed, arguments.config_dirs, sweeping=arguments.is_sweep)
        for warning in parsed.warnings:
            print(f"warning: {warning}", file=sys.stderr)
    codes: list[ExitCode] = []

    @hydra.main(version_base=VERSION_BASE, config_path=str(paths.config_dir()), config_name=CONFIG_NAME)
    def application(composed: DictConfig) -> None:
        overrides = HydraConfig.get().overrides
        try:
            search = [text for text in overrides.hydra if text.startswith("hydra.searchpath=")]
            # Composed anew, just as without -m: a file that this point chooses may say something of Hydra itself.
            codes.append(handle(compose([*overrides.task, *search], arguments.config_dirs)))
        except UserError as error:
            codes.append(refuse(error))
        except Exception as error:
            raise _PointFailed(error) from error

    try:
        with (
            tempfile.TemporaryDirectory(prefix="mmhydra-sweep-") as scratch,
            named(texts, None, lambda: known_groups(arguments.config_dirs)),
        ):
            _serve(application, [*arguments.flags, *texts], scratch if arguments.is_sweep else None)
    except _PointFailed as failure:
        raise failure.cause from None
    except SystemExit as end:
        if end.code:
            return ExitCode.CONFIG
    return next((code for code in codes if code is not ExitCode.DONE), ExitCode.DONE)


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


class _PointFailed(BaseException):
    """A point failed, and not by a wrong config: passes through Hydra unchanged."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(cause)
        self.cause = cause
