"""Reads the documents of a source's shards through memory maps: no copies, no state, any document at once."""

import json
import resource
import shlex
import tarfile
from collections.abc import Iterator
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmhydra.data.shards.document import Segment
from mmhydra.data.shards.index import (
    INFO_SUFFIX,
    LOSS,
    PLACE,
    SIDECAR_SUFFIXES,
    TOKENS_SUFFIX,
    ShardError,
    digest_of,
    segments_from_rows,
    token_dtype,
)
from mmhydra.data.shards.manifest import Manifest, Shard
from mmhydra.data.shards.writer import DocumentInfo, ShardWriter
from mmhydra.data.storage.chunks import ChunkCheck

__all__ = ["DocumentInfo", "Reading", "ShardError", "ShardWriter", "TokenShards"]

_BLOCK = 512  # bytes; a tar's unit


class Reading(NamedTuple):
    """Runs of ids end to end: the ids, int64, and whether each is a label, bool."""

    ids: NDArray[np.int64]
    loss: NDArray[np.bool_]


class TokenShards:
    """The documents of one source and split, numbered from 0 in the manifest's order.

    A shard's files are mapped and checked when a document of it is first asked for, its chunks when their bytes are.
    Raises ShardError when a shard or a file beside it is missing or has not the size the manifest says, and
    ManifestError when the manifest has no such source and split.
    """

    def __init__(self, folder: Path, manifest: Manifest, source: str, split: str) -> None:
        self._arguments = (folder, manifest, source, split)
        self.source, self.split = source, split
        shards = manifest.shards_of(source, split)
        for shard in shards:
            _check_sizes(folder / shard.path, shard)
        _allow_open_files(4 * len(shards))
        dtype = token_dtype(manifest.vocabulary.size)
        self._shards = [_MappedShard(folder / shard.path, shard, dtype) for shard in shards]
        # [num_shards + 1] number of the first document of each
        self._firsts = np.cumsum([0, *(shard.num_documents for shard in shards)])
        self.num_tokens = sum(shard.num_tokens for shard in shards)  # end-of-document ids included

    def __reduce__(self) -> tuple[type["TokenShards"], tuple[Path, Manifest, str, str]]:
        # A data worker opens the maps again; pickling them would send the whole dataset.
        return TokenShards, self._arguments

    @property
    def num_documents(self) -> int:
        """Documents in all shards."""
        return int(self._firsts[-1])

    def ids(self, document: int, offset: int = 0, length: int | None = None) -> NDArray[np.int64]:
        """Ids of a document from `offset` on, `length` of them or all, int64. IndexError outside of the document."""
        shard, local = self._locate(document)
        if length is None:
            length = shard.num_ids(local) - offset
        return shard.read(np.array([local]), np.array([offset]), np.array([length])).ids

    def segments(self, document: int) -> tuple[Segment, ...]:
        """What a document's ids are."""
        shard, local = self._locate(document)
        return shard.segments_of(local)

    def info(self, document: int) -> dict[str, Any]:
        """What is kept beside a document's ids: a DocumentInfo as JSON, and `segments`."""
        shard, local = self._locate(document)
        return shard.info(local, self.key(document))

    def key(self, document: int) -> str:
        """The key under which a document lies in its shard."""
        self._locate(document)
        return f"{document:09d}"

    def find(self, key: str) -> int:
        """The document with a key. Raises ShardError when there is none."""
        if not (key.isascii() and key.isdigit() and len(key) == 9 and int(key) < self.num_documents):
            raise ShardError(
                f"{self.source}/{self.split} has no document {key}; its keys are 000000000 to "
                f"{self.num_documents - 1:09d}"
            )
        return int(key)

    def shard_of_document(self, document: int) -> str:
        """Path (as in the manifest) of the shard that holds a document."""
        return self._locate(document)[0].shard.path

    def read(self, documents: NDArray[np.int64], offsets: NDArray[np.int64], lengths: NDArray[np.int64]) -> Reading:
        """The ids [offset, offset + length) of several documents, end to end, in one go for each run in one shard.

        Raises IndexError for what is not inside a document.
        """
        numbers = np.searchsorted(self._firsts, documents, side="right") - 1
        if len(numbers) and not 0 <= numbers.min() <= numbers.max() < len(self._shards):
            raise IndexError(f"documents {documents.min()} to {documents.max()} of {self.num_documents}")
        breaks = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
        parts = []
        for low, high in pairwise(breaks):
            if low < high:
                number = int(numbers[low])
                local = documents[low:high] - self._firsts[number]
                parts.append(self._shards[number].read(local, offsets[low:high], lengths[low:high]))
        if len(parts) == 1:
            return parts[0]
        empty = Reading(np.zeros(0, np.int64), np.zeros(0, bool))
        return Reading(*(np.concatenate(columns) for columns in zip(empty, *parts, strict=True)))

    def tables(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Of each shard: the places of its documents [num_documents + 1], and its segment table."""
        for shard in self._shards:
            yield shard.edges, shard.segments

    def _locate(self, document: int) -> tuple["_MappedShard", int]:
        if not 0 <= document < self.num_documents:
            raise IndexError(f"document {document} of {self.source}/{self.split}, which has {self.num_documents}")
        number = int(np.searchsorted(self._firsts, document, side="right")) - 1
        return self._shards[number], document - int(self._firsts[number])


class _MappedShard:
    """One shard; its documents are numbered from 0. Nothing is opened before it is used."""

    def __init__(self, path: Path, shard: Shard, dtype: np.dtype[Any]) -> None:
        self.path, self.shard, self._dtype = path, shard, dtype

    def num_ids(self, document: int) -> int:
        return int(self.index[document, 1])

    def read(self, documents: NDArray[np.int64], offsets: NDArray[np.int64], lengths: NDArray[np.int64]) -> Reading:
        index = self.index[documents]
        if (offsets < 0).any() or (lengths < 0).any() or (offsets + lengths > index[:, 1]).any():
            wrong = int(np.flatnonzero((offsets < 0) | (lengths < 0) | (offsets + lengths > index[:, 1]))[0])
            raise IndexError(
                f"ids {offsets[wrong]} to {offsets[wrong] + lengths[wrong]} of document {documents[wrong]} of "
                f"{self.shard.path}, which has {index[wrong, 1]}"
            )
        itemsize = self._dtype.itemsize
        starts = index[:, 0] // itemsize + offsets
        some = lengths > 0
        self._chunks.need(starts[some] * itemsize, (starts + lengths)[some] * itemsize)
        if len(documents) == 1:  # a slice is several times faster than a gather
            ids = self._ids[starts[0] : starts[0] + lengths[0]].astype(np.int64)
        else:
            ids = self._ids[_ranges(starts, lengths)].astype(np.int64)
        return Reading(ids, self._loss(self.edges[documents] + offsets, lengths))

    def _loss(self, places: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether the ids of the runs that begin at `places` are labels."""
        row_start = self.segments[:, PLACE]
        firsts = np.searchsorted(row_start, places, side="right") - 1
        counts = np.searchsorted(row_start, places + lengths, side="left") - firsts
        rows = _ranges(firsts, counts)
        # Each run's first and last segment are cut to what lies inside the run.
        lows = np.maximum(row_start[rows], np.repeat(places, counts))
        last = np.cumsum(counts) - 1
        highs = np.append(lows[1:], 0)
        highs[last] = places + lengths
        loss: NDArray[np.bool_] = np.repeat(self.segments[:, LOSS][rows] != 0, highs - lows)
        return loss

    def segments_of(self, document: int) -> tuple[Segment, ...]:
        start, end = self.edges[document : document + 2].tolist()
        low, high = np.searchsorted(self.segments[:, PLACE], [start, end])
        return segments_from_rows(self.segments[low:high], start, end)

    def info(self, document: int, key: str) -> dict[str, Any]:
        # The document's two files begin at the first whole block after the ids of the document before.
        before = self.index[document - 1] if document else (0, 0)
        start = -(-(int(before[0]) + int(before[1]) * self._dtype.itemsize) // _BLOCK) * _BLOCK
        end = int(self.index[document, 0])
        self._chunks.need(np.array([start]), np.array([end]))
        member = tarfile.TarInfo.frombuf(self._bytes[start : start + _BLOCK].tobytes(), "ascii", "strict")
        text = self._bytes[start + _BLOCK : start + _BLOCK + member.size].tobytes()
        following = start + _BLOCK + -(-member.size // _BLOCK) * _BLOCK
        ids = tarfile.TarInfo.frombuf(self._bytes[following : following + _BLOCK].tobytes(), "ascii", "strict")
        if (member.name, ids.name) != (key + INFO_SUFFIX, key + TOKENS_SUFFIX):
            raise ShardError(f"{self.path} has {member.name} and {ids.name} where {key} should be. {_cure(self.path)}")
        found: dict[str, Any] = json.loads(text)
        return found

    @property
    def index(self) -> NDArray[np.int64]:
        """[num_documents, 2]: see index.py."""
        return self._sidecars[0]

    @property
    def segments(self) -> NDArray[np.int64]:
        """[num_segments, 5]: see index.py."""
        return self._sidecars[1]

    @cached_property
    def edges(self) -> NDArray[np.int64]:
        """[num_documents + 1]: places of the first ids."""
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(self.index[:, 1])])

    @cached_property
    def _bytes(self) -> NDArray[np.uint8]:
        # A plain ndarray over the map: slicing np.memmap itself is several times slower.
        return np.asarray(np.memmap(self.path, np.uint8, "r"))

    @cached_property
    def _ids(self) -> NDArray[Any]:
        return self._bytes.view(self._dtype)

    @cached_property
    def _chunks(self) -> ChunkCheck:
        return ChunkCheck(self._bytes, self._sidecars[2], self.shard.chunk_bytes, self._refuse_chunk)

    def _refuse_chunk(self, chunk: int, start: int, end: int) -> None:
        raise ShardError(
            f"shard {self.path} is damaged: chunk {chunk}, bytes {start} to {end - 1}, has another hash than when it "
            f"was written. {_cure(self.path)}"
        )

    @cached_property
    def _sidecars(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any]]:
        paths = [self.path.with_name(self.path.name + suffix) for suffix in SIDECAR_SUFFIXES]
        try:
            # Hashed whole: a wrong one would give wrong ids or labels without a sound.
            found = digest_of(np.memmap(path, np.uint8, "r").data for path in paths)
            if found != self.shard.sidecars_xxh3:
                names = ", ".join(path.name for path in paths)
                raise ShardError(
                    f"{names} in {self.path.parent} are not those of {self.path.name} as the manifest lists it. "
                    f"{_cure(self.path)}"
                )
            index, segments, chunks = (np.asarray(np.load(path, mmap_mode="r", allow_pickle=False)) for path in paths)
        except (OSError, ValueError) as error:
            if isinstance(error, ShardError):
                raise
            raise ShardError(f"what lies beside {self.path} cannot be read ({error}). {_cure(self.path)}") from error
        return index, segments, chunks


def _ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers [start, start + length) of each pair, end to end."""
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(int(lengths.sum()))


def _check_sizes(path: Path, shard: Shard) -> None:
    try:
        size = path.stat().st_size
        for suffix in SIDECAR_SUFFIXES:
            path.with_name(path.name + suffix).stat()
    except OSError as error:
        raise ShardError(f"{error.filename} cannot be opened ({error.strerror}). {_cure(path)}") from error
    if size != shard.size_bytes:
        raise ShardError(f"shard {path} has {size} bytes, the manifest says {shard.size_bytes}. {_cure(path)}")


def _allow_open_files(more: int) -> None:
    """Raise the soft limit of open files (often 1024): a map holds a descriptor for as long as it lives."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * more + 1024  # other sources, and all else that a process opens
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


def _cure(path: Path) -> str:
    folder = shlex.quote(str(path.parent.parent))
    return f"Copy the dataset again, or build it again after: rm -r {folder}"
