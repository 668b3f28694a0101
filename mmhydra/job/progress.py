"""Whether a run gets on: its attempts compared by the checkpoint that each began with."""

from collections.abc import Sequence

from mmhydra.checkpoint.stamp import stamped_steps
from mmhydra.files import read_object
from mmhydra.run.directory import Attempt, RunDirectory


def attempts_without_progress(run: RunDirectory) -> int:
    """The newest attempts of jobs, in a row, that left no newer checkpoint than they began with.

    However they ended: one that its node took along, or that was preempted before its first step, costs as much. Only
    those do not count that found a bad node, for the run gets on without it. A person who starts the run again ends
    the row.
    """
    steps = stamped_steps(run.checkpoints)
    newest = steps[-1] if steps else 0
    count = 0
    attempts = run.attempts
    found_bad = _found_bad_nodes(attempts)
    for attempt in reversed(attempts):
        job = read_object(attempt.job)
        if not job or attempt.number in found_bad:
            continue
        began = int(job.get("step", 0))
        if newest > began:
            break
        count += 1
        newest = began
        if attempt.submitted.exists():
            break  # a person, or a program of theirs, started it here
    return count


def excluded_by(attempt: Attempt) -> set[str]:
    """The nodes that an attempt found to be bad."""
    outcome = read_object(attempt.outcome)
    return {str(node) for node in outcome.get("excluded") or ()}


def _found_bad_nodes(attempts: Sequence[Attempt]) -> set[int]:
    """The numbers of attempts that found a node to be bad that none before had found."""
    known: set[str] = set()
    numbers = set()
    for attempt in attempts:
        bad = excluded_by(attempt)
        if bad - known:
            numbers.add(attempt.number)
        known |= bad
    return numbers


def nodes_of(attempt: Attempt) -> list[str]:
    """The nodes of an attempt's allocation."""
    return [str(node) for node in read_object(attempt.job).get("nodes", [])]
