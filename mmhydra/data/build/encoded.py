"""The files of encoded batches: written by the processes that encode, read by those that write shards."""

import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmhydra.data.build.lines import line_of, read_lines, write_lines
from mmhydra.data.build.plan import ENCODE, Batch, Context
from mmhydra.data.build.verdicts import SPLITS, TRAIN
from mmhydra.data.packing.atoms import largest_unit
from mmhydra.data.shards.document import Document, from_json, to_json
from mmhydra.data.shards.index import token_dtype
from mmhydra.data.shards.writer import DocumentInfo
from mmhydra.files import write_atomic

_OVERHEAD = 2 * 512 + 512 + 128  # bytes a document: two tar headers, padding on average, the header of .npy


class EncodedBatch:
    """Documents on their way to shards."""

    def __init__(self, vocab_size: int) -> None:
        self.largest_unit = 1
        self._itemsize = token_dtype(vocab_size).itemsize
        self._labels = np.zeros(vocab_size, np.int64)  # how often each id is a label of the train split
        self._ids: list[NDArray[np.uint32]] = []
        self._lines: list[dict[str, Any]] = []
        self._sizes: list[int] = []
        self._splits: list[int] = []

    def add(self, split: int, document: Document, info: DocumentInfo) -> None:
        """Adds a document of SPLITS[split]."""
        line = {"info": vars(info), "segments": to_json(document.segments)}
        self._lines.append(line)
        self._ids.append(document.ids.astype(np.uint32))
        self._sizes.append(len(document.ids) * self._itemsize + len(line_of(line)) + _OVERHEAD)
        self._splits.append(split)
        self.largest_unit = max(self.largest_unit, largest_unit(document))
        if split == TRAIN:
            carries = np.repeat([s.loss for s in document.segments], [s.length for s in document.segments])
            carries[0] = False  # nothing comes before it
            self._labels += np.bincount(document.ids[carries], minlength=len(self._labels))

    def write(self, context: Context, batch: Batch) -> None:
        """Leaves documents, label counts, and about how many bytes of a shard each will take."""
        used = np.flatnonzero(self._labels)
        arrays = {
            "ids": np.concatenate([np.zeros(0, np.uint32), *self._ids]),
            "lengths": np.array([len(ids) for ids in self._ids], np.int64),
            "sizes": np.array(self._sizes, np.int64),
            "splits": np.array(self._splits, np.uint8),
            "label_ids": used,
            "label_counts": self._labels[used],
        }
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        path = batch.file(context, ENCODE, ".npz")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, buffer.getbuffer())
        write_lines(batch.file(context, ENCODE, ".jsonl"), self._lines)


def read_arrays(context: Context, batch: Batch, *names: str) -> list[NDArray[Any]]:
    """Arrays of `EncodedBatch.write` by name."""
    with np.load(batch.file(context, ENCODE, ".npz"), allow_pickle=False) as file:
        return [file[name] for name in names]


def read_documents(
    context: Context, batch: Batch, places: NDArray[np.int64]
) -> Iterator[tuple[Document, DocumentInfo]]:
    """The documents at some places of a batch, in order."""
    ids, lengths = read_arrays(context, batch, "ids", "lengths")
    starts = np.concatenate([[0], np.cumsum(lengths)])
    wanted = set(places.tolist())
    for place, line in enumerate(read_lines(batch.file(context, ENCODE, ".jsonl"))):
        if place in wanted:
            info = DocumentInfo(**{**line["info"], "modalities": tuple(line["info"]["modalities"])})
            own = ids[starts[place] : starts[place + 1]].astype(np.int64)
            yield Document(own, from_json(line["segments"])), info


def label_counts(context: Context, batches: Sequence[Batch], vocab_size: int) -> NDArray[np.int64]:
    """How often each id is a label of the train split, int64 [vocab_size]."""
    counts = np.zeros(vocab_size, np.int64)
    for batch in batches:
        ids, numbers = read_arrays(context, batch, "label_ids", "label_counts")
        counts[ids] += numbers
    return counts


def splits_and_sizes(context: Context, batch: Batch) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Of each document of a batch: its place in SPLITS, and about how many bytes of a shard it will take."""
    splits, sizes = read_arrays(context, batch, "splits", "sizes")
    assert not len(splits) or splits.max() < len(SPLITS)
    return splits, sizes
