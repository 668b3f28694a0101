"""Which chunks a run went on without, as its newest stamp and the events after it say."""

from typing import NamedTuple

from mmhydra.checkpoint.stamp import CheckpointError, read_stamp, stamped_steps, step_folder
from mmhydra.config.schema import RunConfig
from mmhydra.data.datasets import TRAIN
from mmhydra.data.stream.skips import NO_SKIPS, Skips
from mmhydra.errors import UserError
from mmhydra.run.directory import Attempt, RunDirectory
from mmhydra.track.jsonl import read_jsonl

_FIELDS = ("dataset", "shard", "chunk", "reason", "from_sample")


class Known(NamedTuple):
    """The list, and what is to be said where it may lack something; mostly empty."""

    skips: Skips
    note: str


def skips_of(run: RunDirectory, config: RunConfig) -> Known:
    """The skipped chunks of a run: those of its newest stamp, and those that its newest attempt has told since."""
    skips, notes = NO_SKIPS, []
    if steps := stamped_steps(run.checkpoints):
        try:
            stream = read_stamp(step_folder(run.checkpoints, steps[-1])).stream
            skips = Skips.of_records(skip.model_dump() for skip in stream.skips)
        except CheckpointError as error:
            notes.append(str(error))
    try:
        told = _told(run.attempts[-1])
        known = {skip[:3] for skip in skips}
        skips = Skips((*skips, *(skip for skip in told if skip[:3] not in known)))
    except (OSError, UserError) as error:
        if config.loader.on_bad_chunk == "skip":
            notes.append(f"the events of the newest attempt can't be read ({error})")
    return Known(skips, f"skipped chunks may be missing here: {'; '.join(notes)}" if notes else "")


def _told(attempt: Attempt) -> Skips:
    """What the events of one attempt say. Raises OSError where there are none, UserError for odd ones."""
    records = [event["skip"] for event in read_jsonl(attempt.events) if event.get("kind") == "chunk_skipped"]
    train = [record for record in records if isinstance(record, dict) and record.get("split") == TRAIN]
    return Skips.of_records({name: record.get(name) for name in _FIELDS} for record in train)
