"""Several runs as one SLURM job array: one script, and a line of tasks.tsv for each task.

A submitter may be killed at any moment, or not hear what sbatch did. So an array has a name that no other has, is
written down before sbatch is called, and is looked for by that name afterwards. If it was submitted twice all the same,
the tasks of one of the two end at once (`claimed`). An attempt is a task of one array: that of the first to claim it
(`Attempt.array`), until that array is given up.
"""

import hashlib
import json
import re
import shlex
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from submitit.core.utils import DelayedSubmission
from submitit.slurm.slurm import SlurmExecutor

from mmhydra.config.schema import RunConfig
from mmhydra.errors import ExitCode, UserError
from mmhydra.files import read_object, write_atomic, write_json
from mmhydra.hostlist import ranges
from mmhydra.job.begin import CLAIMED, is_same_folder, owner_of
from mmhydra.job.bridge import Bridge
from mmhydra.launch.batch import BRIDGE, BatchJob, Subject
from mmhydra.launch.slurm import (
    NOT_SUBMITTED,
    REFUSALS,
    SubmissionError,
    as_configured,
    executor_of,
    script_of,
    what_sbatch_said,
)
from mmhydra.run.claim import claim
from mmhydra.run.directory import Attempt, RunDirectory
from mmhydra.run.lease import HeldError
from mmhydra.run.outcome import conclude
from mmhydra.slurm.scheduler import Scheduler, SchedulerError
from mmhydra.sweep.record import ARRAY_RECORD, ARRAY_SCRIPT
from mmhydra.sweep.state.asking import named_jobs

TASKS = "tasks.tsv"
_VERSION = 1
_WRITERS = 16
_JOB_LIMIT = re.compile(r"SubmitJobs?\w*Limit|job submit limit", re.IGNORECASE)  # of an account, or of its QOS
_NOBODY = "nobody"  # has the runs of an array that was given up

# empty: not written to the end, so sbatch was not called. refused: sbatch did not take it, its attempts are concluded.
# Of a refused or dropped one no task will ever run, should it turn up.
ArrayState = Literal["empty", "submitting", "submitted", "refused", "dropped"]


class ArrayError(UserError):
    """An array that can't be written, or a folder that is none."""


@dataclass(frozen=True)
class ArrayJob:
    """Attempts that ask for the same (`resource_class`), one a task.

    `folder` is the array's own. `name` is SLURM's name of the job and must be unique: by it a submission is found
    whose submitter was killed. `indices` are the task ids, ascending, each below MaxArraySize. `dependency` (such as
    aftercorr:123) comes to what the cluster says.
    """

    folder: Path
    name: str
    jobs: tuple[BatchJob, ...]
    indices: tuple[int, ...]
    dependency: str | None = None

    def __post_init__(self) -> None:
        assert self.jobs, "an array has a task"
        assert len(self.jobs) == len(self.indices), "one task a job"
        assert self.indices == tuple(sorted(set(self.indices))), "ascending, each once"

    @property
    def subject(self) -> Subject:
        """What the script says of all tasks."""
        slurm = self.jobs[0].slurm
        limit = "" if slurm.array_parallelism is None else f"%{slurm.array_parallelism}"
        options: dict[str, Any] = {"array": f"{ranges(self.indices)}{limit}"}
        if self.dependency is not None:
            options["kill-on-invalid-dep"] = "yes"  # else a task whose parent failed waits for ever
        tasks = shlex.quote(str(self.folder / TASKS))
        return Subject(
            name=self.name,
            comment=" ".join(filter(None, [slurm.comment, f"mmhydra array={self.name}"])),
            working_dir=self.folder,
            folder=self.folder,
            first=(
                f"# Array {self.name}: each task is a run; its config, code and data are frozen, nothing else is read",
                "MMHYDRA_JOB=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID",
                f"MMHYDRA_FOLDER={shlex.quote(str(self.folder))}",
                f"tasks={tasks}",
                "IFS=$'\\t' read -r _ MMHYDRA_SUBMITTED_ATTEMPT MMHYDRA_CODE MMHYDRA_COMMENT < <(",
                '    grep --text --max-count=1 "^$SLURM_ARRAY_TASK_ID"$\'\\t\' "$tasks"',
                f') || {{ echo "error: $tasks has no task $SLURM_ARRAY_TASK_ID" >&2; exit {int(ExitCode.CONFIG)}; }}',
                'cd "${MMHYDRA_SUBMITTED_ATTEMPT%/attempts/*}" || exit',
            ),
            once_begun=(
                '[ -n "$MMHYDRA_ATTEMPT" ] || exit 0 # another array has these runs',
                'scontrol update JobId="$MMHYDRA_JOB" Comment="$MMHYDRA_COMMENT" ||',
                '    echo "note: SLURM does not take the comment of this task: $MMHYDRA_COMMENT" >&2',
            ),
            dependency=",".join(filter(None, [slurm.dependency, self.dependency])) or None,
            options=options,
        )


def max_array_size(config: RunConfig) -> int:
    """Task ids of an array are below it: what the config's cluster says, or else SLURM. SchedulerError if neither."""
    slurm = config.cluster.slurm
    assert slurm is not None
    return Scheduler(slurm.slurm_conf).max_array_size() if slurm.max_array_size is None else slurm.max_array_size


def resource_class(job: BatchJob) -> str:
    """12 hex digits, equal for jobs that may share an array: what sbatch and the script say but for the run."""
    slurm = job.slurm
    nobody = Subject(name="", comment=slurm.comment or "", working_dir=Path(), folder=Path(), first=())
    cluster = [job.config.cluster.name, slurm.slurm_conf, slurm.array_parallelism, slurm.max_array_size]
    document = [*cluster, slurm.dependency, job.python, job.parameters(nobody)]
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:12]


def write_array(array: ArrayJob, *, by_hand: bool = False) -> None:
    """Claims the attempts and writes all that sbatch and the tasks need, in place of what is there of an earlier try.

    `by_hand` notes that a person is to submit it. Raises ArrayError, and SubmissionError for an attempt that another
    array has: this one is then given up.
    """
    first = array.jobs[0]
    rows = []
    for index, job in zip(array.indices, array.jobs, strict=True):
        row = (str(index), str(job.attempt_path), str(job.snapshot.path), job.comment)
        odd = [text for text in row if not text or "\t" in text or "\n" in text]
        if odd:
            raise ArrayError(f"{odd[0]!r} can't stand in {TASKS}: it has a tab or a line break in it; use another path")
        rows.append("\t".join(row))
    tasks = [
        {"index": index, "attempt": str(job.attempt_path)} for index, job in zip(array.indices, array.jobs, strict=True)
    ]
    document = {
        "schema_version": _VERSION,
        "state": "submitting",
        "name": array.name,
        "job_id": None,
        "cluster": first.config.cluster.name,
        "slurm_conf": first.slurm.slurm_conf,
        "dependency": array.dependency,
        "by_hand": by_hand,
        "written": datetime.now(UTC).isoformat(),
        "tasks": tasks,
    }
    try:
        array.folder.mkdir(parents=True, exist_ok=True)
        _claim_attempts(array)
        write_atomic(array.folder / TASKS, "".join(f"{row}\n" for row in rows).encode())
        DelayedSubmission(Bridge(None)).dump(array.folder / BRIDGE)
        write_atomic(array.folder / ARRAY_SCRIPT, f"{script_of(executor_of_array(array)).rstrip()}\n".encode())
        write_json(array.folder / ARRAY_RECORD, document)  # last: from here on sbatch may be called
    except OSError as error:
        raise ArrayError(f"the array can't be written to {array.folder}: {error}") from error


def submit_array(array: ArrayJob) -> str:
    """Submits an array and notes its job in each attempt; returns the id that SLURM gave it, the first time or before.

    Raises SubmissionError with what sbatch said: the attempts are then concluded as not submitted. Where nobody can
    tell whether sbatch took it, they are left alone, for `adopt_array`.
    """
    state = array_state(array.folder)
    if state == "submitted":
        return str(_read(array.folder)["job_id"])
    if _is_given_up(array.folder):
        raise _given_up(array.folder)
    if state != "submitting":
        write_array(array)
    first = array.jobs[0]
    executor = executor_of_array(array)
    try:
        with as_configured(first):
            submitted = executor._submit_command(executor._submitit_command_str)
        job_ids = [str(submitted.job_id)]
    except REFUSALS as error:
        job_ids = _taken_all_the_same(array, _refusal(array, what_sbatch_said(error, first)), error)
    owner = _settle(array.folder, job_ids)
    if owner is None:
        raise _given_up(array.folder)
    return owner


def adopt_array(folder: Path) -> str | None:
    """The job of an array whose submitter was killed; what that one left undone is done.

    None if SLURM has no such job. Where `array_state` is `submitting`, `submit_array` then submits it again, or
    `drop_array` gives it up. Raises SchedulerError if SLURM can't be asked, and ArrayError for a record that can't be
    read.
    """
    document = _read(folder)
    if document.get("state") == "submitted":
        return str(document["job_id"])
    if document.get("state") != "submitting":
        return None
    job_ids = _known(folder, document) or _named(document)
    return _settle(folder, job_ids) if job_ids else None


def drop_array(folder: Path) -> str | None:
    """Gives up an array that SLURM does not know, or got no word of: should it turn up, none of its tasks runs.

    Other arrays may have its attempts then. Returns the job all the same if a task of it was quicker. Raises OSError,
    and ArrayError for a record that can't be read.
    """
    document = _read(folder)
    if _state(document) in ("empty", "submitting"):
        owner = claim(folder / CLAIMED, _NOBODY)
        if owner != _NOBODY:
            return _settle(folder, [owner])
        write_json(folder / ARRAY_RECORD, {**document, "state": "dropped"})
    return None


def array_state(folder: Path) -> ArrayState:
    """How far an array has come. Raises ArrayError for a record that can't be read: `empty` would give it up."""
    return _state(_read(folder))


def _read(folder: Path) -> dict[str, Any]:
    """The record of an array; empty if there is none yet. Raises ArrayError."""
    path = folder / ARRAY_RECORD
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ArrayError(
            f"{path} can't be read ({error}), so nobody knows whether SLURM has its tasks; mend it, or once "
            f"`squeue --name` shows none of them, remove {folder}"
        ) from error
    return document if isinstance(document, dict) else {}


def _state(document: dict[str, Any]) -> ArrayState:
    said = document.get("state")
    state: ArrayState
    for state in get_args(ArrayState):
        if said == state:
            return state
    return "empty"


@dataclass
class FinalStates:
    """`array_state` for a look at many runs: a record that does not change any more is read once, not once a run."""

    _known: dict[Path, ArrayState] = field(default_factory=dict)

    def __call__(self, folder: Path) -> ArrayState:
        """As `array_state`."""
        if folder in self._known:
            return self._known[folder]
        state = array_state(folder)
        if state in ("submitted", "refused", "dropped"):
            self._known[folder] = state
        return state


def require_no_array(run: RunDirectory, state_of: Callable[[Path], ArrayState] = array_state) -> None:
    """Raises HeldError for a run in an array that somebody is about to submit, or has submitted and not yet noted.

    For whoever holds the lease of the run. `state_of` as in `FinalStates`.
    """
    for attempt in run.attempts:
        folder = owner_of(attempt)
        if folder is not None and folder.is_dir() and state_of(folder) in ("empty", "submitting"):
            raise HeldError(
                f"the sweep {folder.parent.parent.name} is submitting the run {run.path} ({folder}); if its command "
                "was interrupted, or left that script to you and you won't submit it, type that command again"
            )


def is_free_again(attempt: Attempt, state_of: Callable[[Path], ArrayState] = array_state) -> bool:
    """Whether an array had the attempt, and none of its tasks will ever run. `state_of` as in `FinalStates`."""
    folder = owner_of(attempt)
    return folder is not None and (state_of(folder) in ("refused", "dropped") or not folder.is_dir())


def executor_of_array(array: ArrayJob) -> SlurmExecutor:
    """What makes and submits the script of an array."""
    executor = executor_of(array.jobs[0], array.subject)
    executor.parameters["map_count"] = len(array.jobs)  # submitit then names the output after array and task
    return executor


def _refusal(array: ArrayJob, told: str) -> str:
    """What sbatch said, and the cure where the array has more tasks than one may have in the queue."""
    num_tasks = len(array.jobs)
    if num_tasks == 1 or not _JOB_LIMIT.search(told):
        return told
    cluster = array.jobs[0].config.cluster.name
    return (
        f"{told}\neach of the {num_tasks:,} tasks of the array counts as a job; if so many are never taken, write a "
        f"smaller cluster.slurm.max_array_size into the study, or into conf/cluster/{cluster}.yaml"
    )


def _taken_all_the_same(array: ArrayJob, told: str, error: Exception) -> list[str]:
    """The jobs of an array that sbatch says it could not submit: a slow controller may have taken it."""
    document = _read(array.folder)
    try:
        job_ids = _known(array.folder, document) or _named(document)
    except SchedulerError as unasked:
        raise SubmissionError(
            f"{told}\nwhether SLURM has taken the array {array.name} can't be found out: {unasked}\n"
            "type the same command again: nothing is submitted twice"
        ) from error
    if job_ids:
        return job_ids
    owner = claim(array.folder / CLAIMED, _NOBODY)  # a slow controller may take it yet: then its tasks end
    if owner != _NOBODY:
        return [owner]
    for job in array.jobs:
        conclude(Attempt(job.attempt_path), ExitCode.CONFIG, told, requeue=False, reason=NOT_SUBMITTED)
    write_json(array.folder / ARRAY_RECORD, {**document, "state": "refused", "message": told})
    raise SubmissionError(told) from error


def _claim_attempts(array: ArrayJob) -> None:
    """Raises SubmissionError if another array was first at one of them."""

    def claimed(job: BatchJob) -> Path:
        return Path(claim(Attempt(job.attempt_path).array, str(array.folder)))

    with ThreadPoolExecutor(_WRITERS) as writers:
        owners = list(writers.map(claimed, array.jobs))
    for job, owner in zip(array.jobs, owners, strict=True):
        if not is_same_folder(owner, array.folder):
            drop_array(array.folder)
            raise SubmissionError(f"the run {job.run_path} is being submitted by another command, as a task of {owner}")


def _is_given_up(folder: Path) -> bool:
    """Also where whoever gave it up was killed before he wrote that down."""
    if array_state(folder) in ("refused", "dropped"):
        return True
    with suppress(OSError):
        return (folder / CLAIMED).read_text().strip() == _NOBODY
    return False


def _given_up(folder: Path) -> ArrayError:
    return ArrayError(f"{folder} was given up, none of its tasks would run; use another folder")


def _known(folder: Path, document: dict[str, Any]) -> list[str]:
    """The array's job, as a submitter or a task of it wrote it down."""
    known = document.get("job_id")
    if known is None:
        with suppress(OSError):
            known = (folder / CLAIMED).read_text().strip()
    return [str(known)] if known and known != _NOBODY else []


def _named(document: dict[str, Any]) -> list[str]:
    """Jobs of the array's name. Raises SchedulerError."""
    return named_jobs(_scheduler(document), document)


def _scheduler(document: dict[str, Any]) -> Scheduler:
    return Scheduler(document.get("slurm_conf"))


def _settle(folder: Path, job_ids: Sequence[str]) -> str | None:
    """Decides which of several jobs has the array's runs, and writes that down; None if the array was given up."""
    document = _read(folder)
    owner = claim(folder / CLAIMED, job_ids[0])
    for job_id in job_ids:
        if job_id != owner:
            with suppress(SchedulerError):  # its tasks end by themselves
                _scheduler(document).cancel(job_id)
    if owner == _NOBODY:
        write_json(folder / ARRAY_RECORD, {**document, "state": "dropped"})
        return None
    if document.get("job_id") != owner:
        document |= {"job_id": owner, "submitted": datetime.now(UTC).isoformat()}
        write_json(folder / ARRAY_RECORD, document)

    def note(task: dict[str, Any]) -> None:
        attempt, task_id = Attempt(Path(task["attempt"])), f"{owner}_{task['index']}"
        if read_object(attempt.submitted).get("job_id") != task_id:
            submitted = {
                "job_id": task_id,
                "cluster": document["cluster"],
                "submitted": document["submitted"],
                "script": str(folder / ARRAY_SCRIPT),
                "output": str(folder),
            }
            write_json(attempt.submitted, submitted)

    with ThreadPoolExecutor(_WRITERS) as writers:  # each waits for its disk
        list(writers.map(note, document["tasks"]))
    write_json(folder / ARRAY_RECORD, {**document, "state": "submitted"})
    return owner
