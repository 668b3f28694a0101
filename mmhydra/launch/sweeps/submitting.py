"""From the points of a sweep to jobs, and to runs on this machine: what is missing or failed, and nothing twice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console

from mmhydra.errors import ExitCode, UserError, refuse
from mmhydra.files import write_atomic
from mmhydra.launch.array import submit_array, write_array
from mmhydra.launch.batch import BatchJob
from mmhydra.launch.points import Point
from mmhydra.launch.slurm import SubmissionError, was_refused
from mmhydra.launch.submit import require_all_startable, start
from mmhydra.launch.sweeps.anew import anew, tell_anew
from mmhydra.launch.sweeps.arrays import Group, Grouping, batch_job, finish_arrays, placeholder
from mmhydra.launch.sweeps.asked import Asked, planned_points
from mmhydra.launch.sweeps.compiling import compiled, name_of
from mmhydra.launch.sweeps.cost import Cost, costs, most, require_confirmed
from mmhydra.launch.sweeps.data import with_data
from mmhydra.launch.sweeps.due import Due, States, by_key, due, is_slurm
from mmhydra.launch.sweeps.freezing import SweepOrigin, freeze_free, keep_origin, origin_of_now
from mmhydra.launch.sweeps.holding import holding
from mmhydra.launch.sweeps.panel import show_frozen_arrays, show_sweep
from mmhydra.launch.sweeps.pruning import prune, tell_removed
from mmhydra.launch.sweeps.recording import Key, directory_of, key_of, read_record, record_of, require_same_study
from mmhydra.run.directory import Attempt
from mmhydra.run.lease import HeldError
from mmhydra.run.snapshot import snapshot_of
from mmhydra.sweep.record import Record, SweepDirectory
from mmhydra.sweep.state.states import Memory, PointState, needs_submission, read_states
from mmhydra.sweep.state.stop import met
from mmhydra.sweep.study.files import Study

_NAMED = 3  # points that are told each with its reason


@dataclass
class Done:
    """What a command has done so far. `arrays` are job ids and numbers of tasks, by cluster.

    `later` may start once others have ended, `held` once whoever has them lets go.
    """

    codes: dict[Key, ExitCode] = field(default_factory=dict)
    arrays: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    frozen: list[tuple[Path, str | None]] = field(default_factory=list)  # arrays that were left to a person
    later: list[Point] = field(default_factory=list)
    held: list[Point] = field(default_factory=list)


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
    if any(freezes) and asked.prune:
        raise UserError("--prune cancels jobs, and dry_run=freeze leaves all that SLURM is told to you; type one")
    sweep = directory_of(asked.name, points)
    memory = Memory()
    if not sweep.record.exists():  # so nothing of it is there yet, and a refusal leaves nothing behind
        require_confirmed(_costs(sweep, record_of(asked, study, points, None, {}), points, memory)[1])
    with holding(sweep):
        before = read_record(sweep)
        if study is not None:
            require_same_study(sweep, before, study)
        tell_anew(console, sweep, anew(sweep, before, points, memory), points)
        tell_finished(console, sweep)
        origin = origin_of_now(sweep, points[0])
        record = record_of(asked, study, points, before, origin.code)
        states, expected = _costs(sweep, record, points, memory)
        require_confirmed(expected)
        if study is not None:
            write_atomic(sweep.study, study.text.encode())
        sweep.write(record)
        keep_origin(origin)
        if asked.prune:
            pruned = prune(console, sweep, record)
            if pruned is not record:  # what waited for a job that is cancelled now is due again
                record, states = pruned, read_states(sweep, in_study(pruned), memory)
        else:
            tell_removed(console, record)
        stop = {} if study is None else study.stop.model_dump()
        if (why := met(stop, in_study(record), states)) is not None:
            console.print(f"the study's stop rule is met ({why}): nothing more is submitted", markup=False)
            show_sweep(console, sweep, record, states, {}, [])
            return [ExitCode.DONE] * len(points)
        _tell_left_alone(console, sweep, states)
        work = Work(console, sweep, record, points, origin, only_freezes=any(freezes), memory=memory)
        done = work.all(states)
    if work.only_freezes:
        show_frozen_arrays(console, sweep, done.frozen)
    else:
        now = work.states() if done.arrays or done.codes else states
        _tell_stuck(console, by_key(now), _stuck(points, by_key(now), work))
        goes_on = bool(due(points, by_key(now)).now)
        show_sweep(
            *(console, sweep, record, now, done.arrays, expected),
            num_here=len(done.codes),
            goes_on=goes_on,
            has_later=bool(done.later),
        )
    return [done.codes.get(key_of(point), ExitCode.DONE) for point in points]


def submit_points(sweep: SweepDirectory, points: Sequence[Point], origin: SweepOrigin) -> None:
    """Freezes SLURM points and submits them now; whoever calls it holds the sweep's lease and has recorded them.

    Those that turn out to be under way are left alone: SLURM may have taken what it could not answer for before. Raises
    SubmissionError with what is submitted by then, and HeldError, before that, for a run that somebody has.
    """
    console = Console(highlight=False, soft_wrap=True, quiet=True)
    finish_arrays(sweep)
    keys = {key_of(point) for point in points}
    record = sweep.read()
    record = replace(record, points=tuple(point for point in record.points if key_of(point) in keys))
    work = Work(console, sweep, record, points, origin)
    states = by_key(map(_as_begun, work.states()))
    due_now = [point for point in points if needs_submission(states[key_of(point)].state)]
    work.submit(Due(now=due_now), states, all_or_none=True)


class Work:
    """One process at work on a sweep whose lease it holds.

    Without `again` it starts nothing that was started before.
    """

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
        memory: Memory | None = None,
    ) -> None:
        self.only_freezes = only_freezes
        self._console = console
        self._sweep = sweep
        self._record = in_study(record)
        self._points = points
        self._origin = origin
        self._again = again
        self._done = Done()
        self.tried: set[Key] = set()  # whatever became of these, they are not started again
        self._told: set[Key] = set()  # points of which it is said that somebody has them
        self._memory = memory or Memory()

    def states(self) -> list[PointState]:
        """How the points are now."""
        return read_states(self._sweep, self._record, self._memory)

    def all(self, states: Sequence[PointState]) -> Done:
        """Submits and runs what is due, then what is due after that, until nothing is. Called again, it goes on.

        Raises SubmissionError; what it was raised for is due again.
        """
        self._done = Done()
        tried = set(self.tried)
        while True:
            now = by_key(map(_as_begun, states))
            found = due(self._points, now, again=self._again, tried=tried)
            self._done.later = found.later
            if not found.now:
                return self._done
            tried |= {key_of(point) for point in found.now}
            self.submit(replace(found, now=[point for point in found.now if is_slurm(point)]), now)
            local = [point for point in found.now if not is_slurm(point)]
            for number, point in enumerate(local, 1):
                self._start(point, number, len(local))
            self.tried |= tried - {key_of(point) for point in self._done.held}
            if self.only_freezes or not found.later:
                return self._done
            states = self.states()

    def submit(self, found: Due, states: States, *, all_or_none: bool = False) -> None:
        """Freezes points, then submits them as arrays; those that somebody has are left out and told.

        `states` are those by which they were found due. Raises SubmissionError with what is left, and with
        `all_or_none` HeldError for a point that somebody has.
        """
        if not found.now:
            return
        frozen = freeze_free(self._sweep, found.now, self._origin, _newest(found.now, states))
        if all_or_none:
            frozen.require_all()
        self._tell_held(frozen.held)
        free = [point for point in found.now if key_of(point) in frozen.attempts]
        self._done.held += [point for point in found.now if key_of(point) not in frozen.attempts]
        grouping = Grouping(lambda point: self._job(point, frozen.attempts[key_of(point)]), dict(found.jobs))
        num_left = len(free)
        for groups in grouping.waves(free):
            for group in groups:
                try:
                    job_id = self._submit(group)
                except SubmissionError as error:
                    raise SubmissionError(self._refused(error, len(free) - num_left, num_left)) from error
                num_left -= len(group.points)
                for index, point in zip(group.indices, group.points, strict=True):
                    grouping.jobs[key_of(point)] = f"{job_id}_{index}"

    def _tell_held(self, held: Mapping[Key, HeldError]) -> None:
        """Points that are left out now, each told once. Who starts nothing again looks himself until they are free."""
        new = [error for key, error in held.items() if key not in self._told]
        self._told |= held.keys()
        for error in new[:_NAMED]:
            self._console.print(f"note: not submitted: {error}", markup=False)
        if len(new) > _NAMED:
            told = f"note: not submitted for such reasons: {len(new) - _NAMED:,} more points"
            self._console.print(told, markup=False)
        if new and self._again:
            self._console.print("note: the same command submits them once they are free", markup=False)

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
            write_array(array, by_hand=True)
            self._done.frozen.append((array.folder, array.subject.dependency if group.dependency else None))
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


def _costs(
    sweep: SweepDirectory, record: Record, points: Sequence[Point], memory: Memory
) -> tuple[list[PointState], list[Cost]]:
    """How the points are, and what those may cost that this command starts or makes start."""
    states = read_states(sweep, in_study(record), memory)
    found = due(points, by_key(states))
    return states, costs(most(points, {key_of(point) for point in (*found.now, *found.later)}))


def in_study(record: Record) -> Record:
    """A record of the points that the study has."""
    return replace(record, points=tuple(point for point in record.points if point.in_study))


def _newest(points: Sequence[Point], states: States) -> dict[Key, int]:
    """The numbers of the attempts that states are of."""
    attempts = {key_of(point): states[key_of(point)].attempt for point in points}
    return {key: 0 if attempt is None else attempt.number for key, attempt in attempts.items()}


def _as_begun(state: PointState) -> PointState:
    """What sbatch refused was never started, whatever is said of its attempt; another sweep may take that up."""
    if state.state != "failed" or state.attempt is None:
        return state
    return replace(state, state="frozen", attempt=None) if was_refused(state.attempt) else state


def tell_finished(console: Console, sweep: SweepDirectory) -> None:
    """Looks after arrays of commands that were interrupted, and says what became of them."""
    found, dropped = finish_arrays(sweep)
    if found:
        console.print(f"note: SLURM has {', '.join(found)} of a command that was interrupted", markup=False)
    if dropped:
        told = f"note: not submitted by an earlier command: {', '.join(dropped)}; their points are submitted anew"
        console.print(f"{told}, and these scripts are void", markup=False)


def _stuck(points: Sequence[Point], states: States, work: "Work") -> list[Point]:
    """Points that nothing will start before somebody does something about their parents."""
    found = due(points, states, tried=work.tried)
    coming = {*work.tried, *map(key_of, (*found.now, *found.later))}
    return [
        point
        for point in points
        if point.parent is not None
        and key_of(point) not in coming
        and (needs_submission(state := states[key_of(point)].state) or state == "blocked")
    ]


def _tell_stuck(console: Console, states: States, stuck: Sequence[Point]) -> None:
    if stuck:
        first = stuck[0]
        assert first.parent is not None, "it is stuck behind its parent"
        why = f"its parent {first.parent.run_id} is {states[key_of(first.parent)].state}"
        more = f", and {len(stuck) - 1} more" if len(stuck) > 1 else ""
        console.print(f"note: not started: {first.run_id} ({why}){more}", markup=False)


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
