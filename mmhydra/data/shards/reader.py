"""Reads the documents of a source's shards, any document at once, from verified chunks that are kept in memory."""

import json
import shlex
import tarfile
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmhydra.data.shards.document import Segment
from mmhydra.data.shards.index import INFO_SUFFIX, SIDECAR_SUFFIXES, TOKENS_SUFFIX, token_dtype
from mmhydra.data.shards.manifest import Manifest, Shard
from mmhydra.data.shards.tables import BYTES_OF_DOCUMENT, ShardTables
from mmhydra.data.shards.writer import DocumentInfo, ShardWriter
from mmhydra.data.storage.access import Access, Blob
from mmhydra.data.storage.chunks import hex_digest
from mmhydra.data.storage.faults import WHOLE_SHARD, BadChunk, ChunkFault, ShardError
from mmhydra.data.storage.store import Bytes

__all__ = ["DocumentInfo", "Reading", "ShardError", "ShardTables", "ShardWriter", "TokenShards", "check_sizes"]

_BLOCK = 512  # bytes; a tar's unit
_STAT_THREADS = 16
_TABLE_THREADS = 8  # files beside shards are small: a store takes longer to answer than to send them


class Reading(NamedTuple):
    """Runs of ids end to end: the ids, int64, and whether each is a label, bool."""

    ids: NDArray[np.int64]
    loss: NDArray[np.bool_]


class Places(NamedTuple):
    """Where runs of ids lie, without reading any. Arrays are int64 [num_runs] unless said otherwise.

    `shard`: its number; `first`: the run's first id, counted in ids from the begin of the tar; `chunk_bytes` of the
    shard; `is_last` bool: whether the run ends with its document. `silent` int64 [num_parts, 3]: run, low, high; the
    ids [low, high) of the run carry no loss; sorted.
    """

    shard: NDArray[np.int64]
    first: NDArray[np.int64]
    chunk_bytes: NDArray[np.int64]
    is_last: NDArray[np.bool_]
    silent: NDArray[np.int64]


class TokenShards:
    """The documents of one source and split, numbered from 0 in the manifest's order.

    Nothing is read before it is asked for. Then the files beside a shard are read and compared with the manifest, and
    the chunks of the tar with those; all are kept in the memory of `access` as long as there is room. Threads may share
    one object. Reading raises ChunkFault, which names the chunk, where something is missing, damaged, not what the
    manifest says, or not to be had; the constructor raises ManifestError for a source and split that are not there.
    """

    def __init__(self, folder: Path, manifest: Manifest, source: str, split: str, access: Access | None = None) -> None:
        self.source, self.split, self.dataset = source, split, folder.name
        self._folder, self._access = folder, access or Access.local()
        self._store, self._below = self._access.store_of(folder)
        self._memory = self._access.memory
        self._shards = manifest.shards_of(source, split)
        self._dtype = token_dtype(manifest.vocabulary.size)
        self.itemsize = self._dtype.itemsize  # bytes of an id
        # [num_shards + 1] number of the first document of each
        self._firsts = np.cumsum([0, *(shard.num_documents for shard in self._shards)])
        self._first_list: list[int] = self._firsts.tolist()
        self._numbers = {shard.path: number for number, shard in enumerate(self._shards)}
        self.num_tokens = sum(shard.num_tokens for shard in self._shards)  # end-of-document ids included

    @property
    def num_documents(self) -> int:
        """Documents in all shards."""
        return self._first_list[-1]

    def ids(self, document: int, offset: int = 0, length: int | None = None) -> NDArray[np.int64]:
        """Ids of a document from `offset` on, `length` of them or all, int64. IndexError outside of the document."""
        number, local = self._locate(document)
        if length is None:
            length = int(self._tables(number).index[local, 1]) - offset
        return self.read(np.array([document]), np.array([offset]), np.array([length])).ids

    def segments(self, document: int) -> tuple[Segment, ...]:
        """What a document's ids are."""
        number, local = self._locate(document)
        return self._tables(number).segments_of(local)

    def info(self, document: int) -> dict[str, Any]:
        """What is kept beside a document's ids: a DocumentInfo as JSON, and `segments`."""
        number, local = self._locate(document)
        index, key = self._tables(number).index, self.key(document)
        # The document's two files begin at the first whole block after the ids of the document before.
        before = index[local - 1] if local else (0, 0)
        start = -(-(int(before[0]) + int(before[1]) * self._dtype.itemsize) // _BLOCK) * _BLOCK
        data = self._bytes(number, start, int(index[local, 0])).tobytes()
        try:
            member = tarfile.TarInfo.frombuf(data[:_BLOCK], "ascii", "strict")
            following = _BLOCK + -(-member.size // _BLOCK) * _BLOCK
            ids = tarfile.TarInfo.frombuf(data[following : following + _BLOCK], "ascii", "strict")
            names = (member.name, ids.name)
        except tarfile.HeaderError:
            names = ("something else", "something else")
        if names != (key + INFO_SUFFIX, key + TOKENS_SUFFIX):
            raise self._fault(number, WHOLE_SHARD, f"it has {names[0]} and {names[1]} where document {key} should be")
        found: dict[str, Any] = json.loads(data[_BLOCK : _BLOCK + member.size])
        return found

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
        return self._shards[self._locate(document)[0]].path

    def read(self, documents: NDArray[np.int64], offsets: NDArray[np.int64], lengths: NDArray[np.int64]) -> Reading:
        """The ids [offset, offset + length) of several documents, end to end.

        Raises IndexError for what is not inside a document.
        """
        ids = [np.zeros(0, self._dtype)]
        first_ids = np.cumsum(lengths) - lengths
        silent: list[tuple[int, int]] = []
        for number, low, high in self._by_shard(documents):
            tables = self._tables(number)
            local, begin, count = documents[low:high] - self._first_list[number], offsets[low:high], lengths[low:high]
            starts, ends = self._spans(number, tables, local, begin, count)
            for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
                ids.append(self._bytes(number, start, end).view(self._dtype))
            for run, first, last in tables.silent(local, begin, count).tolist():
                at = int(first_ids[low + run])
                silent.append((at + first, at + last))
        loss = np.ones(int(lengths.sum()), bool)
        for start, end in silent:
            loss[start:end] = False
        return Reading(np.concatenate(ids).astype(np.int64), loss)

    def places(self, documents: NDArray[np.int64], offsets: NDArray[np.int64], lengths: NDArray[np.int64]) -> Places:
        """Where the ids that `read` would give are. Their chunks are not read, but what lies beside the shards is."""
        size = len(documents)
        first, chunk_bytes, is_last = np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size, bool)
        shard, silent = np.empty(size, np.int64), [np.zeros((0, 3), np.int64)]
        for number, low, high in self._by_shard(documents):
            tables = self._tables(number)
            local, begin, count = documents[low:high] - self._first_list[number], offsets[low:high], lengths[low:high]
            starts, _ = self._spans(number, tables, local, begin, count)
            shard[low:high], chunk_bytes[low:high] = number, tables.chunk_bytes
            first[low:high] = starts // tables.itemsize
            is_last[low:high] = begin + count == tables.index[local, 1]
            if not tables.all_are_labels:
                silent.append(tables.silent(local, begin, count) + np.array([low, 0, 0]))
        return Places(shard, first, chunk_bytes, is_last, np.concatenate(silent))

    def ids_of_chunk(self, number: int, chunk: int) -> NDArray[np.int32] | NDArray[np.uint16]:
        """The ids whose first bytes lie in a chunk of shard `number`; read-only. Ids of four bytes come as int32."""
        if self._shards[number].chunk_bytes % self.itemsize:  # ids lie across the edges of chunks
            content = self._bytes(number, *self._reach(number, chunk))
        else:
            content = self._chunk(number, chunk)
            if rest := len(content) % self.itemsize:  # of the tar's padding
                content = content[:-rest]
        return content.view(np.uint16) if self.itemsize == 2 else content.view(np.int32)

    def chunks_under(self, number: int, chunk: int) -> list[tuple[str, int]]:
        """Shard path and number of each chunk that `ids_of_chunk` reads for the same."""
        shard = self._shards[number]
        start, end = self._reach(number, chunk)
        return [(shard.path, under) for under in range(start // shard.chunk_bytes, -(-end // shard.chunk_bytes))]

    def _reach(self, number: int, chunk: int) -> tuple[int, int]:
        """The bytes of the whole ids that begin in a chunk; more than those of the chunk where ids lie across edges."""
        shard, itemsize = self._shards[number], self.itemsize
        start, end = (-(-edge * shard.chunk_bytes // itemsize) * itemsize for edge in (chunk, chunk + 1))
        return start, min(end, shard.size_bytes)

    def chunks_of(
        self, documents: NDArray[np.int64], offsets: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> frozenset[tuple[str, int]]:
        """Shard path and number of each chunk that `read` would need for the same; files beside the shards are read."""
        found: set[tuple[str, int]] = set()
        for number, low, high in self._by_shard(documents):
            tables = self._tables(number)
            local = documents[low:high] - self._first_list[number]
            starts, ends = self._spans(number, tables, local, offsets[low:high], lengths[low:high])
            firsts = starts // tables.chunk_bytes
            lasts = np.where(ends > starts, (ends - 1) // tables.chunk_bytes, -1)
            path = self._shards[number].path
            for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True):
                found.update((path, chunk) for chunk in range(first, last + 1))  # none for a run of no ids
        return frozenset(found)

    def documents_of(self, path: str, chunk: int) -> tuple[int, int]:
        """The documents [first, last) of a shard that can't be read without a chunk; with WHOLE_SHARD all of the shard.

        They are those with ids in the chunk. Where ids lie across the edges of chunks, `ids_of_chunk` reads the begin
        of the next chunk as well, so the documents of the chunk before are among them. For a chunk what lies beside
        the shard is read. Raises ShardError for a shard that the source does not have.
        """
        if path not in self._numbers:
            raise ShardError(f"{self.source}/{self.split} has no shard {path}")
        return self._documents_of(self._numbers[path], chunk)

    def _documents_of(self, number: int, chunk: int) -> tuple[int, int]:
        first, last = self._first_list[number : number + 2]
        if chunk == WHOLE_SHARD:
            return first, last
        tables = self._tables(number)
        size, itemsize = tables.chunk_bytes, tables.itemsize
        begin = chunk * size // itemsize * itemsize // size * size  # of the chunk that the first byte's id begins in
        ends = tables.offsets + tables.index[:, 1] * itemsize
        low = np.searchsorted(ends, begin, side="right")
        high = np.searchsorted(tables.offsets, (chunk + 1) * size, side="left")
        return first + int(low), first + int(high)

    def holding(self, needle: bytes, on_fault: Callable[[ChunkFault], None]) -> Iterator[int]:
        """Numbers of the documents in whose files some bytes stand, rising; every chunk is read once and in order.

        `on_fault` is told of each chunk, or whole shard, that can't be looked through.
        """
        for number, shard in enumerate(self._shards):
            rest = b""  # of the chunk before: bytes may stand across an edge
            for chunk in range(-(-shard.size_bytes // shard.chunk_bytes)):
                try:
                    data = rest + self._chunk(number, chunk).tobytes()
                except ChunkFault as fault:
                    on_fault(fault)
                    if fault.bad.chunk == WHOLE_SHARD:
                        break
                    rest = b""
                    continue
                begin, at = chunk * shard.chunk_bytes - len(rest), data.find(needle)
                while at >= 0:
                    tables = self._tables(number)
                    ends = tables.offsets + tables.index[:, 1] * tables.itemsize
                    local = int(np.searchsorted(ends, begin + at, side="right"))
                    if local < shard.num_documents:
                        yield self._first_list[number] + local
                    at = data.find(needle, at + 1)
                rest = data[len(data) - len(needle) + 1 :]

    def has_shard(self, path: str) -> bool:
        """Whether a shard (its path as in the manifest) is one of the source and split."""
        return path in self._numbers

    def warm(self, chunks: Iterable[tuple[str, int]]) -> None:
        """Reads chunks (as `chunks_of` names them) into memory, ahead of their use. Raises ChunkFault."""
        for path, chunk in chunks:
            self._chunk(self._numbers[path], chunk)

    def tables(self) -> Iterator[ShardTables]:
        """What is known of each shard without its ids, in reading order; a few are read at a time."""
        if len(self._shards) == 1:
            yield self._tables(0)
            return
        with ThreadPoolExecutor(_TABLE_THREADS) as pool:
            coming: deque[Future[ShardTables]] = deque()
            try:
                for number in range(len(self._shards)):
                    coming.append(pool.submit(self._tables, number))
                    if len(coming) == _TABLE_THREADS:
                        yield coming.popleft().result()
                while coming:
                    yield coming.popleft().result()
            finally:
                for future in coming:
                    future.cancel()

    def _locate(self, document: int) -> tuple[int, int]:
        """Number of a document's shard, and of the document inside it."""
        if not 0 <= document < self.num_documents:
            raise IndexError(f"document {document} of {self.source}/{self.split}, which has {self.num_documents}")
        number = bisect_right(self._first_list, document) - 1
        return number, document - self._first_list[number]

    def _shard_numbers(self, documents: NDArray[np.int64]) -> NDArray[np.int64]:
        numbers: NDArray[np.int64] = np.searchsorted(self._firsts, documents, side="right") - 1
        if len(numbers) and not 0 <= numbers.min() <= numbers.max() < len(self._shards):
            raise IndexError(f"documents {documents.min()} to {documents.max()} of {self.num_documents}")
        return numbers

    def _by_shard(self, documents: NDArray[np.int64]) -> list[tuple[int, int, int]]:
        """(shard, low, high): documents[low:high] lie in one shard."""
        if not len(documents):
            return []
        numbers = self._shard_numbers(documents)
        if numbers[0] == numbers[-1] and (numbers == numbers[0]).all():
            return [(int(numbers[0]), 0, len(numbers))]
        breaks = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
        return [(int(numbers[low]), low, high) for low, high in pairwise(breaks)]

    def _spans(
        self,
        number: int,
        tables: ShardTables,
        local: NDArray[np.int64],
        offsets: NDArray[np.int64],
        lengths: NDArray[np.int64],
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First byte and end of runs in their tar, int64 [num_runs] each."""
        index = tables.index[local]
        outside = (offsets < 0) | (lengths < 0) | (offsets + lengths > index[:, 1])
        if outside.any():
            wrong = int(np.flatnonzero(outside)[0])
            raise IndexError(
                f"ids {offsets[wrong]} to {offsets[wrong] + lengths[wrong]} of document {local[wrong]} of "
                f"{self._shards[number].path}, which has {index[wrong, 1]}"
            )
        starts = index[:, 0] + offsets * tables.itemsize
        return starts, starts + lengths * tables.itemsize

    def _bytes(self, number: int, start: int, end: int) -> Bytes:
        """The bytes [start, end) of a tar, from as many chunks as they lie in."""
        size = self._shards[number].chunk_bytes
        parts = [np.zeros(0, np.uint8)]
        for chunk in range(start // size, -(-end // size) if end > start else 0):
            parts.append(self._chunk(number, chunk)[max(start - chunk * size, 0) : end - chunk * size])
        return parts[1] if len(parts) == 2 else np.concatenate(parts)

    def _chunk(self, number: int, chunk: int) -> Bytes:
        """A verified chunk of a tar."""
        shard = self._shards[number]
        key = (shard.sidecars_xxh3, chunk)
        if (found := self._memory.find(key)) is not None:
            content: Bytes = found
            return content
        start = chunk * shard.chunk_bytes
        length = min(shard.chunk_bytes, shard.size_bytes - start)
        path = self._below + shard.path
        blob = Blob(
            bad=self._bad(number, chunk),
            name=f"shard {self._store.where(path)}, chunk {chunk} (bytes {start} to {start + length - 1})",
            parts=((path, start, length),),
            digest=hex_digest(*self._tables(number).chunks[chunk].tolist()),
            wrong_hash="it has another hash than when it was written",
            file_bytes=shard.size_bytes,
            cure=self._cure,
        )
        return self._access.get(self._store, blob, key, length, lambda content: content)

    def _tables(self, number: int) -> ShardTables:
        """What lies beside a shard."""
        shard = self._shards[number]
        key = (shard.sidecars_xxh3, WHOLE_SHARD)
        if (found := self._memory.find(key)) is not None:
            tables: ShardTables = found
            return tables
        path = self._below + shard.path

        def decode(content: Bytes) -> ShardTables:
            try:
                return ShardTables(content, shard, self._dtype.itemsize)
            except ValueError as error:
                raise self._fault(number, WHOLE_SHARD, str(error)) from error

        blob = Blob(
            bad=self._bad(number, WHOLE_SHARD),
            name=f"shard {self._store.where(path)}",
            parts=tuple((path + suffix, 0, None) for suffix in SIDECAR_SUFFIXES),
            digest=shard.sidecars_xxh3,
            wrong_hash=f"the files beside it ({', '.join(SIDECAR_SUFFIXES)}) are not those that the manifest lists",
            file_bytes=0,
            cure=self._cure,
        )
        return self._access.get(self._store, blob, key, shard.num_documents * BYTES_OF_DOCUMENT, decode)

    def _fault(self, number: int, chunk: int, reason: str) -> ChunkFault:
        path = self._shards[number].path
        return ChunkFault(
            self._bad(number, chunk, reason),
            f"shard {self._store.where(self._below + path)} of dataset {self.dataset} can't be used: {reason}. "
            f"{self._cure}",
        )

    def _bad(self, number: int, chunk: int, reason: str = "") -> BadChunk:
        return BadChunk(self.dataset, self._shards[number].path, chunk, reason, *self._documents_of(number, chunk))

    @property
    def _cure(self) -> str:
        if not self._access.is_local(self._store):
            return "Copy these files to the store again"
        return _copy_again(self._folder)


def check_sizes(folder: Path, manifest: Manifest, sources: Iterable[str] | None = None) -> None:
    """Raises ShardError for the first of `size_faults`."""
    for fault in size_faults(folder, manifest, sources):
        raise ShardError(f"{fault}. {_copy_again(folder)}")


def size_faults(folder: Path, manifest: Manifest, sources: Iterable[str] | None = None) -> list[str]:
    """One line for each local shard of these sources (None: all) that is missing, has another size, or lacks a file.

    It takes a look at each file, no more: what is inside is compared when it is read.
    """
    wanted = None if sources is None else set(sources)

    def fault_of(shard: Shard) -> str | None:
        path = folder / shard.path
        try:
            size = path.stat().st_size
            for suffix in SIDECAR_SUFFIXES:
                path.with_name(path.name + suffix).stat()
        except OSError as error:
            return f"{error.filename} cannot be opened ({error.strerror})"
        return (
            None if size == shard.size_bytes else f"shard {path} has {size} bytes, the manifest says {shard.size_bytes}"
        )

    # A look takes long on a network file system, but many can be under way at once.
    with ThreadPoolExecutor(_STAT_THREADS) as pool:
        found = pool.map(fault_of, (s for s in manifest.shards if wanted is None or s.source in wanted))
        return [fault for fault in found if fault is not None]


def _copy_again(folder: Path) -> str:
    return f"Copy the dataset again, or build it again after: rm -r {shlex.quote(str(folder))}"
