"""What the files of a point say: each is read once in a look, and what never changes once in the life of a process."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mmhydra.checkpoint.stamp import STAMP, step_of
from mmhydra.monitor.history import Past, read_past
from mmhydra.monitor.holder import Holder, read_holder
from mmhydra.monitor.reading import seconds, written_at
from mmhydra.run.directory import FROZEN_CONFIG, Attempt, RunDirectory
from mmhydra.sweep.state.curves import Curves, merged
from mmhydra.sweep.state.machines import Machines, read_machines

Evidence = tuple[int, float]  # when an attempt was added last, in nanoseconds; when the newest wrote how it ended


@dataclass(frozen=True)
class Seen:
    """The files of one run. What is not known is None."""

    attempts: list[Attempt] = field(default_factory=list)
    attempt: Attempt | None = None  # the newest that was started
    past: Past | None = None  # of that one
    holder: Holder | None = None
    is_newer_frozen: bool = False  # an attempt after it was frozen and not started
    problem: str | None = None
    machines: Machines = field(default_factory=Machines)
    curve: Mapping[int, float] = field(default_factory=dict)  # the metric of the sweep over all attempts
    trained: Mapping[str, Any] = field(default_factory=dict)  # the newest record of training
    checkpoint: int | None = None  # newest stamped step
    held_s: float | None = None  # by attempts before, from the begin of each to its end
    began: float | None = None  # that attempt; seconds since the epoch
    ended: float | None = None  # when it last said how it is
    evidence: Evidence | None = None  # set where the files say what stays so until one of these changes

    @property
    def asks_for(self) -> str | None:
        """The job whose state decides; None where the files alone do."""
        past = self.past
        return None if past is None or past.job_id is None or _ended_for_good(past) else past.job_id


@dataclass
class Kept:
    """What is the same in every look, by the folder of the attempt."""

    machines: dict[str, Machines] = field(default_factory=dict)
    held_s: dict[str, float | None] = field(default_factory=dict)


def look(run: RunDirectory, metric: str, now: float, curves: Curves, kept: Kept) -> Seen:
    """Reads the files of a run. Nothing of it raises. `now` is the file system's time."""
    added = _added(run)  # before anything else: what comes later is for the next look
    try:
        attempts = run.attempts
    except OSError as error:
        return Seen(problem=f"{run.path} can't be read: {error.strerror or error}")
    if not attempts:
        return Seen()
    holder: Holder | None = None
    is_newer_frozen = False
    for place in reversed(range(len(attempts))):
        attempt = attempts[place]
        frozen = written_at(attempt.path / f"{FROZEN_CONFIG}.sha256")
        if frozen is None:
            continue  # somebody is freezing it, or was killed while he did
        past = read_past(attempt, lambda path: curves.trail(path, metric).records)
        if _says_something(past):
            break
        holder = holder or read_holder(run, now)
        if holder is not None and holder.attempt == attempt.number:
            break  # a process took it
        is_newer_frozen = True
    else:
        machines, holder = _machines(attempts[-1], kept), holder or read_holder(run, now)
        return Seen(attempts, holder=holder, is_newer_frozen=is_newer_frozen, machines=machines)
    before = [curves.trail(one.metrics, metric) for one in attempts[:place]]
    own = curves.known(attempt.metrics, metric)
    is_settled = bool(past.outcome) and (past.job_id is None or _ended_for_good(past))
    began, ended = _began(past, frozen), past.outcome_written or past.status_written
    evidence = None
    if is_settled and place == len(attempts) - 1 and added is not None and past.outcome_written is not None:
        evidence = (added, past.outcome_written)
    return Seen(
        attempts,
        attempt,
        past,
        holder if is_settled else holder or read_holder(run, now),
        is_newer_frozen,
        machines=_machines(attempt, kept),
        curve=merged([*(one.values for one in before), own.values]),
        trained=next((one.trained for one in reversed([*before, own]) if one.trained), {}),
        checkpoint=_newest_checkpoint(run),
        held_s=_sum([_held_s(one, kept) for one in attempts[:place]]),
        began=began,
        ended=ended or (None if began is None else written_at(attempt.metrics)),
        evidence=evidence,
    )


def is_unchanged(run: RunDirectory, attempt: Attempt, evidence: Evidence) -> bool:
    """Whether a run is as it was: started no more, and nobody took back how its last attempt ended."""
    return (_added(run), written_at(attempt.outcome)) == evidence


def _added(run: RunDirectory) -> int | None:
    try:
        return (run.path / "attempts").stat().st_mtime_ns
    except OSError:
        return None


def _says_something(past: Past) -> bool:
    """Whether a job was submitted for an attempt, or a process wrote into it."""
    return bool(past.job_id is not None or past.status or past.outcome or past.records)


def _ended_for_good(past: Past) -> bool:
    """Whether the job noted how it ended, and SLURM was not told to start it again."""
    is_over = bool(past.outcome) and past.state in ("done", "failed", "stopped")
    return is_over and past.outcome.get("requeue") is not True


def _machines(attempt: Attempt, kept: Kept) -> Machines:
    place = str(attempt.path)
    if place not in kept.machines:
        kept.machines[place] = read_machines(attempt)
    return kept.machines[place]


def _newest_checkpoint(run: RunDirectory) -> int | None:
    try:
        folders = [run.checkpoints / name for name in os.listdir(run.checkpoints)]
    except OSError:
        return None
    steps = sorted(((step, folder) for folder in folders if (step := step_of(folder)) is not None), reverse=True)
    return next((step for step, folder in steps if written_at(folder / STAMP) is not None), None)


def _held_s(attempt: Attempt, kept: Kept) -> float | None:
    """Seconds that machines were held by an attempt that another came after."""
    place = str(attempt.path)
    if place not in kept.held_s:
        past = read_past(attempt, lambda path: [])
        began = _began(past, written_at(attempt.path / f"{FROZEN_CONFIG}.sha256"))
        ended = past.outcome_written or past.status_written
        if past.job_id is None and ended is None:
            began = None  # nobody ever started it
        ended = ended or written_at(attempt.metrics)
        kept.held_s[place] = None if began is None or ended is None else max(0.0, ended - began)
    return kept.held_s[place]


def _began(past: Past, frozen: float | None) -> float | None:
    """When it got its machines, in seconds since the epoch; a local one starts as soon as it is frozen."""
    if past.job_id is None:
        return frozen
    return seconds(past.began)


def _sum(parts: list[float | None]) -> float | None:
    known = [part for part in parts if part is not None]
    return sum(known) if known else None
