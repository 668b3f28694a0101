"""Chunks that a run goes on without: which they are, which documents they hold, and since which sample they are out.

The list is part of the stream's state. All ranks hold the same one, a checkpoint keeps it, and a run that resumes goes
on with it: a damaged chunk that is mended later stays left out, or the samples would no longer be those of the run.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar

from pydantic import ConfigDict, TypeAdapter

from mmhydra.data.storage.faults import BadChunk, place_of
from mmhydra.errors import UserError


@dataclass(frozen=True)
class Skip:
    """A chunk (or a whole shard) without which samples are left out from sample `from_sample` on.

    They are those with a piece of the documents [first_document, last_document) of the shard's source and split. The
    entry holds them, as what lies beside the shard may be gone later.
    """

    dataset: str
    shard: str  # its path as in the manifest
    chunk: int  # or WHOLE_SHARD
    reason: str
    from_sample: int
    first_document: int
    last_document: int

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")  # in stamps

    @property
    def key(self) -> tuple[str, str, int]:
        """Dataset, shard and chunk: what it is about, since whichever sample."""
        return self.dataset, self.shard, self.chunk

    @property
    def place(self) -> str:
        """Where the chunk is, in words."""
        return place_of(self.dataset, self.shard, self.chunk)


@dataclass(frozen=True)
class Skips:
    """What was agreed to be left out, in the order of agreement; it never shrinks, and it is never changed in place.

    Sample n is left out if and only if it has a piece of a document of an entry with from_sample <= n. A chunk may
    stand in it more than once, each time with an earlier sample: the earliest counts.
    """

    entries: tuple[Skip, ...] = ()

    def __iter__(self) -> Iterator[Skip]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __bool__(self) -> bool:
        return bool(self.entries)

    @cached_property
    def _since(self) -> dict[tuple[str, str, int], int]:
        """By dataset, shard and chunk: the first sample that goes without it."""
        found: dict[tuple[str, str, int], int] = {}
        for skip in self.entries:
            found[skip.key] = min(skip.from_sample, found.get(skip.key, skip.from_sample))
        return found

    def lacks(self, bad: BadChunk, from_sample: int) -> bool:
        """Whether a chunk is not in the list yet, or only from a later sample on than `from_sample`."""
        return self._since.get(bad[:3], from_sample + 1) > from_sample

    def with_bad(self, found: Iterable[BadChunk], from_sample: int) -> "Skips":
        """The list with these chunks at its end, those that it lacks from `from_sample` on, sorted by place.

        Several ranks find the same chunk, maybe for reasons in other words: the first in `found` counts.
        """
        new: dict[tuple[str, str, int], Skip] = {}
        for bad in found:
            if self.lacks(bad, from_sample):
                new.setdefault(bad[:3], Skip(*bad[:4], from_sample, bad.first_document, bad.last_document))
        return Skips((*self.entries, *(new[place] for place in sorted(new)))) if new else self

    @property
    def records(self) -> list[dict[str, Any]]:
        """One object an entry."""
        return [asdict(skip) for skip in self.entries]

    @property
    def text(self) -> str:
        """As JSON in one line, for a checkpoint."""
        return json.dumps(self.records)

    @classmethod
    def of_records(cls, records: Iterable[Any]) -> "Skips":
        """What `records` gave. Raises UserError for anything else."""
        try:
            return cls(tuple(TypeAdapter(list[Skip]).validate_python(list(records))))
        except (TypeError, ValueError) as error:
            raise UserError(f"this is no list of skipped chunks: {error}") from None

    @classmethod
    def parse(cls, text: str) -> "Skips":
        """What `text` gave. Raises UserError for anything else."""
        try:
            records = json.loads(text)
        except ValueError as error:
            raise UserError(f"this is no list of skipped chunks: {error}") from None
        return cls.of_records(records)


NO_SKIPS = Skips()
