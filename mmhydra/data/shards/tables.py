"""What is known of a shard without its ids: the files beside it, read, compared with the manifest and made ready."""

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmhydra.data.shards.document import Segment
from mmhydra.data.shards.index import LOSS, PLACE, from_npy, segments_from_rows
from mmhydra.data.shards.manifest import Shard

BYTES_OF_DOCUMENT = 160  # of these tables in memory, about, for a document of few segments


class ShardTables:
    """Where the ids of a shard's documents are, and what they are. Documents are numbered from 0.

    `index` int64 [num_documents, 2], `segments` int64 [num_segments, 5] and `chunks` uint64 [num_chunks, 2]: see
    index.py. `edges` int64 [num_documents + 1]: places of the documents' first ids. `itemsize`: bytes of an id;
    `chunk_bytes` of the tar. `all_labels` bool [num_documents]: whether every id of a document carries loss.
    """

    def __init__(self, content: NDArray[np.uint8], shard: Shard, itemsize: int) -> None:
        """`content`: the three files end to end. Raises ValueError where they are not what the manifest says."""
        self.index: NDArray[np.int64]
        self.segments: NDArray[np.int64]
        self.chunks: NDArray[np.uint64]
        self.index, end = from_npy(content, 0)
        self.segments, end = from_npy(content, end)
        self.chunks, _ = from_npy(content, end)
        self.itemsize, self.chunk_bytes = itemsize, shard.chunk_bytes
        _compare(self.index, self.segments, self.chunks, shard)
        self.edges = np.concatenate([np.zeros(1, np.int64), np.cumsum(self.index[:, 1])])
        first_rows = np.searchsorted(self.segments[:, PLACE], self.edges[:-1])
        self.all_labels: NDArray[np.bool_] = np.logical_and.reduceat(self.segments[:, LOSS] != 0, first_rows)
        self.all_are_labels = bool(self.all_labels.all())

    @property
    def offsets(self) -> NDArray[np.int64]:
        """Bytes of the tar before the first id of each document, int64 [num_documents]."""
        return self.index[:, 0]

    @cached_property
    def nbytes(self) -> int:
        """Bytes of memory."""
        arrays = (self.index, self.segments, self.chunks, self.edges, self.all_labels)
        return sum(array.nbytes for array in arrays)

    def segments_of(self, document: int) -> tuple[Segment, ...]:
        """The segments of a document."""
        start, end = self.edges[document : document + 2].tolist()
        low, high = np.searchsorted(self.segments[:, PLACE], [start, end])
        return segments_from_rows(self.segments[low:high], start, end)

    def silent(
        self, documents: NDArray[np.int64], offsets: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """The parts of the runs [offset, offset + length) of documents that carry no loss, int64 [num_parts, 3].

        Columns: the run, and from which to which (exclusive) of its ids; sorted.
        """
        partly = np.flatnonzero(~self.all_labels[documents] & (lengths > 0))
        begin = self.edges[documents[partly]] + offsets[partly]
        end = begin + lengths[partly]
        row_start = self.segments[:, PLACE]
        firsts = np.searchsorted(row_start, begin, side="right") - 1
        counts = np.searchsorted(row_start, end, side="left") - firsts
        rows, run = ranges(firsts, counts), np.repeat(np.arange(len(partly)), counts)
        without = self.segments[rows, LOSS] == 0
        rows, run = rows[without], run[without]
        row_end = np.append(row_start, self.edges[-1])[rows + 1]
        lows, highs = np.maximum(row_start[rows], begin[run]), np.minimum(row_end, end[run])
        return np.stack([partly[run], lows - begin[run], highs - begin[run]], axis=1)


def _compare(index: NDArray[np.int64], segments: NDArray[np.int64], chunks: NDArray[np.uint64], shard: Shard) -> None:
    """Raises ValueError where the manifest lies: it named these files by their hash, so they are those it means."""
    if index.ndim != 2 or index.shape[1:] != (2,) or segments.ndim != 2 or segments.shape[1:] != (5,):
        raise ValueError("the files beside it are not the tables of a shard")
    found = {
        "documents": (len(index), shard.num_documents),
        "tokens": (int(index[:, 1].sum()), shard.num_tokens),
        f"chunks of {shard.chunk_bytes} bytes": (len(chunks), -(-shard.size_bytes // shard.chunk_bytes)),
    }
    wrong = [f"{said} {what}, where there are {there}" for what, (there, said) in found.items() if there != said]
    if wrong:
        raise ValueError(f"the manifest lies: it says {'; '.join(wrong)}")


def ranges(starts: NDArray[np.integer[Any]], lengths: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """The numbers [start, start + length) of each pair, end to end."""
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(int(lengths.sum()))
