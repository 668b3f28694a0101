"""What the processes of a build share: the recipe, and where each task leaves its files."""

import json
from dataclasses import dataclass
from pathlib import Path

from mmhydra.config.dataset import Recipe, RecordSource
from mmhydra.config.tokens import Tokens
from mmhydra.data.records.batches import BatchRef
from mmhydra.errors import ExitCode, UserError
from mmhydra.files import write_json

READ, ENCODE = "read", "encode"  # stages whose tasks are batches
EXAMPLE_BATCHES = 4  # of each source: its first ones hold every template, or it is rare
TOKENIZER_FILES = ("tokenizer.json", "qwen.tiktoken")  # what text tokenizers save
# These only cut the work into tasks: no byte of a shard hangs on them.
RECORDS_PER_BATCH = 250
BYTES_PER_BATCH = 16_000_000  # of JSONL: a batch of long texts ends earlier


class BuildError(UserError):
    """A dataset can't be built as asked."""


class BuildInterrupted(UserError):
    """A build ended before its end through no fault of its input; the same command goes on."""

    exit_code = ExitCode.FAILED


@dataclass(frozen=True)
class Context:
    """All that a task needs besides its own part."""

    recipe: Recipe
    tokens: Tokens
    records: Path  # absolute: what the patterns of record files are relative to
    building: Path  # absolute: the dataset's folder while it is built

    @property
    def work(self) -> Path:
        """Files that only the build needs."""
        return self.building / "stages"

    @property
    def tokenizer(self) -> Path | None:
        """The file of the text tokenizer inside of the dataset, once it is there."""
        return next((self.building / name for name in TOKENIZER_FILES if (self.building / name).is_file()), None)

    def source(self, name: str) -> RecordSource:
        """The part of the recipe that makes a source."""
        return next(source for source in self.recipe.sources if source.name == name)

    def name_of(self, path: Path) -> str:
        """A record file as the dataset names it: the same wherever the folder of the records lies."""
        return name_of(path, self.records)


def name_of(path: Path, records: Path) -> str:
    """A file's path in the folder of the records, or its name alone if it lies elsewhere."""
    return str(path.relative_to(records)) if path.is_relative_to(records) else path.name


@dataclass(frozen=True)
class Batch:
    """Some consecutive records of a source; `number` counts the batches of the source."""

    source: str
    number: int
    ref: BatchRef

    def file(self, context: Context, stage: str, suffix: str) -> Path:
        """Where a stage leaves a file of this batch."""
        return context.work / stage / self.source / f"{self.number:07d}{suffix}"

    def is_done(self, context: Context, stage: str) -> bool:
        """Whether a stage has finished this batch: its counts are written last."""
        return self.file(context, stage, ".json").is_file()


def write_counts(path: Path, counts: object) -> None:
    """Ends the work on a batch."""
    write_json(path, counts)


def read_counts(path: Path) -> dict[str, object]:
    """What `write_counts` wrote."""
    document = json.loads(path.read_bytes())
    assert isinstance(document, dict)
    return document


def unforeseen(place: str, error: Exception) -> BuildError:
    """For what no check foresaw: the record has to be named, or nobody can go on."""
    return BuildError(
        f"{place}: this record can't be built with: {type(error).__name__}: {error}. Leave it out and type the same "
        "command again; it would be kind to report it, as a record that is refused should be a counted reject"
    )


def reject(place: str, unique_id: str, reason: str, detail: str) -> dict[str, str]:
    """A line of a reject file."""
    return {"place": place, "unique_id": unique_id, "reason": reason, "detail": detail}
