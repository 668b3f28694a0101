"""All that is known of a run: from its folder, and from SLURM if a job has it."""

import itertools
import statistics
import time
from dataclasses import dataclass, field
from typing import Any

from mmhydra.checkpoint.stamp import stamped_steps
from mmhydra.config.schema import RunConfig
from mmhydra.errors import ExitCode, UserError
from mmhydra.files import read_object
from mmhydra.monitor.history import Past, read_past
from mmhydra.monitor.holder import Holder, read_holder
from mmhydra.monitor.reading import newest_records, now_of, number, seconds, text, written_at
from mmhydra.monitor.verdict import job_state, local_state, unasked_state
from mmhydra.monitor.words import duration
from mmhydra.paths import short
from mmhydra.run.directory import Attempt, RunDirectory
from mmhydra.run.outcome import root_cause, tail
from mmhydra.slurm import JobState, Scheduler, SchedulerError

STALL_S = 60.0  # a run without a step for so long, and for so many times its usual pause, is told of
STALL_PAUSES = 10
_TOGETHER = (ExitCode.PREEMPTED, ExitCode.STOPPED)  # all ranks agreed to end, none failed
FINAL = ("done", "failed", "stopped", "preempted", "gone", "cancelled", "empty")


_WITHOUT_FAILURE = ("done", "running", "starting", "pending", "waiting", "ending")


@dataclass(frozen=True)
class Failure:
    """What a rank wrote before it ended."""

    rank: int | None  # None: the batch script
    message: str
    traceback: str | None


@dataclass(frozen=True)
class Facts:
    """A run at one moment."""

    run: RunDirectory
    config: RunConfig | None  # None if the frozen config can't be read
    attempts: list[Past]
    state: str  # pending, starting, running, ending, waiting, or one of FINAL
    remark: str | None  # what makes the state plain
    problems: list[str] = field(default_factory=list)  # what a person should know or mend
    job: JobState | None = None
    job_problem: str | None = None  # why SLURM could not be asked
    holder: Holder | None = None
    checkpoint: int | None = None  # newest stamped step
    failure: Failure | None = None
    preflight: dict[str, list[str]] = field(default_factory=dict)  # by node: what failed
    node_times: dict[str, Any] = field(default_factory=dict)  # the newest line of nodes.jsonl
    pause_s: float | None = None  # since the last step of a running attempt
    waits_s: float | None = None  # of a job that has not begun
    left_s: float | None = None  # of the allocation

    @property
    def newest(self) -> Past | None:
        """The attempt that counts."""
        return self.attempts[-1] if self.attempts else None

    @property
    def is_final(self) -> bool:
        """Whether nothing more happens until somebody starts it again."""
        return self.state in FINAL

    @property
    def last_train(self) -> dict[str, Any]:
        """The newest training record of any attempt."""
        return next((past.trained()[-1] for past in reversed(self.attempts) if past.trained()), {})

    @property
    def last_validation(self) -> dict[str, Any]:
        """The newest held-out record of any attempt."""
        return next(
            (past.trained("validation")[-1] for past in reversed(self.attempts) if past.trained("validation")), {}
        )

    @property
    def step(self) -> int:
        """The last step that the newest attempt knows of."""
        return self.newest.last_step if self.newest is not None else 0

    @property
    def num_steps(self) -> int | None:
        """Steps of the whole run."""
        return self.config.training.num_steps if self.config is not None else None

    @property
    def step_time_s(self) -> float | None:
        """Usual seconds a step, of the newest records."""
        times = [number(record.get("step_time_s")) for record in (self.newest.trained() if self.newest else [])[-50:]]
        known = [seconds for seconds in times if seconds is not None and seconds > 0]
        return statistics.median(known) if known else None

    @property
    def remaining_s(self) -> float | None:
        """Seconds of training that are left at that pace."""
        if self.step_time_s is None or self.num_steps is None:
            return None
        return max(0, self.num_steps - self.step) * self.step_time_s


def job_of(attempts: list[Past]) -> str | None:
    """The job that has the newest attempt, or will make the next one."""
    return attempts[-1].job_id if attempts else None


class Asker:
    """Asks SLURM of a run's job, at most once in `interval_s`: many watchers must not slow a controller down."""

    def __init__(self, interval_s: float = 0.0, timeout_s: float = 10.0) -> None:
        self._interval_s, self._timeout_s = interval_s, timeout_s
        self._asked: tuple[str, float, JobState | SchedulerError | None] | None = None

    def __call__(self, config: RunConfig | None, job_id: str) -> JobState | SchedulerError | None:
        """The job, None if SLURM does not know it, or why it can't be asked."""
        now = time.monotonic()
        if self._asked is None or self._asked[0] != job_id or now - self._asked[1] >= self._interval_s:
            self._asked = (job_id, now, self._ask(config, job_id))
        return self._asked[2]

    def _ask(self, config: RunConfig | None, job_id: str) -> JobState | SchedulerError | None:
        try:
            return scheduler_of(config, self._timeout_s).state(job_id)
        except SchedulerError as error:
            return error


def scheduler_of(config: RunConfig | None, timeout_s: float = 10.0) -> Scheduler:
    """The SLURM that the run was submitted to."""
    slurm = config.cluster.slurm if config is not None else None
    conf = slurm.slurm_conf if slurm is not None else None
    return Scheduler(conf, timeout_s)


def read_facts(run: RunDirectory, ask: Asker) -> Facts:
    """Reads the run's folder and asks SLURM. Nothing of it raises but for a folder that can't be listed (OSError)."""
    folders = run.attempts
    config, problems = _config(folders)
    now = now_of(run.path)
    attempts = [read_past(folder) for folder in folders]
    holder = read_holder(run, now)
    job_id = job_of(attempts)
    answer = ask(config, job_id) if job_id is not None else None
    job = answer if isinstance(answer, JobState) else None
    job_problem = str(answer) if isinstance(answer, SchedulerError) else None
    if job_id is None:
        state, remark = local_state(attempts, config.cluster.kind if config is not None else None, holder)
    elif job_problem is not None:
        state, remark = unasked_state(attempts[-1], holder)
    else:
        state, remark = job_state(attempts[-1], job)
    newest, folder = (attempts[-1], folders[-1]) if attempts else (None, None)
    pause_s = _pause(newest, folder, now) if state == "running" else None
    if newest is not None and pause_s is not None and pause_s > _tolerable(newest):
        problems.append(f"no step for {duration(pause_s)}")
    return Facts(
        run=run,
        config=config,
        attempts=attempts,
        state=state,
        remark=remark,
        problems=problems,
        job=job,
        job_problem=job_problem,
        holder=holder,
        checkpoint=max(_checkpoints(run), default=None),
        failure=_failure(folder, newest) if state not in _WITHOUT_FAILURE else None,
        preflight=_preflight(folder),
        node_times=(newest_records(folder.nodes, 64 * 1024) or [{}])[-1] if folder is not None else {},
        pause_s=pause_s,
        waits_s=_waits(attempts, folders, now) if state in ("pending", "waiting") else None,
        left_s=_left(newest, job) if state in ("running", "starting") else None,
    )


def _config(folders: list[Attempt]) -> tuple[RunConfig | None, list[str]]:
    if not folders:
        return None, []
    try:
        return folders[-1].read_frozen()[0], []
    except (UserError, OSError) as error:
        # An attempt that was claimed and not frozen; the config of the one before says as much of the run.
        for folder in reversed(folders[:-1]):
            try:
                return folder.read_frozen()[0], []
            except (UserError, OSError):
                continue
        return None, [str(error)]


def _checkpoints(run: RunDirectory) -> list[int]:
    try:
        return stamped_steps(run.checkpoints)
    except OSError:
        return []


def _pause(newest: Past | None, folder: Attempt | None, now: float) -> float | None:
    if newest is None or folder is None:
        return None
    last = written_at(folder.metrics) or written_at(folder.status)
    return None if last is None else max(0.0, now - last)


def _tolerable(newest: Past) -> float:
    """The longest usual silence: records come once in `log_interval` steps."""
    records = newest.trained()[-50:]
    times = [moment for record in records if (moment := seconds(record.get("timestamp"))) is not None]
    gaps = [after - before for before, after in itertools.pairwise(times)]
    usual = statistics.median(gaps) if gaps else number(records[-1].get("step_time_s")) if records else None
    return max(STALL_S, STALL_PAUSES * (usual or 0.0)) if records else 10 * STALL_S  # compiling takes minutes


def _waits(attempts: list[Past], folders: list[Attempt], now: float) -> float | None:
    newest, folder = attempts[-1], folders[-1]
    if newest.began is None:
        since = seconds(newest.submitted)
    else:
        since = written_at(folder.outcome) or written_at(folder.status)
    return None if since is None else max(0.0, now - since)


def _left(newest: Past | None, job: JobState | None) -> float | None:
    if job is not None:
        return job.time_left_s
    return max(0.0, newest.end_time - time.time()) if newest is not None and newest.end_time is not None else None


def _failure(folder: Attempt | None, newest: Past | None) -> Failure | None:
    """The rank that failed first; the others mostly failed because of it."""
    if folder is None or newest is None:
        return None
    status = newest.status
    try:
        first = root_cause(folder)
    except (OSError, TypeError):  # files of another version
        first = None
    if first is not None:
        traceback = first.traceback
        if first.exit_code in _TOGETHER and traceback is None:
            return None
        if traceback is None and status is not None and status.rank in (None, first.rank):
            traceback = status.traceback
        return Failure(first.rank, first.message, traceback)
    if status is not None and (status.traceback or status.rank is not None):
        return Failure(status.rank or 0, status.message, status.traceback)
    return _of_script(folder, newest)


def _of_script(folder: Attempt, newest: Past) -> Failure | None:
    """The last words of a batch script that ended before it could write anything into the attempt."""
    if newest.is_over or newest.job_id is None:
        return None
    log = folder.batch_output / f"{newest.job_id}_0_log.err"
    told = tail(log)
    return None if told is None else Failure(None, f"the batch script ended, see {short(log)}", told)


def _preflight(folder: Attempt | None) -> dict[str, list[str]]:
    if folder is None:
        return {}
    failed: dict[str, list[str]] = {}
    for path in sorted(folder.preflight.glob("*.json")):
        report = read_object(path)
        checks = report.get("checks")
        if report.get("ok") is False:
            rows = [check for check in checks if isinstance(check, dict)] if isinstance(checks, list) else []
            bad = [f"{row.get('name')}: {row.get('message')}" for row in rows if row.get("ok") is False]
            failed[text(report.get("node")) or path.stem] = bad or ["it failed and does not say why"]
    return failed
