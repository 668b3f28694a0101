"""How each point of a sweep is: from the files of its run, and from one question to each SLURM that has its job."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Literal, get_args

from mmhydra.checkpoint.stamp import stamped_steps
from mmhydra.files import read_object
from mmhydra.monitor.facts import FINAL
from mmhydra.monitor.history import Past, read_past
from mmhydra.monitor.holder import Holder, read_holder
from mmhydra.monitor.reading import integer, newest_records, now_of, number, text, written_at
from mmhydra.monitor.verdict import job_state, local_state, unasked_state
from mmhydra.monitor.words import reason
from mmhydra.run.directory import FROZEN_CONFIG, Attempt, RunDirectory
from mmhydra.slurm import SchedulerError
from mmhydra.sweep.record import Record, RecordedPoint, SweepDirectory
from mmhydra.sweep.state.asking import Answer, BulkAsker
from mmhydra.sweep.state.best import Run, best, parent_of, parents_of, run_of
from mmhydra.sweep.state.curves import Curves, best_step
from mmhydra.sweep.state.machines import Machines, read_machines

State = Literal[
    "missing",  # no attempt
    "frozen",  # an attempt that no job and no process has started or was submitted for
    "blocked",  # not submitted, and its parent is not done
    "unchosen",  # its stage takes the best parents: its own was not among them, or that is not known yet
    "pending",
    "starting",
    "running",
    "ending",
    "waiting",
    "done",
    "failed",
    "stopped",
    "preempted",
    "gone",
    "cancelled",
]
STATES: tuple[State, ...] = get_args(State)
ACTIVE: tuple[State, ...] = ("pending", "starting", "running", "ending", "waiting")
ENDED: tuple[State, ...] = tuple(state for state in STATES if state in FINAL)
AGAIN: tuple[State, ...] = ("missing", "frozen", "failed", "preempted", "gone", "cancelled")
ARRAY = "array.json"  # in the folder of an array, written by `mmhydra.launch.array`
DRIVER = "driver.json"  # in the folder of a search whose driver runs as a job, written by `mmhydra.launch.search`
_TAIL_BYTES = 8 * 1024  # ten records or more
_AT_WORK = ("starting", "running", "ending")


@dataclass(frozen=True)
class PointState:
    """A point at one moment. What is not known is None."""

    point: RecordedPoint
    state: State
    remark: str | None = None  # what makes the state plain
    step: int = 0
    num_steps: int = 0
    loss: float | None = None  # the newest of training
    best: float | None = None  # of the record's metric, over all attempts; never NaN or infinite
    best_step: int | None = None
    last: float | None = None  # the newest value of the metric, whatever it is
    last_step: int | None = None
    checkpoint: int | None = None  # newest stamped step
    job_id: str | None = None
    attempt: Attempt | None = None  # the one that the state is of
    elapsed_s: float | None = None  # at work, all attempts together
    num_gpus: int | None = None
    usd_per_gpu_hour: float = 0.0
    slurm_conf: str | None = None

    @property
    def is_active(self) -> bool:
        """Whether a job or a process has it, or will have it without anybody's doing."""
        return self.state in ACTIVE

    @property
    def gpu_hours(self) -> float | None:
        """What it has used so far."""
        if self.elapsed_s is None or self.num_gpus is None:
            return None
        return self.elapsed_s / 3600 * self.num_gpus


def needs_submission(state: State) -> bool:
    """Whether the same command submits such a point again. Blocked and unchosen ones: once their parents allow it."""
    return state in AGAIN


@dataclass
class Memory:
    """What need not be read or asked again while one process watches a sweep."""

    curves: Curves = field(default_factory=Curves)
    ask: Callable[[str | None, Collection[str]], Answer] = field(default_factory=BulkAsker)
    ask_driver: Callable[[str | None, Collection[str]], Answer] = field(default_factory=BulkAsker)
    done: dict[Run, tuple[int, PointState]] = field(default_factory=dict)  # with the time of its folder of attempts


@dataclass(frozen=True)
class _Seen:
    """The files of one point."""

    point: RecordedPoint
    attempts: list[Attempt] = field(default_factory=list)
    attempt: Attempt | None = None  # the newest that was started
    past: Past | None = None  # of that one
    holder: Holder | None = None
    is_newer_frozen: bool = False  # an attempt after it was frozen and not started
    problem: str | None = None
    changed: int | None = None  # see `_changed`, before anything was read
    machines: Machines = field(default_factory=Machines)

    @property
    def asks_for(self) -> str | None:
        """The job whose state decides; None where the files alone do."""
        past = self.past
        if past is None or past.job_id is None:
            return None
        # What ended for good, and what SLURM was not told to start again, stays as it is.
        over = bool(past.outcome) and past.state in ("done", "failed", "stopped")
        return None if over and past.outcome.get("requeue") is not True else past.job_id


def read_states(sweep: SweepDirectory, record: Record, memory: Memory | None = None) -> list[PointState]:
    """All points in the order of the record. Nothing of it raises: what can't be read or asked is said in a remark.

    Costs a few small files a point and one question to each SLURM. `memory` makes a second look cheaper.
    """
    memory = memory or Memory()
    now = now_of(sweep.path)
    known = {run_of(point): state for point in record.points if (state := _remembered(sweep, point, memory))}
    seen = [_look(sweep, point, now) for point in record.points if run_of(point) not in known]
    answers = _ask(seen, memory)
    for one in seen:
        state = known[run_of(one.point)] = _state(sweep, record, one, answers, memory, now)
        if state.state == "done" and one.past is not None and one.past.outcome and one.changed is not None:
            memory.done[run_of(one.point)] = (one.changed, state)
    states = _after_parents([known[run_of(point)] for point in record.points], record)
    return _of_cut_off_arrays(states, sweep)


def _remembered(sweep: SweepDirectory, point: RecordedPoint, memory: Memory) -> PointState | None:
    """What was seen of a point that is done, unless it was started again since."""
    found = memory.done.get(run_of(point))
    if found is None or found[0] != _changed(sweep.run(point)):
        return None
    return replace(found[1], point=point)


def _changed(run: RunDirectory) -> int | None:
    """When an attempt was added last, in nanoseconds."""
    try:
        return (run.path / "attempts").stat().st_mtime_ns
    except OSError:
        return None


def _look(sweep: SweepDirectory, point: RecordedPoint, now: float) -> _Seen:
    run = sweep.run(point)
    changed = _changed(run)
    try:
        attempts = run.attempts
    except OSError as error:
        return _Seen(point, problem=f"{run.path} can't be read: {error.strerror or error}")
    if not attempts:
        return _Seen(point)
    holder, taken = read_holder(run, now), integer(read_object(run.lease).get("attempt"))
    is_newer_frozen = False
    for attempt in reversed(attempts):
        if not (attempt.path / f"{FROZEN_CONFIG}.sha256").exists():
            continue  # somebody is freezing it, or was killed while he did
        past = read_past(attempt, _TAIL_BYTES)
        if _was_started(past, attempt, taken):
            machines = read_machines(attempt)
            return _Seen(point, attempts, attempt, past, holder, is_newer_frozen, changed=changed, machines=machines)
        is_newer_frozen = True
    return _Seen(point, attempts, holder=holder, is_newer_frozen=is_newer_frozen, machines=read_machines(attempts[-1]))


def _was_started(past: Past, attempt: Attempt, taken: int | None) -> bool:
    """Whether a job was submitted for an attempt, or a process took it."""
    return bool(past.job_id is not None or past.status or past.outcome or past.records or taken == attempt.number)


def _ask(seen: Sequence[_Seen], memory: Memory) -> dict[str | None, Answer]:
    jobs: dict[str | None, list[str]] = {}
    for one in seen:
        if one.asks_for is not None:
            jobs.setdefault(one.machines.slurm_conf, []).append(one.asks_for)
    return {conf: memory.ask(conf, ids) for conf, ids in jobs.items()}


def _state(
    sweep: SweepDirectory,
    record: Record,
    seen: _Seen,
    answers: dict[str | None, Answer],
    memory: Memory,
    now: float,
) -> PointState:
    point, run = seen.point, sweep.run(seen.point)
    state, remark = _verdict(seen, answers)
    if not seen.attempts:
        return PointState(point, state, remark, num_steps=point.num_steps)
    curve = memory.curves.read([attempt.metrics for attempt in seen.attempts], record.metric)
    at = best_step(curve, record.direction)
    last_step = max(curve, default=None)
    past = seen.past
    return PointState(
        point=point,
        state=state,
        remark=remark,
        step=past.last_step if past is not None else 0,
        num_steps=point.num_steps,
        loss=_loss(seen),
        best=None if at is None else curve[at],
        best_step=at,
        last=None if last_step is None else curve[last_step],
        last_step=last_step,
        checkpoint=_checkpoint(run),
        job_id=past.job_id if past is not None else None,
        attempt=seen.attempt,
        elapsed_s=_elapsed(seen, state, now),
        num_gpus=seen.machines.num_gpus,
        usd_per_gpu_hour=seen.machines.usd_per_gpu_hour,
        slurm_conf=seen.machines.slurm_conf,
    )


def _verdict(seen: _Seen, answers: dict[str | None, Answer]) -> tuple[State, str | None]:
    if seen.problem is not None:
        return "missing", seen.problem
    if seen.past is None:
        alive = seen.holder is not None and seen.holder.alive
        if alive:
            return "starting", "it is being frozen"
        return ("frozen", "frozen, and not submitted or started") if seen.is_newer_frozen else ("missing", None)
    word, remark = _of_attempt(seen, seen.past, answers)
    state = _as_state(word)
    if seen.is_newer_frozen and state != "done" and state not in ACTIVE:
        return "frozen", f"frozen again, and not started; before that {state}"
    return state, remark


def _of_attempt(seen: _Seen, past: Past, answers: dict[str | None, Answer]) -> tuple[str, str | None]:
    if past.job_id is None:
        return local_state([past], seen.machines.kind, seen.holder)
    asked = seen.asks_for
    if asked is None:
        return job_state(past, None)
    answer = answers[seen.machines.slurm_conf]
    if isinstance(answer, SchedulerError):
        return unasked_state(past, seen.holder)
    job = answer.get(asked)
    word, remark = job_state(past, job)
    if remark is None and word == "pending" and job is not None:
        remark = reason(job.state, job.reason)
    if word == "gone" and past.began is None and seen.attempt is not None and not _has_output(seen.attempt, asked):
        # SLURM forgets at once a task of an array that is cancelled before it begins.
        return "cancelled", "the job was cancelled before it began: SLURM has it no more, and it left no output"
    return word, remark


def _has_output(attempt: Attempt, job_id: str) -> bool:
    """Whether the batch script of a task of an array ever began; a job that is none is never forgotten so early."""
    return "_" not in job_id or any(attempt.batch_output.glob(f"{job_id}_*"))


def _as_state(word: str) -> State:
    """A word of monitor as one of ours: `empty` is said of a run without attempts, which does not come here."""
    return next((state for state in STATES if state == word), "gone")


def _loss(seen: _Seen) -> float | None:
    trained = seen.past.trained() if seen.past is not None else []
    for attempt in reversed(seen.attempts):
        if trained:
            return number(trained[-1].get("loss"))
        trained = [each for each in newest_records(attempt.metrics, _TAIL_BYTES) if each.get("kind") == "train"]
    return number(trained[-1].get("loss")) if trained else None


def _checkpoint(run: RunDirectory) -> int | None:
    try:
        return max(stamped_steps(run.checkpoints), default=None)
    except OSError:
        return None


def _elapsed(seen: _Seen, state: State, now: float) -> float | None:
    """Seconds that machines were held, by what the attempts noted of their begin and their end."""
    parts = []
    for attempt in seen.attempts:
        is_newest = attempt == seen.attempt
        began = _began(attempt, seen.past if is_newest else None)
        if began is None:
            continue
        if is_newest and state in _AT_WORK:
            ended: float | None = now
        else:
            ended = written_at(attempt.outcome) or written_at(attempt.status) or written_at(attempt.metrics)
        if ended is not None:
            parts.append(max(0.0, ended - began))
    return sum(parts) if parts else None


def _began(attempt: Attempt, past: Past | None) -> float | None:
    job = read_object(attempt.job)
    iso = text(job.get("began"))
    if iso is not None:
        return _seconds(iso)
    if attempt.submitted.exists():
        return None  # its job has not begun
    # A local one starts as soon as it is frozen.
    if past is None and written_at(attempt.outcome) is None and written_at(attempt.status) is None:
        return None
    return written_at(attempt.path / f"{FROZEN_CONFIG}.sha256")


def _seconds(iso: str) -> float | None:
    try:
        moment = datetime.fromisoformat(iso)
    except ValueError:
        return None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()


def _of_cut_off_arrays(states: list[PointState], sweep: SweepDirectory) -> list[PointState]:
    """Says of frozen points whose submitter was killed that SLURM may have them all the same."""
    arrays = {attempt: name for name, attempts in cut_off(sweep).items() for attempt in attempts}
    if not arrays:
        return states
    found = []
    for each in states:
        newest = sweep.run(each.point).attempts[-1:] if each.state == "frozen" else []
        name = arrays.get(str(newest[0].path)) if newest else None
        told = f"its array {name} was being submitted when the submitter ended; the same command again finds out"
        found.append(each if name is None else replace(each, remark=told))
    return found


def cut_off(sweep: SweepDirectory) -> dict[str, list[str]]:
    """Arrays that were being submitted when their submitter ended, or are being submitted now: attempts by name."""
    found: dict[str, list[str]] = {}
    for folder in sweep.arrays:
        document = read_object(folder / ARRAY)
        name, tasks = text(document.get("name")), document.get("tasks")
        if document.get("state") == "submitting" and name is not None and isinstance(tasks, list):
            found[name] = [str(task.get("attempt")) for task in tasks if isinstance(task, dict)]
    return found


# ---------------------------------------------------------------- stages


def _after_parents(states: list[PointState], record: Record) -> list[PointState]:
    """What was not submitted may be so because of its parent."""
    by_run = {run_of(each.point): each for each in states}
    choices: dict[tuple[str | None, int], tuple[list[Run] | None, str]] = {}
    found = []
    for each in states:
        point = each.point
        if each.state not in ("missing", "frozen") or point.parent is None:
            found.append(each)
            continue
        parent = by_run.get((point.parent.name, point.parent.run_id))
        if point.num_best is not None:
            key = (point.stage, point.num_best)
            if key not in choices:
                choices[key] = _choice(by_run, record, point, point.num_best)
            chosen, why = choices[key]
            if chosen is None or parent_of(point) not in chosen:
                found.append(replace(each, state="unchosen", remark=why))
                continue
        if parent is not None and parent.state != "done":
            told = f"its parent {point.parent.run_id} is {parent.state}"
            found.append(replace(each, state="blocked", remark=told))
            continue
        found.append(each)
    return found


def _choice(
    by_run: dict[Run, PointState], record: Record, point: RecordedPoint, num_best: int
) -> tuple[list[Run] | None, str]:
    """The parents that a stage goes on with, or None and why that is not known yet."""
    rivals = parents_of(record.points, point)
    known = [by_run[run] for run in rivals if run in by_run]
    ended = [each for each in known if each.state in ENDED]
    if len(ended) < len(known):
        some = "the best" if num_best == 1 else f"the {num_best} best"
        why = f"known once all parents have ended: {len(ended)} of {len(known)} have, {some} go on"
        return None, why
    done = [each for each in known if each.state == "done"]
    chosen = [run_of(each.point) for each in best(done, record, num_best)]
    return chosen, f"its parent is not among the best {num_best}"
