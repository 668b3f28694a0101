"""A drill from the fault to the first new step after it."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mmhydra.drill.faults import DrillError, Fault, Target, require_development
from mmhydra.monitor.find import job_id
from mmhydra.run.directory import Attempt, RunDirectory
from mmhydra.run.outcome import last_step
from mmhydra.slurm.scheduler import Scheduler

_POLL_S = 0.2


@dataclass(frozen=True)
class Findings:
    """What a fault cost. Times in seconds from the fault."""

    fault: str
    what: str
    step: int  # the newest step when it happened
    detection_s: float  # until the attempt had ended for SLURM or for the batch script
    recovery_s: float  # until a step was done that had not been done before
    resumed_step: int  # the step that the next attempt went on from
    attempt: int  # that went on
    nodes: list[str]  # on which

    @property
    def lost_steps(self) -> int:
        """Steps that had to be done again."""
        return max(0, self.step - self.resumed_step)


def drill(run: RunDirectory, fault: Fault, timeout_s: float, tell: Callable[[str], None]) -> Findings:
    """Waits until the run trains, breaks something, and waits until it trains again.

    Raises DrillError where that can't be done, or is not seen within `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    attempts = run.attempts
    if not attempts:
        raise DrillError(f"{run.path} has no attempt; submit it first")
    slurm = attempts[-1].read_frozen()[0].cluster.slurm
    conf = require_development(Path(slurm.slurm_conf) if slurm is not None and slurm.slurm_conf else None)
    scheduler = Scheduler(conf)
    target = _training(run, scheduler, conf, deadline)
    step = last_step(target.attempt)
    began = time.monotonic()
    what = fault.make(target)
    tell(f"step {step}: {what}")
    _wait(lambda: _has_ended(target, scheduler), deadline, "nobody noticed the fault")
    detection_s = time.monotonic() - began
    tell(f"noticed after {detection_s:.1f} s")
    _wait(lambda: run.attempts[-1].number > target.attempt.number, deadline, "the run was not started again")
    after = run.attempts[-1]
    tell(f"attempt {after.number} started after {time.monotonic() - began:.1f} s")
    # What the dying attempt still logged was done as well.
    done = max(step, last_step(target.attempt))
    _wait(lambda: last_step(after) > done or _is_over(after), deadline, "the new attempt made no new step")
    return Findings(
        fault=fault.name,
        what=what,
        step=done,
        detection_s=round(detection_s, 1),
        recovery_s=round(time.monotonic() - began, 1),
        resumed_step=_resumed_step(after),
        attempt=after.number,
        nodes=list(json.loads(after.job.read_text())["nodes"]),
    )


def _training(run: RunDirectory, scheduler: Scheduler, conf: Path, deadline: float) -> Target:
    """The run as soon as its newest attempt has done a step."""
    while time.monotonic() < deadline:
        attempt = run.attempts[-1]
        name = job_id(attempt)
        if name is None:
            raise DrillError(f"{run.path} is no run of SLURM; submit it with cluster=slurm_dev")
        state = scheduler.state(name)
        if state is None or not state.is_active:
            told = "is not known any more" if state is None else state.state
            raise DrillError(f"job {name} is over ({told}); submit the run again, with more steps if it is complete")
        if state.state == "RUNNING" and attempt.metrics.exists() and last_step(attempt) > 0:
            return Target(attempt, state, conf)
        time.sleep(_POLL_S)
    raise DrillError(f"{run.path} did not do a step in time")


def _has_ended(target: Target, scheduler: Scheduler) -> bool:
    if target.attempt.outcome.exists():
        return True
    state = scheduler.state(target.job.job_id)
    return state is None or state.state != "RUNNING" or state.restarts != target.job.restarts


def _is_over(attempt: Attempt) -> bool:
    """Whether the attempt ended, as one does that had only few steps left."""
    return attempt.outcome.exists()


def _resumed_step(attempt: Attempt) -> int:
    """The step before the first that the attempt logged; of its checkpoint, if it logged none."""
    try:
        first = attempt.metrics.read_text().splitlines()[0]
        return int(json.loads(first)["step"]) - 1
    except (OSError, IndexError, ValueError, KeyError):
        return int(json.loads(attempt.job.read_text())["step"])


def _wait(condition: Callable[[], bool], deadline: float, otherwise: str) -> None:
    while not condition():
        if time.monotonic() > deadline:
            raise DrillError(f"{otherwise} in time; python -m mmhydra.status shows how the run is")
        time.sleep(_POLL_S)
