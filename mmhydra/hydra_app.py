"""The same command line under `@hydra.main`, for what only Hydra itself does: -m, --cfg, --info, --help, completion."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import hydra
from omegaconf import DictConfig

from mmhydra import paths, startup
from mmhydra.compose import (
    CONFIG_NAME,
    VERSION_BASE,
    Request,
    known_groups,
    named,
    register_resolvers,
    require_legal,
)
from mmhydra.compose.arguments import Arguments
from mmhydra.compose.command_line import Parsed, parse
from mmhydra.compose.launcher_keys import with_cluster_keys
from mmhydra.errors import ExitCode, UserError
from mmhydra.launch.sweeps.asked import Asked, planned_points
from mmhydra.launch.sweeps.compiling import compiled
from mmhydra.launch.sweeps.printing import print_points
from mmhydra.launch.verify import verified

Handle = Callable[[Sequence[Request]], Sequence[ExitCode]]
_BATCH_SIZE = "hydra.sweeper.max_batch_size"
_FULL_ERROR = "HYDRA_FULL_ERROR"
_OURS = "mmhydra"
_STUDY = "sweep"
_OF_SWEEPER = (_STUDY, f"+{_STUDY}", f"++{_STUDY}", "hydra/sweeper")  # no part of what points are


class PointFailed(RuntimeError):
    """What a sweeper gets from a point that ended with another exit code than 0."""


class _Application:
    """Stands where Hydra has a task function; our sweeper hands it all points of a command, none is composed by it.

    Another sweeper than ours calls a launcher, batch by batch. The points are composed as without -m. All of a call are
    checked before the first of them starts.
    """

    def __init__(self, parsed: Parsed, arguments: Arguments, handle: Handle) -> None:
        self.codes: list[ExitCode] = []
        self.failure: Exception | None = None  # of ours: Hydra would tell it as its own
        self.scratch: str | None = None  # taken away before the first point starts, as a kill would leave it behind
        self._handle = handle
        self._folders = arguments.config_dirs
        search = (override for override in parsed.overrides if override.key_or_group == "hydra.searchpath")
        self._search = [override.input_line or "" for override in search]
        self._typed = tuple(text for text in parsed.texts if text.partition("=")[0] not in _OF_SWEEPER)
        self._prune = arguments.prune
        self._argv = sys.argv
        self._full_error = {_FULL_ERROR: os.environ[_FULL_ERROR]} if _FULL_ERROR in os.environ else {}

    def __call__(self, composed: DictConfig) -> None:
        """Never called: Hydra serves no single run."""
        raise AssertionError("a single run goes without Hydra's application")

    def launch_points(self, points: Sequence[Sequence[str]]) -> list[int | Exception]:
        """For the launcher: runs the points of one call. Returns the exit code 0 of each, or what its failure raises.

        Raises UserError, before the first starts, if one of them may not.
        """
        with self._as_typed():
            codes = self._handle(verified([[*point, *self._search] for point in points], self._folders))
        self.codes += codes
        return [
            code if code == ExitCode.DONE else PointFailed(f"exit code {code}: {' '.join(point)}")
            for code, point in zip(codes, points, strict=True)
        ]

    def launch_sweep(self, study: str | None, points: Sequence[Sequence[str]]) -> Sequence[ExitCode]:
        """For the sweeper: runs all points, or those of a study, with which each of these is combined.

        Raises UserError, before the first starts, if one of them may not.
        """
        combined = tuple((*point, *self._search) for point in points)
        command = tuple(self._argv[1:])
        asked = Asked(study, self._typed, combined, self._folders, self._prune, command)
        with self._as_typed():
            self.codes += _run_sweep(asked, self._handle)
        return self.codes

    @contextmanager
    def _as_typed(self) -> Iterator[None]:
        """The process as it was before Hydra came; what fails inside is ours."""
        if self.scratch is not None:
            shutil.rmtree(self.scratch, ignore_errors=True)
        with patch.object(sys, "argv", self._argv), patch.dict(os.environ):
            os.environ.pop(_FULL_ERROR, None)
            os.environ |= self._full_error
            try:
                yield
            except Exception as error:
                self.failure = error
                raise


def _run_sweep(asked: Asked, handle: Handle) -> Sequence[ExitCode]:
    """Prints or starts the points of a sweep. Returns the exit code of each; raises UserError."""
    study = asked.read_study()
    if study is not None and study.search is not None:
        from mmhydra.launch.search.start import start_search  # Optuna and numpy: flags that only print need neither

        return [start_search(asked, study)]
    points = compiled(planned_points(asked, study), asked.config_dirs)
    if any(point.request.run is not None for point in points):  # they go on with runs of whatever folders
        return handle([point.request for point in points])
    printing = [point for point in points if point.request.only_prints]
    starting = [point for point in points if not point.request.only_prints]
    if printing and starting and study is not None:
        raise UserError("dry_run= is for all points of a study or for none; type one value")
    if printing and print_points(asked.name, printing) is not ExitCode.DONE:
        return [ExitCode.FAILED] * len(points)
    if not starting:
        return [ExitCode.DONE] * len(points)
    from mmhydra.launch.sweeps.submitting import submit_sweep  # numpy and submitit, as above

    startup.finished()
    return submit_sweep(asked, study, starting)


def run_hydra(arguments: Arguments, handle: Handle) -> list[ExitCode]:
    """Serves Hydra's flags. Returns the exit code of each point of a sweep, in order; none for flags that only print.

    `handle` runs points that were checked. Raises UserError for what is wrong with the command line or with a point.
    """
    register_resolvers()
    texts = arguments.overrides
    parsed = Parsed([], [])
    is_basic = False
    if "--shell-completion" not in arguments.flags:
        if arguments.is_sweep:
            texts, notes = with_cluster_keys(texts)
            for note in notes:  # first: what follows knows the keys of the cluster alone
                print(f"note: {note}", file=sys.stderr)
        parsed = parse(texts)
        require_legal(parsed, arguments.config_dirs, sweeping=arguments.is_sweep)
        for warning in parsed.warnings:
            print(f"warning: {warning}", file=sys.stderr)
        if arguments.is_sweep:
            is_basic = _is_basic(parsed)
            parsed = _in_one_batch(parsed) if is_basic else parsed
            _require_own_sweeper(parsed, prunes=arguments.prune)
        texts = parsed.texts
    application = _Application(parsed, arguments, handle)
    main = hydra.main(version_base=VERSION_BASE, config_path=str(paths.config_dir()), config_name=CONFIG_NAME)
    with (
        tempfile.TemporaryDirectory(prefix="mmhydra-sweep-") as scratch,
        named(texts, None, lambda: known_groups(arguments.config_dirs)),
    ):
        application.scratch = scratch if is_basic else None  # another sweeper may write into it at its end
        try:
            _serve(main(application), [*arguments.flags, *texts], scratch if arguments.is_sweep else None)
        except PointFailed:  # the sweeper looked at it; all points of its call have run
            pass
        except SystemExit as end:
            if end.code:
                raise UserError("Hydra refuses this command line") from end
        except Exception:
            if application.failure is None:
                raise
    if application.failure is not None:
        raise application.failure
    return application.codes


def _is_basic(parsed: Parsed) -> bool:
    """Whether our sweeper or Hydra's own runs; another one may choose points by the results of those before."""
    chosen = _sweepers(parsed)
    if chosen in ([], ["basic"], [_OURS]):
        return True
    told = f"hydra/sweeper={chosen[0]}: each batch of points is checked before its first one starts"
    print(f"note: {told}", file=sys.stderr)
    return False


def _require_own_sweeper(parsed: Parsed, *, prunes: bool) -> None:
    """Raises UserError for a study, or for pruning, beside a sweeper that knows none."""
    chosen = _sweepers(parsed)
    if chosen in ([], [_OURS]):
        return
    if any(override.key_or_group == _STUDY for override in parsed.overrides):
        raise UserError(f"hydra/sweeper={chosen[0]} knows no studies; leave it out beside {_STUDY}=")
    if prunes:
        raise UserError(f"hydra/sweeper={chosen[0]} keeps no record of its points; leave it out beside --prune")


def _sweepers(parsed: Parsed) -> list[Any]:
    return [override.value() for override in parsed.overrides if override.key_or_group == "hydra/sweeper"]


def _in_one_batch(parsed: Parsed) -> Parsed:
    """Without the batches of the basic sweeper: those would start before the points of the next ones are checked.

    Batches have no other meaning here: local points run one after another anyway.
    """
    kept = [override for override in parsed.overrides if override.key_or_group != _BATCH_SIZE]
    if len(kept) < len(parsed.overrides):
        print(f"note: {_BATCH_SIZE} changes nothing: all points are checked before the first starts", file=sys.stderr)
    return Parsed(kept, parsed.warnings)


def _serve(application: Callable[[], None], arguments: list[str], scratch: str | None) -> None:
    """Runs Hydra's application, with its errors as they are. What Hydra writes goes into a scratch folder."""
    kept = [f"hydra.sweep.dir={scratch}", "hydra.sweep.subdir=.", "hydra.output_subdir=null"]
    sweep = kept if scratch is not None else []
    with (
        patch.object(sys, "argv", [sys.argv[0], *arguments, *sweep]),
        patch.dict(os.environ, {_FULL_ERROR: "1"}),  # else Hydra prints its errors in its own words and ends
    ):
        application()
