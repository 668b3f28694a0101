"""From the points of a sweep to jobs, and to runs on this machine: what is missing or failed, and nothing twice."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console

from mmhydra.errors import ExitCode, UserError, refuse
from mmhydra.files import write_atomic
from mmhydra.launch.array import submit_array, write_array
from mmhydra.launch.batch import BatchJob
from mmhydra.launch.points import Point
from mmhydra.launch.slurm import SubmissionError
from mmhydra.launch.submit import require_all_startable, start
from mmhydra.launch.sweeps.arrays import Group, Grouping, batch_job, finish_arrays, placeholder
from mmhydra.launch.sweeps.asked import Asked, planned_points
from mmhydra.launch.sweeps.compiling import compiled, name_of, with_data, without_start
from mmhydra.launch.sweeps.cost import Cost, costs, most, require_confirmed
from mmhydra.launch.sweeps.due import Due, by_key, due, is_slurm
from mmhydra.launch.sweeps.freezing import SweepOrigin, freeze_points, keep_origin, kept_origin, origin_of_now
from mmhydra.launch.sweeps.panel import show_frozen_arrays, show_sweep
from mmhydra.launch.sweeps.pruning import prune, tell_removed
from mmhydra.launch.sweeps.recording import Key, directory_of, key_of, read_record, record_of
from mmhydra.run.directory import Attempt, RunDirectory
from mmhydra.run.lease import HeldError, hold
from mmhydra.run.snapshot import snapshot_of
from mmhydra.sweep.planned import Parent, Planned
from mmhydra.sweep.record import Record, RecordedPoint, SweepDirectory
from mmhydra.sweep.state.states import Memory, PointState, needs_submission, read_states
from mmhydra.sweep.state.stop import met, read_stop
from mmhydra.sweep.study.files import Study


@dataclass
class Done:
    """What a command has done so far. `arrays` are job ids and numbers of tasks, by cluster."""

    codes: dict[Key, ExitCode] = field(default_factory=dict)
    arrays: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    frozen: list[tuple[Path, str | None]] = field(default_factory=list)  # arrays that were left to a person
    later: list[Point] = field(default_factory=list)


def submit_sweep(asked: Asked, study: Study | None, points: Sequence[Point]) -> list[ExitCode]:
    """Submits the points that are missing or failed, and runs those of this machine; all others are left alone.

    Returns the exit code of each. Raises UserError, before the first starts, if one of them may not; and where SLURM
    refuses in between, with what is submitted by then and what to type.
    """
    console = Console(highlight=False, soft_wrap=True)
    require_all_startable([(name_of(point.planned), point.request) for point in points])
    points = with_data(
        points,
        lambda: compiled(planned_points(asked, study), asked.config_dirs),
        lambda text: console.print(text, markup=False),
    )
    freezes = [point.request.dry_run == "freeze" for point in points]
    if any(freezes) and not all(freezes):
        raise UserError("dry_run=freeze is for all points of a sweep or for none; type it without other values")
    sweep = directory_of(asked.name, points)
    if not sweep.record.exists():  # so nothing of it is there yet, and a refusal leaves nothing behind
        require_confirmed(_costs(sweep, record_of(asked, study, points, None, {}), points)[1])
    with holding(sweep):
        _tell_finished(console, sweep)
        origin = origin_of_now(sweep, points[0])
        record = record_of(asked, study, points, read_record(sweep), origin.code)
        states, expected = _costs(sweep, record, points)
        require_confirmed(expected)
        if study is not None:
            write_atomic(sweep.study, study.text.encode())
        sweep.write(record)
        keep_origin(origin)
        if asked.prune:
            record = prune(console, sweep, record)
        else:
            tell_removed(console, record)
        stop = {} if study is None else study.stop.model_dump()
        if (why := met(stop, _in_study(record), states)) is not None:
            console.print(f"the study's stop rule is met ({why}): nothing more is submitted", markup=False)
            show_sweep(console, sweep, record, states, {}, [], has_later=False)
            return [ExitCode.DONE] * len(points)
        _tell_left_alone(console, sweep, states)
        run = _Run(console, sweep, record, points, origin, only_freezes=any(freezes))
        done = run.all(states)
    if run.only_freezes:
        show_frozen_arrays(console, sweep, done.frozen)
    else:
        now = run.states() if done.arrays or done.codes else states
        _tell_blocked(console, now, done.later)
        show_sweep(console, sweep, record, now, done.arrays, expected, has_later=bool(done.later))
    return [done.codes.get(key_of(point), ExitCode.DONE) for point in points]


def advance(sweep: SweepDirectory) -> bool:
    """Submits or runs the points of later stages that are due by now; nothing that was started before.

    Returns whether something is left to wait for. Raises UserError; so where the points are not composed as they were
    when the sweep was submitted.
    """
    console = Console(highlight=False, soft_wrap=True)
    with holding(sweep):
        _tell_finished(console, sweep)
        record = sweep.read()
        origin = kept_origin(sweep)
        points = points_of(record, origin)
        run = _Run(console, sweep, record, points, origin, again=False)
        states = run.states()
        if (why := met(read_stop(sweep), _in_study(record), states)) is not None:
            console.print(f"the study's stop rule is met ({why}): nothing more is submitted", markup=False)
            return False
        done = run.all(states)
        for cluster, found in done.arrays.items():
            arrays = ", ".join(f"{job_id} ({size} points)" for job_id, size in found)
            console.print(f"sweep {sweep.name}: submitted to {cluster}: {arrays}", markup=False)
    return bool(done.later)


def submit_points(sweep: SweepDirectory, points: Sequence[Point]) -> None:
    """Freezes SLURM points and submits them now; whoever calls it holds the sweep's lease and has recorded them.

    Raises SubmissionError with what is submitted by then.
    """
    console = Console(highlight=False, soft_wrap=True, quiet=True)
    finish_arrays(sweep)
    _Run(console, sweep, sweep.read(), points, kept_origin(sweep)).submit(Due(now=list(points)))


def planned_again(points: Sequence[RecordedPoint]) -> list[Planned]:
    """Recorded points as they were planned."""
    numbers = {key_of(point): index for index, point in enumerate(points)}
    found = []
    for point in points:
        overrides, parent = point.overrides, None
        if point.parent is not None:
            parent = Parent(numbers[point.parent.name, point.parent.run_id], point.parent.start)
            overrides = without_start(overrides, point.parent.start)
        found.append(Planned(overrides, point.label, point.stage, parent, point.num_best))
    return found


def points_of(record: Record, origin: SweepOrigin) -> list[Point]:
    """The points of a record, composed again, from the user's folders as they were.

    Raises UserError where they are not what they were.
    """
    there = [point for point in record.points if point.in_study]
    kept = {folder["path"]: folder["snapshot"] for folder in origin.origin.provenance["config_folders"]}
    folders = [Path(kept.get(folder, folder)) for folder in record.config_dirs]
    points = compiled(planned_again(there), folders, say=lambda text: None)
    composed = {key_of(point): point.sha256 for point in points}
    for recorded in there:
        sha256 = composed.get(key_of(recorded))
        if sha256 != recorded.config_sha256:
            now = "it is another run" if sha256 is None else f"its config has SHA-256 {sha256[:12]}"
            raise UserError(
                f"point {recorded.number} of {record.name} ({' '.join(recorded.overrides)}) is not composed as it was "
                f"when the sweep was submitted: {now}, recorded is {recorded.run_id} of {recorded.config_sha256[:12]}. "
                "conf/ or its data has changed since; put back what was there, or type the command of the sweep again"
            )
    return points


@contextmanager
def holding(sweep: SweepDirectory) -> Iterator[None]:
    """Holds the lease of a sweep: one process at a time submits. Raises UserError that names the other one."""
    try:
        sweep.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"the sweep can't be written to {sweep.path}: {error}; point paths.outputs (or MMHYDRA_OUTPUTS) elsewhere"
        ) from error
    try:
        with hold(RunDirectory(sweep.path)):  # which has its lease in the same place
            yield
    except HeldError as error:
        if str(sweep.path) not in str(error):
            raise
        told = str(error).replace(f"the run {sweep.path} is under way", f"the sweep {sweep.name} is being submitted")
        raise UserError(told) from error


class _Run:
    """One command at work on a sweep whose lease it holds."""

    def __init__(
        self,
        console: Console,
        sweep: SweepDirectory,
        record: Record,
        points: Sequence[Point],
        origin: SweepOrigin,
        *,
        again: bool = True,
        only_freezes: bool = False,
    ) -> None:
        self.only_freezes = only_freezes
        self._console = console
        self._sweep = sweep
        self._record = _in_study(record)
        self._points = points
        self._origin = origin
        self._again = again
        self._done = Done()
        self._memory = Memory()

    def states(self) -> list[PointState]:
        """How the points are now."""
        return read_states(self._sweep, self._record, self._memory)

    def all(self, states: Sequence[PointState]) -> Done:
        """Submits and runs what is due, then what is due after that, until nothing is."""
        tried: set[Key] = set()
        while True:
            found = due(self._points, by_key(states), again=self._again, tried=tried)
            self._done.later = found.later
            if not found.now:
                return self._done
            tried |= {key_of(point) for point in found.now}
            self.submit(replace(found, now=[point for point in found.now if is_slurm(point)]))
            local = [point for point in found.now if not is_slurm(point)]
            for number, point in enumerate(local, 1):
                self._start(point, number, len(local))
            if self.only_freezes or not found.later:
                return self._done
            states = self.states()

    def submit(self, found: Due) -> None:
        """Freezes points, then submits them as arrays. Raises SubmissionError with what is left."""
        if not found.now:
            return
        attempts = freeze_points(self._sweep, found.now, self._origin)
        frozen = {key_of(point): attempt for point, attempt in zip(found.now, attempts, strict=True)}
        grouping = Grouping(lambda point: self._job(point, frozen[key_of(point)]), dict(found.jobs))
        num_left = len(found.now)
        for groups in grouping.waves(found.now):
            for group in groups:
                try:
                    job_id = self._submit(group)
                except SubmissionError as error:
                    raise SubmissionError(self._refused(error, len(found.now) - num_left, num_left)) from error
                num_left -= len(group.points)
                for index, point in zip(group.indices, group.points, strict=True):
                    grouping.jobs[key_of(point)] = f"{job_id}_{index}"

    def _job(self, point: Point, attempt: Attempt) -> BatchJob:
        snapshot = self._origin.snapshot
        if point.request.code_is_frozen:  # each has that of its attempt before
            own = snapshot_of(attempt.provenance())
            assert own is not None, "what is frozen now stores its code"
            snapshot = own
        return batch_job(point, attempt.path, snapshot)

    def _submit(self, group: Group) -> str:
        """The array's job id; of one that is left to a person a variable that stands for it."""
        array = group.array(self._sweep.new_array(), self._sweep.name)
        if self.only_freezes:
            write_array(array)
            self._done.frozen.append((array.folder, group.dependency))
            return placeholder(array.folder.name)
        job_id = submit_array(array)
        cluster = group.points[0].config.cluster.name
        self._done.arrays.setdefault(cluster, []).append((job_id, len(group.points)))
        return job_id

    def _refused(self, error: SubmissionError, num_submitted: int, num_left: int) -> str:
        arrays = ", ".join(job_id for found in self._done.arrays.values() for job_id, _ in found)
        head = f"{num_submitted} points are submitted ({arrays})" if arrays else "no point is submitted"
        return f"{error}\n{head}, {num_left} are left; the same command goes on with these, and submits nothing twice"

    def _start(self, point: Point, number: int, num_points: int) -> None:
        if num_points > 1:
            print(f"point {number} of {num_points}: {name_of(point.planned)}", flush=True)
        try:
            origin = None if point.request.code_is_frozen else self._origin.origin
            self._done.codes[key_of(point)] = start(point.request, origin)
        except UserError as error:  # what only its data could tell; the other points go on
            if len(self._points) == 1:
                raise
            self._done.codes[key_of(point)] = refuse(error)


def _costs(sweep: SweepDirectory, record: Record, points: Sequence[Point]) -> tuple[list[PointState], list[Cost]]:
    """How the points are, and what those may cost that this command starts or makes start."""
    states = read_states(sweep, _in_study(record))
    known = by_key(states)
    starting = {
        key_of(point)
        for point in points
        if needs_submission(state := known[key_of(point)].state) or state in ("blocked", "unchosen")
    }
    return states, costs(most(points, starting))


def _in_study(record: Record) -> Record:
    return replace(record, points=tuple(point for point in record.points if point.in_study))


def _tell_finished(console: Console, sweep: SweepDirectory) -> None:
    found, dropped = finish_arrays(sweep)
    if found:
        console.print(f"note: SLURM has {', '.join(found)} of a command that was interrupted", markup=False)
    if dropped:
        told = f"note: not submitted by an earlier command: {', '.join(dropped)}; their points are submitted anew"
        console.print(f"{told}, and these scripts are void", markup=False)


def _tell_blocked(console: Console, states: Sequence[PointState], later: Sequence[Point]) -> None:
    """Points that nothing will start before somebody does something about their parents."""
    coming = {key_of(point) for point in later}
    blocked = [state for state in states if state.state == "blocked" and key_of(state.point) not in coming]
    if blocked:
        more = f", and {len(blocked) - 1} more" if len(blocked) > 1 else ""
        told = f"note: not started: {blocked[0].point.run_id} ({blocked[0].remark}){more}"
        console.print(told, markup=False)


def _tell_left_alone(console: Console, sweep: SweepDirectory, states: Sequence[PointState]) -> None:
    """Points that a person has to decide about."""
    stopped = [state for state in states if state.state == "stopped"]
    if stopped:
        place = sweep.run(stopped[0].point).path
        more = f" and {len(stopped) - 1} more" if len(stopped) > 1 else ""
        console.print(
            f"note: stopped, and not submitted again: {stopped[0].point.run_id}{more}; look at it, and if it is to go "
            f"on type python -m mmhydra.train resume={place}",
            markup=False,
        )
