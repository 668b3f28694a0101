"""The same command line under `@hydra.main`, for what only Hydra itself does: -m, --cfg, --info, --help, completion."""

import sys
import tempfile
from collections.abc import Callable, Sequence

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from mmhydra import paths
from mmhydra.compose import CONFIG_NAME, VERSION_BASE, Request, register_resolvers, to_request
from mmhydra.errors import ExitCode, UserError, refuse


def is_for_hydra(arguments: Sequence[str]) -> bool:
    """Whether a command line has flags; overrides never begin with a dash."""
    return any(argument.startswith("-") for argument in arguments)


def run_hydra(handle: Callable[[Request], ExitCode]) -> ExitCode:
    """Gives each composed point to `handle`, in order; returns the first exit code that is not 0.

    Hydra ends with 1 for every error of its own; those are errors of the command line, so they become 2.
    """
    register_resolvers()
    codes: list[ExitCode] = []

    @hydra.main(version_base=VERSION_BASE, config_path=str(paths.config_dir()), config_name=CONFIG_NAME)
    def application(composed: DictConfig) -> None:
        try:
            codes.append(handle(to_request(composed, list(HydraConfig.get().overrides.task))))
        except UserError as error:
            codes.append(refuse(error))
        except Exception:
            codes.append(ExitCode.FAILED)
            raise  # Hydra prints it and ends

    with tempfile.TemporaryDirectory(prefix="mmhydra-sweep-") as scratch:
        sys.argv[1:] = _sweeping_into(scratch, sys.argv[1:])
        try:
            application()
        except SystemExit as end:
            if end.code:
                codes.append(ExitCode.CONFIG)
        except ValueError as error:  # flags that exclude each other
            if codes:
                raise
            codes.append(refuse(UserError(str(error))))
    return next((code for code in codes if code is not ExitCode.DONE), ExitCode.DONE)


def _sweeping_into(scratch: str, arguments: Sequence[str]) -> list[str]:
    """The command line, where a sweep leaves its multirun.yaml, which Hydra always writes, in a scratch folder."""
    rest = [argument for argument in arguments if argument not in ("-m", "--multirun")]
    if len(rest) == len(arguments):
        return rest
    # Hydra's parser wants the overrides side by side.
    first = next((index for index, argument in enumerate(rest) if not argument.startswith("-") and "=" in argument), 0)
    return ["--multirun", *rest[:first], f"hydra.sweep.dir={scratch}", *rest[first:]]
