"""Which chunks a run went on without, as its newest stamp and the events of its attempts say."""

from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

from mmhydra.checkpoint.stamp import CheckpointError, read_stamp, stamped_steps, step_folder
from mmhydra.config.schema import RunConfig
from mmhydra.data.datasets import TRAIN
from mmhydra.data.stream.skips import NO_SKIPS, Skip, Skips
from mmhydra.errors import UserError
from mmhydra.run.directory import Attempt, RunDirectory
from mmhydra.trace.logged import Logged
from mmhydra.track.jsonl import read_jsonl

_FIELDS = [field.name for field in fields(Skip)]  # an event has more


class Known(NamedTuple):
    """The list, and what is to be said where it may lack something; mostly empty."""

    skips: Skips
    note: str


def skips_of(run: RunDirectory, config: RunConfig, logged: Logged) -> Known:
    """The skipped chunks of a run: those of its newest stamp, and those that its attempts have told of since.

    A run that extends another and has no stamp yet begins with the list of the stamp that it extends. What an attempt
    told of a step counts unless a later attempt made that step again: that one told of its own.
    """
    skips, notes = NO_SKIPS, []
    if (stamp := _stamp(run, config)) is not None:
        try:
            skips = Skips(tuple(read_stamp(stamp).stream.skips))
        except CheckpointError as error:
            notes.append(str(error))
    for number, made in enumerate(logged.attempts):
        later = logged.attempts[number + 1 :]
        try:
            told = _told(made.attempt)
        except (OSError, UserError) as error:
            # One that ended before its first step had nothing to tell.
            if config.loader.on_bad_chunk == "skip" and (not later or made.last_step > made.first_step):
                notes.append(f"the events of attempt {made.attempt.number} can't be read ({error})")
            continue
        for skip in told:
            step = skip.from_sample // config.training.global_batch_size + 1
            if not any(other.first_step < step <= other.last_step for other in later):
                skips = _with(skips, skip)
    return Known(skips, f"skipped chunks may be missing here: {'; '.join(notes)}" if notes else "")


def _stamp(run: RunDirectory, config: RunConfig) -> Path | None:
    """The newest checkpoint of a run, or the one that it extends while it has none; None where there is neither."""
    if steps := stamped_steps(run.checkpoints):
        return step_folder(run.checkpoints, steps[-1])
    parent = config.checkpoint.extend_from
    return None if parent is None else Path(parent)


def _with(skips: Skips, skip: Skip) -> Skips:
    """The list with one more, unless it already leaves out the same from no later sample on."""
    if any(known.key == skip.key and known.from_sample <= skip.from_sample for known in skips):
        return skips
    return Skips((*skips, skip))


def _told(attempt: Attempt) -> Skips:
    """What the events of one attempt say. Raises OSError where there are none, UserError for odd ones."""
    records = [event["skip"] for event in read_jsonl(attempt.events) if event.get("kind") == "chunk_skipped"]
    train = [record for record in records if isinstance(record, dict) and record.get("split") == TRAIN]
    return Skips.of_records({name: record.get(name) for name in _FIELDS} for record in train)
