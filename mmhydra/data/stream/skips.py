"""Chunks that a run goes on without: which they are, since which sample, and so which samples are left out.

The list is part of the stream's state. All ranks hold the same one, a checkpoint keeps it, and a run that resumes goes
on with it: a damaged chunk that is mended later stays left out, or the samples would no longer be those of the run.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from mmhydra.data.storage.faults import WHOLE_SHARD, BadChunk
from mmhydra.errors import UserError


class Skip(NamedTuple):
    """A chunk (or a whole shard) without which samples are left out from sample `from_sample` on."""

    dataset: str
    shard: str  # its path as in the manifest
    chunk: int  # or WHOLE_SHARD
    reason: str
    from_sample: int

    @property
    def place(self) -> str:
        """`dataset/shard, chunk 3` in words."""
        whole = f"{self.dataset}/{self.shard}"
        return whole if self.chunk == WHOLE_SHARD else f"{whole}, chunk {self.chunk}"


@dataclass(frozen=True)
class Skips:
    """What was agreed to be left out, in the order of agreement; it never shrinks, and it is never changed in place.

    Sample n is left out if and only if it needs bytes of a chunk with from_sample <= n. A whole shard leaves out each
    sample with a piece in it.
    """

    entries: tuple[Skip, ...] = ()

    def __iter__(self) -> Iterator[Skip]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __bool__(self) -> bool:
        return bool(self.entries)

    @cached_property
    def _since(self) -> dict[tuple[str, str], dict[int, int]]:
        """By dataset and shard: chunk to the first sample that goes without it."""
        found: dict[tuple[str, str], dict[int, int]] = {}
        for skip in self.entries:
            chunks = found.setdefault((skip.dataset, skip.shard), {})
            chunks[skip.chunk] = min(skip.from_sample, chunks.get(skip.chunk, skip.from_sample))
        return found

    def leaves_out(
        self, n: int, dataset: str, shards: Iterable[str], chunks: Callable[[], Iterable[tuple[str, int]]]
    ) -> bool:
        """Whether sample `n` is left out: one of `dataset` with pieces in `shards`.

        `chunks` gives the (shard, chunk) pairs whose bytes the sample needs. It is called only where a chunk of one of
        the shards is in the list: it reads what lies beside the shards, which may be damaged itself.
        """
        touched = [self._since[dataset, shard] for shard in shards if (dataset, shard) in self._since]
        if any(known.get(WHOLE_SHARD, n + 1) <= n for known in touched):
            return True
        if not any(since <= n for known in touched for since in known.values()):
            return False
        return any(self._since.get((dataset, shard), {}).get(chunk, n + 1) <= n for shard, chunk in chunks())

    def lacks(self, bad: BadChunk) -> bool:
        """Whether a chunk is not in the list yet."""
        return bad.chunk not in self._since.get((bad.dataset, bad.shard), {})

    def with_bad(self, found: Iterable[BadChunk], from_sample: int) -> "Skips":
        """The list with these chunks at its end, those that it lacks, sorted by place.

        Several ranks find the same chunk, maybe for reasons in other words: the first in `found` counts.
        """
        new: dict[tuple[str, str, int], Skip] = {}
        for bad in found:
            if self.lacks(bad):
                new.setdefault(bad[:3], Skip(*bad, from_sample))
        return Skips((*self.entries, *(new[place] for place in sorted(new)))) if new else self

    @property
    def records(self) -> list[dict[str, Any]]:
        """For a stamp: one object an entry."""
        return [skip._asdict() for skip in self.entries]

    @property
    def text(self) -> str:
        """As JSON in one line, for a checkpoint."""
        return json.dumps(self.records)

    @classmethod
    def of_records(cls, records: Iterable[Any]) -> "Skips":
        """What `records` gave. Raises UserError for anything else."""
        try:
            return cls(tuple(_skip(**record) for record in records))
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


def _skip(dataset: str, shard: str, chunk: int, reason: str, from_sample: int) -> Skip:
    return Skip(str(dataset), str(shard), int(chunk), str(reason), int(from_sample))


NO_SKIPS = Skips()
