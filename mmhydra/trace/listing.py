"""The samples of a step: which pieces of which documents, and where those come from."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from mmhydra.data.packing.sequences import PackedSequences, PieceRef
from mmhydra.data.shards.document import NO_OPENER
from mmhydra.data.storage.faults import ShardError
from mmhydra.trace.opening import Traced, TraceError


class Piece(NamedTuple):
    """A piece of a sample and what lies beside the document that it is of.

    Its ids are those from `offset` on, `length` of them; they fill the positions from `position` on, one more where a
    repeated opener comes before them.
    """

    shard: str  # path as in the manifest
    key: str
    document: int  # number in its source's split
    offset: int  # ids
    length: int  # ids
    num_ids: int  # of the whole document
    position: int
    opener: int  # an id, or NO_OPENER
    record: dict[str, Any]  # unique_id, source_uri, license, language, template
    fault: str  # why there is nothing of a record; mostly empty

    @property
    def positions(self) -> int:
        """Positions of the sequence that it fills."""
        return self.length + (self.opener > NO_OPENER)

    def as_json(self) -> dict[str, Any]:
        """What is known of the record lies beside the rest; a piece without an opener has null there."""
        values = {**self._asdict(), "opener": self.opener if self.opener > NO_OPENER else None}
        return {**values.pop("record"), **values, "positions": self.positions}


class Sample(NamedTuple):
    """A sample of a step: the one of `number` in it, counted from 0, and `n` in the stream."""

    number: int
    n: int
    rank: int  # data-parallel
    source: str
    dataset: str
    epoch: int  # passes over its source before, from 0
    sequence: int
    is_skipped: bool  # left out: the model gets a sample without labels in its place
    pieces: tuple[Piece, ...]

    def as_json(self) -> dict[str, Any]:
        """A line of `--json`."""
        return {**self._asdict(), "pieces": [piece.as_json() for piece in self.pieces]}


_RECORD = ("unique_id", "source_uri", "license", "language", "template")


def sample_numbers(traced: Traced, step: int, dp: int, rank: int | None) -> range:
    """Which samples of a step there are, counted from 0 in it: all, or those of one of `dp` data-parallel ranks.

    Raises TraceError for a step or a rank that there is not.
    """
    traced.samples_of(step)
    if rank is None:
        return range(traced.batch)
    if not 0 <= rank < dp:
        raise TraceError(f"--rank {rank}: a step is shared by {dp} data-parallel ranks, 0 to {dp - 1}")
    share = traced.batch // dp
    return range(rank * share, (rank + 1) * share)


def sample_at(traced: Traced, n: int, dp: int) -> Sample:
    """Sample `n` of the stream, as one of a step that `dp` data-parallel ranks share.

    A document that can't be read is told with the reason.
    """
    ref = traced.split.stream.locate(n)
    number = n % traced.batch
    sequences = traced.split.sequences[ref.source]
    return Sample(
        number=number,
        n=n,
        rank=number * dp // traced.batch,
        source=ref.source,
        dataset=traced.split.datasets[ref.source],
        epoch=ref.epoch,
        sequence=ref.sequence,
        is_skipped=traced.is_skipped(n),
        pieces=tuple(_pieces(sequences, ref.sequence)),
    )


def _pieces(sequences: PackedSequences, sequence: int) -> Iterator[Piece]:
    position = 0
    for ref in sequences.describe(sequence):
        piece = _piece(sequences, ref, position)
        position += piece.positions
        yield piece


def _piece(sequences: PackedSequences, ref: PieceRef, position: int) -> Piece:
    record: dict[str, Any] = {}
    num_ids, fault = 0, ""
    try:
        info = sequences.shards.info(ref.document)
        record = {name: info.get(name) for name in _RECORD}
        num_ids = sum(segment.length for segment in sequences.shards.segments(ref.document))
    except ShardError as error:
        fault = str(error)
    return Piece(ref.shard, ref.key, ref.document, ref.offset, ref.length, num_ids, position, ref.opener, record, fault)
