"""Begins the search of a study, or goes on with it."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mmhydra import startup
from mmhydra.compose import Request
from mmhydra.compose.many import Compiler
from mmhydra.config.problems import ConfigError, Problem
from mmhydra.errors import ExitCode, UserError
from mmhydra.files import write_atomic
from mmhydra.launch.batch import BatchJob
from mmhydra.launch.points import Point
from mmhydra.launch.preview import preview
from mmhydra.launch.printing import is_printed
from mmhydra.launch.search.job import DriverJob, driver_job, require_slurm, submit_driver
from mmhydra.launch.search.setting import Setting, read_setting, surroundings, use_frozen_code
from mmhydra.launch.submit import require_all_startable
from mmhydra.launch.sweeps.asked import Asked, is_of_command
from mmhydra.launch.sweeps.compiling import compiled, name_of
from mmhydra.launch.sweeps.cost import Cost, costs, limits, lines, require_confirmed
from mmhydra.launch.sweeps.data import with_data
from mmhydra.launch.sweeps.due import is_slurm
from mmhydra.launch.sweeps.freezing import SweepOrigin, keep_origin, kept_origin, origin_of_now
from mmhydra.launch.sweeps.holding import holding
from mmhydra.launch.sweeps.recording import directory_of, read_record, record_of, require_same_study
from mmhydra.monitor.words import count
from mmhydra.paths import short
from mmhydra.sweep.record import SweepDirectory
from mmhydra.sweep.study.expand import trial
from mmhydra.sweep.study.files import Study, read_study
from mmhydra.sweep.study.overrides import split
from mmhydra.sweep.study.space import Search, corners, texts

_MAY_CHANGE = ("num_trials", "concurrency", "attempts", "driver")  # of a search that goes on
_OF_TRIALS = ("overrides", "resources", "metric", "direction")


def start_search(asked: Asked, study: Study) -> ExitCode:
    """Checks that its trials can run, records the search, and drives it here or submits a driver.

    Where it drives, this process becomes `python -m mmhydra.drive`, with the code and conf/ of now whatever becomes of
    those; one that has code of the store drives itself. Raises UserError, before anything is written, if a corner of
    the space can't run or too much is not confirmed; then nothing is started.
    """
    search = study.search
    assert search is not None, "a study with a search"
    if asked.prune:
        raise UserError(
            "--prune cancels jobs of points that a study has not any more, and a search decides itself which trials "
            f"end early; leave it out, and to end all of its runs type python -m mmhydra.cancel {asked.name}"
        )
    typed = _typed(asked, search)
    points = _corner_points(asked, study, typed)
    require_all_startable([(name_of(point.planned), point.request) for point in points])
    _require_reports(study, search, points)
    _require_machines(search, points)
    if (told := _dry_run(points)) is not None:
        return _show(told, asked, search, points)
    sweep = directory_of(asked.name, points)
    environment = surroundings()
    before = read_record(sweep)
    require_same_study(sweep, before, study)
    num_there = 0
    if sweep.is_search:
        _require_unchanged(sweep, study, typed)
        if (job := driver_job(sweep)) is not None:
            print(f"the search {sweep.name} is driven by job {job.job_id} ({job.state}){_what_next(sweep)}")
            return ExitCode.DONE
        num_there = len(sweep.read().points)
    elif before is not None and before.points:
        raise UserError(
            f"the sweep {sweep.name} has {count(len(before.points), 'point')} from before its study had a search, and "
            "trials would take their numbers; save the study under another name"
        )
    found = costs(_dearest(points, search.num_runs - num_there))
    require_confirmed(found)
    _say_costs(sweep.name, search, found, num_there)
    points = with_data(points, lambda: _corner_points(asked, study, typed), _say)
    with holding(sweep):
        setting = Setting(
            _without_command(typed), next(corners(search)), points[0].sha256, str(Path.cwd()), environment
        )
        origin = _begin(sweep, asked, study, setting, points)
        if search.driver.where == "job":
            job_id = submit_driver(DriverJob(sweep, search.driver, _as_run(asked, search, points[0], origin)))
            print(f"the search is driven by job {job_id}{_what_next(sweep)}")
            return ExitCode.DONE
    use_frozen_code(sweep, origin, [str(sweep.path)])
    # This process has the code of the store already: it drives. Elsewhere nothing here needs Optuna.
    from mmhydra.launch.search.driving import drive_search

    startup.finished()
    return drive_search(sweep, _say)


def _show(dry_run: str, asked: Asked, search: Search, points: Sequence[Point]) -> ExitCode:
    """Prints the configs of the corners, and what all trials may cost. Raises UserError for what needs the trials."""
    if dry_run != "config":
        raise UserError(
            f"dry_run={dry_run}: the trials of a search are not known before it runs; dry_run=config prints the "
            "corners of its space"
        )
    found = costs(_dearest(points, search.num_runs))
    _say_costs(asked.name, search, found, 0)
    for line in limits(found):
        _say(line)
    return ExitCode.DONE if is_printed(b"---\n".join(point.text for point in points)) else ExitCode.FAILED


def _say_costs(name: str, search: Search, found: Sequence[Cost], num_there: int) -> None:
    if found:
        runs = f"{count(search.num_trials, 'trial')}, at most {count(search.num_runs, 'run')}"
        runs += f", {num_there} of them are there" if num_there else ""
        _say(f"search {name}: {runs}, {search.concurrency} at a time; if none ends early:")
    for line in lines(found):
        _say(f"  {line}")


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _what_next(sweep: SweepDirectory) -> str:
    place = shlex.quote(short(sweep.path))
    return f"; look at it with python -m mmhydra.status {place}, end it with python -m mmhydra.cancel {place}"


def _typed(asked: Asked, search: Search) -> tuple[str, ...]:
    """What is typed beside the study, which is the same for all trials. Raises UserError."""
    if len(asked.points) != 1:
        raise UserError(
            f"the values that are typed beside sweep= make {len(asked.points)} searches of this one; put what is to "
            "vary into search.space as choices, or type a command for each"
        )
    (typed,) = asked.points
    in_both = [key for key in search.space if split(key).key in {split(text).key for text in typed}]
    if in_both:
        raise UserError(f"{', '.join(in_both)}: search.space proposes values of it; leave it out of the command line")
    return typed


def _corner_points(asked: Asked, study: Study, typed: Sequence[str]) -> list[Point]:
    assert study.search is not None, "a study with a search"
    planned = [trial(study, texts(values), typed) for values in corners(study.search)]
    return compiled(planned, asked.config_dirs)


def _require_reports(study: Study, search: Search, points: Sequence[Point]) -> None:
    """Raises ConfigError where the metric can't come, or not before halving is to judge by it."""
    problems = {}
    for point in points:
        training = point.config.training
        if study.metric.startswith("val_") and not (training.validation_interval and training.validation_batches):
            told = f"the search goes by {study.metric}, so it needs validation; type training.validation_interval=STEPS"
            problems["training.validation_interval"] = told
        if search.halving is not None and search.halving.min_steps >= training.num_steps:
            told = f"a trial has {training.num_steps} steps, so one of {search.halving.min_steps} can't be ended early"
            problems["search.halving.min_steps"] = told
    if problems:
        raise ConfigError([Problem((key,), told) for key, told in problems.items()])


def _dry_run(points: Sequence[Point]) -> str | None:
    return next((point.request.dry_run for point in points if point.request.dry_run is not None), None)


def _require_machines(search: Search, points: Sequence[Point]) -> None:
    """Raises UserError for trials of this machine whose driver is elsewhere: they would end with its job."""
    local = next((point for point in points if not is_slurm(point)), None)
    if search.driver.where == "job" and local is not None:
        raise UserError(
            f"search.driver.where is job, and trials run on cluster={local.config.cluster.name}, which takes no jobs; "
            "type where: here, or cluster=NAME of a SLURM cluster for the trials"
        )


def _dearest(points: Sequence[Point], num_runs: int) -> list[Point]:
    """As many of the dearest corner as there may be runs: an upper bound, as if nothing were ended early."""
    dearest = max(points, key=lambda point: preview(point.config).gpu_hours or 0.0)
    return [dearest] * max(0, num_runs)


def _require_unchanged(sweep: SweepDirectory, study: Study, typed: Sequence[str]) -> None:
    """Refuses to go on with another space under the same name: what was learnt would be of something else."""
    before = read_study(sweep.study, None)
    was, new = before.search, study.search
    assert new is not None, "a study with a search"
    differs = (
        ["search"]
        if was is None
        else [
            f"search.{name}"
            for name in set(Search.model_fields) - set(_MAY_CHANGE)
            if getattr(was, name) != getattr(new, name)
        ]
    )
    differs += [name for name in _OF_TRIALS if getattr(before, name) != getattr(study, name)]
    if _without_command(typed) != read_setting(sweep).typed:
        differs.append("what is typed beside it")
    if differs:
        place = shlex.quote(short(sweep.path))
        raise UserError(
            f"the search {sweep.name} is under way, and {', '.join(sorted(differs))} of its study has changed since. "
            f"To go on as it was: python -m mmhydra.drive {place}; for another search save the study under another "
            f"name, or remove {sweep.path}"
        )


def _begin(sweep: SweepDirectory, asked: Asked, study: Study, setting: Setting, points: Sequence[Point]) -> SweepOrigin:
    """Writes what every driver goes by; of a search that goes on only what may change."""
    before = read_record(sweep)
    goes_on = sweep.is_search
    origin = kept_origin(sweep) if goes_on else origin_of_now(sweep, points[0])
    record = record_of(asked, study, [], None, origin.code)
    if before is not None:
        record = replace(record, created=before.created, points=before.points)
    write_atomic(sweep.study, study.text.encode())  # what was checked, whatever the file is by now
    sweep.write(record)
    if goes_on:
        return origin
    keep_origin(origin)
    setting.write(sweep)
    return origin


def _without_command(typed: Sequence[str]) -> tuple[str, ...]:
    return tuple(text for text in typed if not is_of_command(text))


def _as_run(asked: Asked, search: Search, point: Point, origin: SweepOrigin) -> BatchJob:
    """A run on the cluster that takes the driver."""
    config = point.config
    if search.driver.cluster is not None:
        kept = [text for text in point.planned.overrides if text.partition("=")[0] != "cluster"]
        other: Request = Compiler(asked.config_dirs).compose([*kept, f"cluster={search.driver.cluster}"])
        config = config.model_copy(update={"cluster": other.config.cluster})
    job = BatchJob(config, "", "", point.run.path, point.run.path, origin.snapshot)
    require_slurm(job)
    return job
