"""The pack index: which documents, offsets and lengths make each sequence of `seq_len` positions; no id is copied.

A document of n ids, the last of them the end-of-document id, gives n - 1 pairs of an input and the id that follows it.
A *piece* (document, offset, length, opener) is such pairs: its inputs are the opener, if it has one, and the document's
ids [offset, offset + length); the label of each is the id after it. So a piece takes length positions, and one more
for an opener, whose label is the id at offset; the last label of one piece is the first input of the next.

A document is cut only where it is longer than `seq_len`, and only between atoms (atoms.py). Pieces are put into
sequences by first fit over at most `MAX_OPEN` unfinished ones; when none has room the oldest is closed. Sequences are
numbered by their first pieces, so reading them in order is nearly reading the shards in order.

A *chunk group* is the run of sequences whose first pieces begin in one chunk of one shard: what is worth reading
together. With the groups the pack keeps how many input positions of each modality sequences and groups hold, so that
what a run has seen is a sum over few rows.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmhydra.config.tokens import MODALITIES
from mmhydra.data.datasets import DataError
from mmhydra.data.packing.atoms import AtomRuns, atom_runs
from mmhydra.data.shards.document import NO_OPENER
from mmhydra.data.shards.index import MODALITY, PLACE
from mmhydra.data.shards.reader import ShardTables, TokenShards

ALGORITHM = 2  # raise it when the same shards would be packed in another way
MAX_OPEN = 64  # unfinished sequences
_BLOCK = 1 << 16  # pieces that are Python objects at a time
_SCANNED = 1 << 20  # pieces that are looked through at a time
_SPECIAL = MODALITIES.index("special")

# Columns of a table of pieces.
DOCUMENT, OFFSET, LENGTH, OPENER = range(4)


class Pack(NamedTuple):
    """The sequences of a source and split.

    `pieces` int64 [num_pieces, 4], sequence k being the rows [edges[k], edges[k + 1]); `edges` int64 [num_sequences +
    1]. Chunk group g is the sequences [groups[g], groups[g + 1]); `groups` int64 [num_groups + 1].

    `counts` [num_sequences, len(MODALITIES)], uint16 or for longer sequences uint32: filled input positions by
    modality. An opener is one of `special`; padding counts nowhere. `totals` int64 [num_groups, len(MODALITIES)] are
    their sums over each group.
    """

    seq_len: int
    pieces: NDArray[np.int64]
    edges: NDArray[np.int64]
    groups: NDArray[np.int64]
    counts: NDArray[np.unsignedinteger[Any]]
    totals: NDArray[np.int64]

    @property
    def num_sequences(self) -> int:
        """Sequences in an epoch."""
        return len(self.edges) - 1

    @property
    def num_filled(self) -> int:
        """Positions of an epoch that are no padding."""
        return int(self.totals.sum())

    @property
    def padding_share(self) -> float:
        """Share of all positions that is padding."""
        return 1 - self.num_filled / (self.num_sequences * self.seq_len)

    def sequences_of(self, first: int, last: int) -> NDArray[np.int64]:
        """Numbers of the sequences with a piece of the documents [first, last), rising; a scan of all pieces."""
        found = []
        for low in range(0, len(self.pieces), _SCANNED):
            documents = self.pieces[low : low + _SCANNED, DOCUMENT]
            rows = low + np.flatnonzero((documents >= first) & (documents < last))
            found.append(np.searchsorted(self.edges, rows, side="right") - 1)
        return np.unique(np.concatenate(found))


def pack(shards: TokenShards, seq_len: int) -> Pack:
    """Packs all documents of a source and split.

    Raises DataError when an atom is longer than a sequence, or when there is nothing to learn from.
    """
    if seq_len < 1:
        raise DataError(f"training.seq_len is at least 1, not {seq_len}")
    count_type = np.uint16 if seq_len < 1 << 16 else np.uint32
    tables, counted, begun, first, first_chunk = [], [], [], 0, 0
    for shard in shards.tables():
        try:
            table = cut(shard.edges, shard.segments, seq_len)
        except TooLongError as error:
            raise DataError(
                f"source {shards.source} has a unit of {error.positions} ids that may not be parted (an image or one "
                f"step of a signal, with its marks), a sequence has {seq_len}; type training.seq_len={error.positions} "
                "or more (in a build: dataset.seq_lens)"
            ) from None
        counted.append(count(shard, table).astype(count_type))
        chunks = chunk_of(shard, table)
        begun.append(first_chunk + chunks)
        first_chunk += int(chunks.max(initial=-1)) + 1
        table[:, DOCUMENT] += first
        first += len(shard.edges) - 1
        tables.append(table)
    pieces = np.concatenate(tables)
    if not len(pieces):
        raise DataError(
            f"source {shards.source} has no document of two ids or more in its split {shards.split}; use more data, or "
            "leave the source out"
        )
    needs = pieces[:, LENGTH] + (pieces[:, OPENER] > NO_OPENER)
    sequence = first_fit(needs, seq_len)
    order = np.argsort(sequence, kind="stable")
    edges = np.append(np.flatnonzero(np.diff(sequence[order], prepend=-1)), len(pieces))
    # Sequences are numbered by their first pieces, so those that begin in one chunk follow each other.
    chunk = np.concatenate(begun)[order[edges[:-1]]]
    groups = np.append(np.flatnonzero(np.diff(chunk, prepend=-1)), len(chunk))
    counts = np.add.reduceat(np.concatenate(counted)[order], edges[:-1], axis=0, dtype=count_type)
    totals = np.add.reduceat(counts, groups[:-1], axis=0, dtype=np.int64)
    return Pack(seq_len, pieces[order], edges, groups, counts, totals)


def count(shard: ShardTables, table: NDArray[np.int64]) -> NDArray[np.int64]:
    """Input positions of each modality in the pieces of one shard, int64 [num_pieces, len(MODALITIES)]."""
    place, modality = shard.segments[:, PLACE], shard.segments[:, MODALITY]
    lengths = np.diff(place, append=shard.edges[-1])
    before = np.zeros((len(place) + 1, len(MODALITIES)), np.int64)  # ids before each segment
    before[np.arange(1, len(before)), modality] = lengths
    np.cumsum(before, axis=0, out=before)

    def upto(places: NDArray[np.int64]) -> NDArray[np.int64]:
        segment = np.searchsorted(place, places, side="right") - 1
        counts = before[segment]
        counts[np.arange(len(places)), modality[segment]] += places - place[segment]
        return counts

    start = shard.edges[table[:, DOCUMENT]] + table[:, OFFSET]
    # A piece ends inside its document: its last label comes after it.
    counts = upto(start + table[:, LENGTH]) - upto(start)
    counts[:, _SPECIAL] += table[:, OPENER] > NO_OPENER
    return counts


def chunk_of(shard: ShardTables, table: NDArray[np.int64]) -> NDArray[np.int64]:
    """The chunk of the tar that the first id of each piece of one shard begins in, int64 [num_pieces]."""
    return (shard.offsets[table[:, DOCUMENT]] + table[:, OFFSET] * shard.itemsize) // shard.chunk_bytes


class TooLongError(ValueError):
    """An atom that needs more positions than a sequence has."""

    def __init__(self, positions: int) -> None:
        super().__init__(positions)
        self.positions = positions


def cut(edges: NDArray[np.int64], segments: NDArray[np.int64], seq_len: int) -> NDArray[np.int64]:
    """The pieces of one shard's documents (numbered from 0), int64 [num_pieces, 4], in their order.

    Arguments as `atom_runs` has them. Raises TooLongError.
    """
    starts, sizes = edges[:-1], np.diff(edges) - 1
    whole = np.flatnonzero((sizes > 0) & (sizes <= seq_len))
    rounds = [_table(whole, np.zeros_like(whole), sizes[whole], np.full_like(whole, NO_OPENER))]
    document = np.flatnonzero(sizes > seq_len)
    if len(document):
        runs = atom_runs(edges, segments)
        _refuse_long(runs, edges, document, seq_len)
    place, opener = starts[document], np.full(len(document), NO_OPENER)
    # Each round cuts one piece off every document that is left.
    while len(document):
        end = edges[document + 1] - 1
        limit = place + seq_len - (opener > NO_OPENER)
        run = np.searchsorted(runs.start, np.minimum(limit, end - 1), side="right") - 1
        inside = (limit - runs.start[run]) // runs.size[run]
        last = limit >= end
        next_place = np.where(last, end, runs.start[run] + inside * runs.size[run])
        rounds.append(_table(document, place - starts[document], next_place - place, opener))
        opener = np.where(inside == 0, runs.first_opener[run], runs.opener[run])
        document, place, opener = document[~last], next_place[~last], opener[~last]
    pieces = np.concatenate(rounds)
    return pieces[np.lexsort((pieces[:, OFFSET], pieces[:, DOCUMENT]))]


def _refuse_long(runs: AtomRuns, edges: NDArray[np.int64], documents: NDArray[np.int64], seq_len: int) -> None:
    positions = runs.positions()
    if positions.max() > seq_len:
        long = np.isin(np.searchsorted(edges, runs.start, side="right") - 1, documents)
        if (most := int(positions[long].max())) > seq_len:
            raise TooLongError(most)


def _table(*columns: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.stack(columns, axis=1)


def first_fit(needs: NDArray[np.int64], seq_len: int, max_open: int = MAX_OPEN) -> NDArray[np.int64]:
    """The sequence of each piece, int64 [num_pieces], as the number of the piece that opened it.

    `needs` are positions, 1 to `seq_len` each.
    """
    sequence = np.arange(len(needs))
    least = int(needs.min()) if len(needs) else 0
    # A piece that leaves less room than any piece needs is alone, and finds no room itself: no need to try it.
    shared = np.flatnonzero(needs <= seq_len - least)
    room: list[int] = []  # of the unfinished sequences, the oldest first
    names: list[int] = []
    for block in np.split(shared, range(_BLOCK, len(shared), _BLOCK)):
        chosen = []
        for number, need in zip(block.tolist(), needs[block].tolist(), strict=True):
            for place, free in enumerate(room):
                if need <= free:
                    chosen.append(names[place])
                    if free - need >= least:
                        room[place] = free - need
                    else:
                        del room[place], names[place]
                    break
            else:
                if len(room) == max_open:
                    del room[0], names[0]
                room.append(seq_len - need)
                names.append(number)
                chosen.append(number)
        sequence[block] = chosen
    return sequence
