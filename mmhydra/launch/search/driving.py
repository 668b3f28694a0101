"""Drives the search of a sweep, from whatever a driver before left."""

import os
import shlex
import time
from collections.abc import Callable
from pathlib import Path

from mmhydra.errors import ExitCode, UserError
from mmhydra.launch.search.book import Book
from mmhydra.launch.search.driver import Driver
from mmhydra.launch.search.runs import MachineRuns
from mmhydra.launch.search.setting import JOURNAL, read_setting, require_same
from mmhydra.launch.search.trials import Composer
from mmhydra.launch.sweeps.arrays import finish_arrays
from mmhydra.launch.sweeps.freezing import kept_origin
from mmhydra.launch.sweeps.holding import PATIENCE_S, holding
from mmhydra.launch.sweeps.submitting import submit_points
from mmhydra.monitor.words import count
from mmhydra.paths import short
from mmhydra.slurm import SchedulerError
from mmhydra.sweep.record import SweepDirectory
from mmhydra.sweep.state.stop import read_stop
from mmhydra.sweep.study.files import read_study
from mmhydra.sweep.study.space import texts

_SILENCES = 3  # of SLURM, in a row
_RETRY_S = 30.0


def drive_search(sweep: SweepDirectory, say: Callable[[str], None]) -> ExitCode:
    """Goes on with a search to its end. Raises UserError, also where another driver has it.

    FAILED if no trial came to its end.
    """
    setting = read_setting(sweep)
    study = read_study(sweep.study, None)
    search = study.search
    if search is None:
        raise UserError(f"{sweep.study} has no search any more; put it back, or type the command of the sweep again")
    # A job waits for the driver before it, which may have died with its node.
    with holding(sweep, PATIENCE_S if "SLURM_JOB_ID" in os.environ else 0.0, say):
        _finish_arrays(sweep, say)
        origin = kept_origin(sweep)
        folders = [Path(folder["snapshot"]) for folder in origin.origin.provenance["config_folders"]]
        composer = Composer(study, setting.typed, folders)
        require_same(setting, composer)
        record = sweep.read()
        book = Book(sweep.search / JOURNAL, search, record.direction)
        runs = MachineRuns(sweep, origin, search.concurrency, submit_points)
        say(f"search {sweep.name}: {record.question or ''}")
        code = Driver(sweep, record, search, book, composer, runs, stop=read_stop(sweep), say=say).run()
        _conclude(sweep, book, say)
    return code


def _finish_arrays(sweep: SweepDirectory, say: Callable[[str], None]) -> None:
    """A SLURM that is silent for a moment ends no driver: nobody starts one in a job again. Raises UserError."""
    for num_silences in range(_SILENCES + 1):
        try:
            finish_arrays(sweep)
            return
        except SchedulerError as error:
            if num_silences == _SILENCES:
                raise
            say(f"tried again in {_RETRY_S:.0f} s: {error}")
            time.sleep(_RETRY_S)


def _conclude(sweep: SweepDirectory, book: Book, say: Callable[[str], None]) -> None:
    """What came out, and what to type."""
    record = sweep.read()
    trials = book.trials
    counts = [(state, sum(trial.state == state for trial in trials)) for state in ("done", "pruned", "failed")]
    say(f"{count(len(trials), 'trial')}: {', '.join(f'{number} {state}' for state, number in counts if number)}")
    best = book.best
    if best is None:
        failed = next((trial for trial in trials if trial.state == "failed"), None)
        if failed is not None:
            say(f"none came to its end; of trial {failed.number}: {failed.notes.get('told', '')}")
    else:
        shown = " ".join(f"{key}={text}" for key, text in texts(best.values).items())
        say(f"best: trial {best.number}, {record.metric} {best.value:.5g}: {shown}")
        point = next((each for each in record.points if each.run_id == best.notes.get("run_id")), None)
        if point is not None:
            say(f"its run: {short(sweep.run(point).path)}; the same again:")
            say(f"  python -m mmhydra.train {shlex.join(point.overrides)}")
    place = shlex.quote(short(sweep.path))
    say(f"table: python -m mmhydra.status {place}; page: python -m mmhydra.report {place}")
