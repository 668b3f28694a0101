"""How each point of a sweep is: from the files of its run, and from one question to each SLURM that has its job."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from mmhydra.files import read_object
from mmhydra.monitor.history import Past
from mmhydra.monitor.reading import now_of, number, text
from mmhydra.monitor.verdict import job_state, local_state, unasked_state
from mmhydra.monitor.words import reason
from mmhydra.paths import short
from mmhydra.run.directory import Attempt
from mmhydra.slurm import SchedulerError
from mmhydra.sweep.record import ARRAY_RECORD, ARRAY_SCRIPT, Record, RecordedPoint, SweepDirectory
from mmhydra.sweep.state.asking import Answer, BulkAsker
from mmhydra.sweep.state.best import Run, run_of
from mmhydra.sweep.state.curves import Curves, best_step
from mmhydra.sweep.state.look import Evidence, Kept, Seen, is_unchanged, look
from mmhydra.sweep.state.parents import waiting

Answers = Mapping[str | None, Answer]  # by the configuration file of each SLURM
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
AGAIN: tuple[State, ...] = ("missing", "frozen", "failed", "preempted", "gone", "cancelled")
LATER: tuple[State, ...] = ("blocked", "unchosen")  # not submitted, because of their parents
_THREADS = 32  # a file server answers many at once, and each only after a while
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


def counts_of(points: Iterable[PointState], order: Sequence[State] = STATES) -> dict[State, int]:
    """Points by state in an order of states, those that there are."""
    found = Counter(each.state for each in points)
    return {state: found[state] for state in order if found[state]}


def counts_in_words(points: Iterable[PointState], order: Sequence[State] = STATES) -> str:
    """`3 done, 1 failed`."""
    return ", ".join(f"{many:,} {state}" for state, many in counts_of(points, order).items())


@dataclass
class Memory:
    """What need not be read or asked again while one process watches a sweep."""

    curves: Curves = field(default_factory=Curves)
    ask: Callable[[str | None, Collection[str]], Answer] = field(default_factory=BulkAsker)
    ask_driver: Callable[[str | None, Collection[str]], Answer] = field(default_factory=BulkAsker)
    kept: Kept = field(default_factory=Kept)
    settled: dict[Run, tuple[Evidence, PointState]] = field(default_factory=dict)  # points that are over


def read_states(sweep: SweepDirectory, record: Record, memory: Memory | None = None) -> list[PointState]:
    """All points in the order of the record. Nothing of it raises: what can't be read or asked is said in a remark.

    Costs a few small files a point, those of many points at once, and one question to each SLURM. With the same
    `memory` a second look asks of a point that is over only whether two files are as they were.
    """
    memory = memory or Memory()
    now = now_of(sweep.path)
    points = {run_of(point): point for point in record.points}

    def remembered(run: Run) -> PointState | None:
        return _remembered(sweep, points[run], memory)

    def look_at(run: Run) -> Seen:
        return look(sweep.run(points[run]), record.metric, now, memory.curves, memory.kept)

    with ThreadPoolExecutor(_THREADS) as pool:
        known = {run: state for run, state in zip(points, pool.map(remembered, points), strict=True) if state}
        fresh = [run for run in points if run not in known]
        seen = dict(zip(fresh, pool.map(look_at, fresh), strict=True))
        answers = _ask(seen.values(), memory)
        # A job that ended between the two questions has said by now how.
        silent = [run for run, one in seen.items() if _is_silent(one, answers)]
        for run, again in zip(silent, pool.map(look_at, silent), strict=True):
            if again.asks_for in (None, seen[run].asks_for):
                seen[run] = again
    for run, one in seen.items():
        state = known[run] = _state(points[run], record, one, answers, now)
        if one.evidence is not None and one.attempt is not None:
            memory.settled[run] = (one.evidence, state)
    states = [replace(known[run_of(point)], point=point) for point in record.points]
    return _of_cut_off_arrays(_after_parents(states, record), sweep)


def _remembered(sweep: SweepDirectory, point: RecordedPoint, memory: Memory) -> PointState | None:
    """What was seen of a point that is over, unless it was started again since."""
    evidence, state = memory.settled.get(run_of(point), (None, None))
    if evidence is None or state is None or state.attempt is None:
        return None
    return state if is_unchanged(sweep.run(point), state.attempt, evidence) else None


def _ask(seen: Collection[Seen], memory: Memory) -> Answers:
    jobs: dict[str | None, list[str]] = {}
    for one in seen:
        if one.asks_for is not None:
            jobs.setdefault(one.machines.slurm_conf, []).append(one.asks_for)
    return {conf: memory.ask(conf, ids) for conf, ids in jobs.items()}


def _is_silent(seen: Seen, answers: Answers) -> bool:
    """Whether a job is over by what SLURM says, and not by what the files said before that."""
    job_id = seen.asks_for
    answer = answers[seen.machines.slurm_conf] if job_id is not None else {}
    if job_id is None or isinstance(answer, SchedulerError):
        return False
    job = answer.get(job_id)
    return job is None or not job.is_active


def _state(point: RecordedPoint, record: Record, seen: Seen, answers: Answers, now: float) -> PointState:
    state, remark = _verdict(point, seen, answers)
    past, curve = seen.past, seen.curve
    if past is None:
        return PointState(point, state, remark, num_steps=point.num_steps)
    at, last_step = best_step(curve, record.direction), max(curve, default=None)
    return PointState(
        point=point,
        state=state,
        remark=remark,
        step=past.last_step,
        num_steps=point.num_steps,
        loss=number(seen.trained.get("loss")),
        best=None if at is None else curve[at],
        best_step=at,
        last=None if last_step is None else curve[last_step],
        last_step=last_step,
        checkpoint=seen.checkpoint,
        job_id=past.job_id,
        attempt=seen.attempt,
        elapsed_s=_elapsed(seen, state, now),
        num_gpus=seen.machines.num_gpus,
        usd_per_gpu_hour=seen.machines.usd_per_gpu_hour,
        slurm_conf=seen.machines.slurm_conf,
    )


def _elapsed(seen: Seen, state: State, now: float) -> float | None:
    """Seconds that machines were held, by what the attempts noted of their begin and their end."""
    ended = now if state in _AT_WORK else seen.ended
    if seen.began is None or ended is None:
        return seen.held_s
    return (seen.held_s or 0.0) + max(0.0, ended - seen.began)


def _after_parents(states: list[PointState], record: Record) -> list[PointState]:
    """What was not submitted may be so because of its parent."""
    found = waiting(states, record)
    return [
        each if waits is None else replace(each, state=waits[0], remark=waits[1])
        for each in states
        for waits in [found.get(run_of(each.point))]
    ]


def _verdict(point: RecordedPoint, seen: Seen, answers: Answers) -> tuple[State, str | None]:
    if seen.problem is not None:
        return "missing", seen.problem
    if seen.past is None:
        alive = seen.holder is not None and seen.holder.alive
        if alive:
            return "starting", "it is being frozen"
        return ("frozen", "frozen, and not submitted or started") if seen.is_newer_frozen else ("missing", None)
    word, remark = _of_attempt(point, seen, seen.past, answers)
    state = _as_state(word)
    if seen.is_newer_frozen and state != "done" and state not in ACTIVE:
        return "frozen", f"frozen again, and not started; before that {state}"
    return state, remark


def _of_attempt(point: RecordedPoint, seen: Seen, past: Past, answers: Answers) -> tuple[str, str | None]:
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
    if word == "pending" and job is not None and job.will_never_start and point.parent is not None:
        return "cancelled", "its parent's job failed, and SLURM is about to cancel this one"
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


def _of_cut_off_arrays(states: list[PointState], sweep: SweepDirectory) -> list[PointState]:
    """Says of frozen points whose submitter was killed that SLURM may have them all the same."""
    arrays = _unnoted(sweep)
    if not arrays:
        return states
    found = []
    for each in states:
        newest = sweep.run(each.point).attempts[-1:] if each.state == "frozen" else []
        told = arrays.get(str(newest[0].path)) if newest else None
        found.append(each if told is None else replace(each, remark=told))
    return found


def _unnoted(sweep: SweepDirectory) -> dict[str, str]:
    """What is known of attempts in arrays of which nobody noted that they were submitted."""
    found: dict[str, str] = {}
    for folder in sweep.arrays:
        document = read_object(folder / ARRAY_RECORD)
        name, tasks = text(document.get("name")), document.get("tasks")
        if document.get("state") != "submitting" or name is None or not isinstance(tasks, list):
            continue
        told = f"its array {name} was being submitted when the submitter ended; the same command again finds out"
        if document.get("by_hand") is True:
            told = f"left to you: {short(folder / ARRAY_SCRIPT)}; once it is submitted the same command finds its job"
        found |= {str(task.get("attempt")): told for task in tasks if isinstance(task, dict)}
    return found
