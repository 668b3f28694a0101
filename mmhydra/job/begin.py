"""The start of a batch job, also of a requeued one: which attempt is this, and may there be one more."""

import os
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from mmhydra.checkpoint.stamp import stamped_steps
from mmhydra.errors import ExitCode, UserError
from mmhydra.files import read_object, write_json
from mmhydra.job.allocation import Allocation
from mmhydra.job.progress import attempts_without_progress
from mmhydra.run.claim import claim
from mmhydra.run.directory import Attempt, RunDirectory
from mmhydra.run.lease import STALE_S, JobLease
from mmhydra.run.outcome import code_of, conclude, ended_for_good

CLAIMED = "claimed"  # in the folder of an array: the id of the one that may run
# A job may start before the process that submitted it lets go of the run, or just after one that was cancelled and had
# no time to: whoever lives renews the lease meanwhile.
_PATIENCE_S = STALE_S + 5.0


class NoProgress(UserError):
    """The run failed too often at the same step. Exit code 1: it may be no fault of the config."""

    exit_code = ExitCode.FAILED


class AnotherArray(UserError):
    """The array was submitted twice, and its runs are the other one's. Exit code 0: nothing is wrong with this task."""

    exit_code = ExitCode.DONE


class EndedForGood(UserError):
    """The job ran again though it was not to."""

    def __init__(self, message: str, exit_code: ExitCode) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def begin(submitted: Attempt, allocation: Allocation) -> Attempt:
    """The attempt of this start: the submitted one the first time, then a new one with the same config and code.

    Writes job.json and takes the lease. Raises LeaseError if somebody else writes to the run, NoProgress if it
    failed too often, EndedForGood if there is nothing to go on with, AnotherArray if another array has its runs.
    """
    require_own_array(allocation)
    require_own_attempt(submitted, allocation)
    run = submitted.run
    attempt = submitted
    if submitted.job.exists() or run.attempts[-1].number != submitted.number:
        require_open_end(run, allocation)
        config, _ = submitted.read_frozen()
        slurm = config.cluster.slurm
        require_progress(run, slurm.max_attempts_without_progress if slurm is not None else 1)
        # First: who holds the run would take another attempt for its successor, and end.
        JobLease(run, allocation.job_id, submitted.number).require_free(_PATIENCE_S)
        attempt = _another(submitted)
    JobLease(run, allocation.job_id, attempt.number).take(_PATIENCE_S)
    document = {**asdict(allocation), "began": datetime.now(UTC).isoformat(), "step": newest_step(run)}
    write_json(attempt.job, document)
    return attempt


def require_own_array(allocation: Allocation) -> None:
    """Raises AnotherArray in a second array of the same runs: a submitter may not have learned of its first one."""
    if allocation.array is None or allocation.output is None:
        return
    file = Path(allocation.output) / CLAIMED
    owner = claim(file, allocation.array)
    if owner != allocation.array:
        raise AnotherArray(
            f"the runs of this array are those of array {owner} ({file}): this task ends, nothing is run"
        )


def require_own_attempt(submitted: Attempt, allocation: Allocation) -> None:
    """Raises AnotherArray if an attempt was given to another array, as one of another sweep that has the same run."""
    if allocation.array is None or allocation.output is None:
        return
    owner = owner_of(submitted)
    if owner is not None and not is_same_folder(owner, Path(allocation.output)):
        raise AnotherArray(f"{submitted.path} is a task of the array in {owner}: this task ends, nothing is run")


def owner_of(attempt: Attempt) -> Path | None:
    """The folder of the array that has an attempt; None if none has claimed it."""
    try:
        said = attempt.array.read_text().strip()
    except FileNotFoundError:
        return None
    return Path(said) if said else None


def is_same_folder(one: Path, other: Path) -> bool:
    """Whether two paths lead to one folder, which need not be there."""
    return os.path.realpath(one) == os.path.realpath(other)


def require_open_end(run: RunDirectory, allocation: Allocation) -> None:
    """Raises EndedForGood if this job said that it must not run again, and SLURM runs it again all the same."""
    last = run.attempts[-1]
    job, outcome = read_object(last.job), read_object(last.outcome)
    if job.get("job_id") == allocation.job_id and ended_for_good(last):
        code = code_of(int(outcome.get("exit_code", ExitCode.FAILED)))
        raise EndedForGood(f"attempt {last.number} ended for good: {outcome.get('message')}; start the run anew", code)


def require_progress(run: RunDirectory, most: int) -> None:
    """Raises NoProgress after `most` attempts in a row that saved nothing."""
    vain = attempts_without_progress(run)
    if vain < most:
        return
    told = "an attempt" if vain == 1 else f"{vain} attempts in a row"
    error = NoProgress(
        f"{told} ended at step {newest_step(run)} without a new checkpoint; look at why "
        f"(python -m mmhydra.status {run.path}), then start the run again"
    )
    last = run.attempts[-1]
    if not last.outcome.exists():  # its node took it along; this is the end of the run all the same
        conclude(last, ExitCode.FAILED, f"it ended without a word, maybe with its node; {error}", requeue=False)
    raise error


def newest_step(run: RunDirectory) -> int:
    """The step of the newest checkpoint, 0 if there is none."""
    steps = stamped_steps(run.checkpoints)
    return steps[-1] if steps else 0


def _another(before: Attempt) -> Attempt:
    """A new attempt with what another one was frozen with."""
    _, text = before.read_frozen()
    attempt = before.run.new_attempt()
    overrides = tuple((before.path / "overrides.txt").read_text().splitlines())
    provenance = {**before.provenance(), "attempt": attempt.number, "requeued_from": before.number}
    attempt.freeze(text, overrides, provenance, {patch.name: patch.read_bytes() for patch in before.patches})
    return attempt
