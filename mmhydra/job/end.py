"""The end of an attempt: what came of it, and whether the job runs again.

Decided after srun has returned, so no rank can prevent it.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmhydra.config.schema import RunConfig
from mmhydra.errors import ExitCode, UserError
from mmhydra.hostlist import expand
from mmhydra.job.allocation import Allocation
from mmhydra.job.bad_nodes import ExcludeFileError, exclude, exclude_file, excluded, faults, to_exclude
from mmhydra.job.progress import attempts_without_progress, excluded_by, nodes_of
from mmhydra.job.report import read_reports
from mmhydra.run.directory import Attempt
from mmhydra.run.lease import JobLease
from mmhydra.run.outcome import Failure, conclude, judge, root_cause, tail

# Nothing: the controller did not answer; then requeueing itself will tell. In any other state SLURM is ending the job
# by itself, after a cancel or the death of a node, and knows whether to run it again; the script must not ask for it.
_MAY_REQUEUE = ("RUNNING", "")


@dataclass(frozen=True)
class Verdict:
    """What the batch script does: exit with a code, or requeue the job, if need be without some nodes.

    `requeue` is None where SLURM decides.
    """

    code: ExitCode
    requeue: bool | None
    reason: str
    without: tuple[str, ...] = ()

    def __str__(self) -> str:
        """For `read` of a shell."""
        return f"{int(self.code)} {'requeue' if self.requeue else 'stop'} {','.join(self.without)}".rstrip()


def end(attempt: Attempt, returncode: int, allocation: Allocation, job_state: str = "RUNNING") -> Verdict:
    """Judges an attempt whose ranks have ended, and writes that down.

    `returncode` is srun's. It is the highest of the ranks, or of the signal that ended them: what the ranks said of
    themselves counts more. `job_state` is SLURM's: a job that is being cancelled does not run again.
    """
    try:
        config, _ = attempt.read_frozen()
    except UserError as error:  # it was edited: the ranks refused it as well
        if not attempt.path.is_dir():
            raise
        return _written(attempt, Verdict(ExitCode.CONFIG, False, "it would fail again"), str(error), allocation)
    if returncode == ExitCode.PREEMPTED and any(not report.ok for report in read_reports(attempt).values()):
        return end_of_preflight(attempt, allocation, job_state)  # a site whose srun ends all tasks with the first
    code, message = _judge(attempt, returncode, allocation)
    cause = root_cause(attempt)
    drained = nodes_of(attempt) if cause is not None and cause.order == "drain" else []
    verdict = _requeue(attempt, config, code, _kept_away(config, drained) if drained else ())
    if verdict.requeue and job_state not in _MAY_REQUEUE:
        verdict = Verdict(code, None, f"SLURM is ending the job ({job_state})")
    return _written(attempt, verdict, message, allocation)


def end_of_preflight(attempt: Attempt, allocation: Allocation, job_state: str = "RUNNING") -> Verdict:
    """Judges an attempt whose nodes failed their smoke test; keeps jobs away from those that are to blame."""
    try:
        config, _ = attempt.read_frozen()
    except UserError as error:
        return _written(attempt, Verdict(ExitCode.CONFIG, False, "it would fail again"), str(error), allocation)
    if job_state not in _MAY_REQUEUE:
        verdict = Verdict(ExitCode.FAILED, None, f"SLURM is ending the job ({job_state})")
        return _written(attempt, verdict, "the job was ended during the smoke test of its nodes", allocation)
    nodes = nodes_of(attempt)
    reports = read_reports(attempt)
    why = faults(nodes, reports)
    bad = to_exclude(nodes, reports)
    told = "\n".join(f"  {node}: {reason}" for node, reason in why.items())
    if not bad:
        message = f"the smoke test failed on {len(why)} of {len(nodes)} nodes, and no node is to blame:\n{told}"
        if len(why) == len(nodes) and reports:
            verdict = Verdict(ExitCode.CONFIG, False, "what failed is the same on all nodes")
        else:  # it may be over in a moment
            verdict = _requeue(attempt, config, ExitCode.FAILED)
    else:
        message = f"{len(bad)} of {len(nodes)} nodes failed the smoke test and are in {exclude_file(config)}:\n{told}"
        try:
            exclude(config, attempt, {node: why[node] for node in bad})
        except OSError as error:
            message += f"\n(not written to {exclude_file(config)}: {error})"
        before = [one for one in attempt.run.attempts if one.number < attempt.number]
        is_new = bool(set(bad) - set().union(*map(excluded_by, before)))
        verdict = _requeue(attempt, config, ExitCode.FAILED, _kept_away(config, bad), is_vain=not is_new)
    return _written(attempt, verdict, message, allocation, bad)


def _kept_away(config: RunConfig, bad: list[str]) -> tuple[str, ...]:
    """All nodes that the job must not get: SLURM replaces its list by this one."""
    slurm = config.cluster.slurm
    named = [name for text in slurm.exclude for name in expand(text)] if slurm is not None else []
    try:
        named += excluded(exclude_file(config))
    except ExcludeFileError as error:
        _say(f"warning: {error}")
    return tuple(dict.fromkeys([*named, *bad]))


def _judge(attempt: Attempt, returncode: int, allocation: Allocation) -> tuple[ExitCode, str]:
    if returncode == ExitCode.PREEMPTED and root_cause(attempt) is None:
        return ExitCode.PREEMPTED, "SLURM announced the end of the job before the ranks started"
    if returncode and root_cause(attempt) is None:
        # No rank came so far as to say anything, such as one that can't import; its task printed what happened.
        rank, told = _last_words(attempt, allocation)
        message = f"the tasks ended with exit code {returncode} before the ranks started; see {attempt.batch_output}"
        try:
            Failure(rank, 0.0, int(ExitCode.FAILED), message, told).write(attempt)
        except OSError as error:  # a full disk must not change the verdict
            _say(f"warning: {message}; it could not be written down: {error}")
    return judge(attempt, returncode)


def _last_words(attempt: Attempt, allocation: Allocation) -> tuple[int, str | None]:
    """The rank whose task left a traceback in submitit's log, or else anything, and the end of it.

    The logs go on over requeues, and rank 0's is the batch script's as well: what is before its last word is old.
    """
    found: dict[int, str] = {}
    for log in attempt.batch_output.glob(f"{allocation.job_id}_*_log.err"):
        rank = log.name.removeprefix(f"{allocation.job_id}_").removesuffix("_log.err")
        text = (tail(log) or "").rpartition("\nmmhydra: exit code ")[2]
        if rank.isdigit() and text:
            found[int(rank)] = text
    ordered = sorted(found, key=lambda rank: ("Traceback" not in found[rank], rank))
    return (ordered[0], found[ordered[0]]) if ordered else (0, None)


def _requeue(
    attempt: Attempt, config: RunConfig, code: ExitCode, without: tuple[str, ...] = (), *, is_vain: bool = True
) -> Verdict:
    slurm = config.cluster.slurm
    if code in (ExitCode.DONE, ExitCode.CONFIG, ExitCode.STOPPED):
        reasons = {ExitCode.DONE: "complete", ExitCode.CONFIG: "it would fail again", ExitCode.STOPPED: "stopped"}
        return Verdict(code, False, reasons[code])
    if attempt.run.attempts[-1].number != attempt.number:
        return Verdict(code, False, "a newer attempt has taken over this run")
    if slurm is None or not slurm.requeue:
        return Verdict(code, False, "cluster.slurm.requeue is false")
    vain, most = attempts_without_progress(attempt.run), slurm.max_attempts_without_progress
    if vain >= most and is_vain:
        told = "the attempt" if vain == 1 else f"{vain} attempts in a row"
        return Verdict(code, False, f"{told} saved no new checkpoint")
    if code is ExitCode.PREEMPTED and not vain:
        return Verdict(code, True, "preempted, a checkpoint is saved")
    told = f"{vain} of at most {most} attempts in a row without a new checkpoint" if vain else "it gets on"
    return Verdict(code, True, told, without)


def _written(
    attempt: Attempt, verdict: Verdict, message: str, allocation: Allocation, excluded: Sequence[str] = ()
) -> Verdict:
    more = {"requeue": verdict.requeue, "reason": verdict.reason, "excluded": list(excluded)}
    try:
        conclude(attempt, verdict.code, message, **more)
    except OSError as error:  # a full disk must not decide whether the job runs again
        _say(f"warning: {attempt.outcome} could not be written: {error}")
    _say(f"mmhydra: attempt {attempt.number}: {message}")
    _say(f"mmhydra: exit code {int(verdict.code)}, {verdict}: {verdict.reason}")
    JobLease(attempt.run, allocation.job_id, attempt.number).release()
    return verdict


def _say(text: str) -> None:
    """A line for the batch script's log, which may lie on the disk that is full."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # Python writes what is left at its end


def attempt_at(path: str) -> Attempt:
    """The attempt of a path."""
    return Attempt(Path(path).absolute())
