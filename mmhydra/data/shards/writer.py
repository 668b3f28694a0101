"""Writes documents as WebDataset tars, the same bytes for the same documents.

The bytes are those of `webdataset.TarWriter(..., mtime=0)` (a test holds this), made with the standard
library because importing webdataset imports torch, and datasets are also built where torch must not be
loaded.
"""

import hashlib
import json
import os
import tarfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from mmhydra.config.tokens import MODALITIES
from mmhydra.data.shards.document import Document, to_json
from mmhydra.data.shards.index import (
    DEFAULT_CHUNK_BYTES,
    INFO_SUFFIX,
    SIDECAR_SUFFIXES,
    TOKENS_SUFFIX,
    Sidecars,
    digest_of,
    npy,
    segment_rows,
    token_dtype,
)
from mmhydra.data.shards.manifest import Shard
from mmhydra.data.storage.chunks import ChunkHasher
from mmhydra.data.storage.faults import ShardError
from mmhydra.files import sync, write_atomic

OWNER = "mmhydra"
MODE = 0o444
MAX_DOCUMENTS = 10**9  # of a source and split: a key has nine digits


@dataclass(frozen=True)
class DocumentInfo:
    """What is kept beside a document's ids, as `<key>.json`, together with its segments.

    `record` is what else a person may want to know of where it came from (title, uri, ...).
    """

    unique_id: str
    source: str
    source_uri: str
    modalities: tuple[str, ...]
    license: str
    language: str
    template: str = ""
    record: dict[str, JsonValue] = field(default_factory=dict)


class ShardWriter:
    """Writes the documents of one source and split into `folder`/shards, a new shard at about `max_bytes`.

    A shard grows as `.NAME.tmp` and gets its name when it is whole and on disk, after the files beside it: a tar that
    has its name is complete, however the process ended. Memory holds one document and the shard's index. Without
    `max_bytes` all documents go into one shard. `first_shard` and `first_document` are how many of them other writers
    of the same source and split put before; numbers and keys go on after them.

    Use it as a context manager; `shards` then lists what this one has written. After an exception the shard in hand is
    dropped.
    """

    def __init__(
        self,
        folder: Path,
        source: str,
        split: str,
        *,
        vocab_size: int,
        eod_id: int,
        max_bytes: int | None,
        chunk_bytes: int = DEFAULT_CHUNK_BYTES,
        first_shard: int = 0,
        first_document: int = 0,
    ) -> None:
        if max_bytes is not None and max_bytes <= 0:
            raise ShardError(f"a shard's size limit is more than 0 bytes, not {max_bytes}")
        if chunk_bytes <= 0:
            raise ShardError(f"a chunk has more than 0 bytes, not {chunk_bytes}")
        if not 0 <= eod_id < vocab_size:
            raise ShardError(f"the end-of-document id {eod_id} is not in the vocabulary of {vocab_size}")
        self._folder, self._source, self._split = folder, source, split
        self._vocab_size, self._eod_id = vocab_size, eod_id
        self._max_bytes, self._chunk_bytes = max_bytes, chunk_bytes
        self._dtype = token_dtype(vocab_size)
        self.shards: list[Shard] = []
        self._first_shard = first_shard
        self._num_documents = first_document  # of all writers so far: makes the keys unique in source and split
        self._growing: _Growing | None = None
        (folder / "shards").mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.drop()

    def write(self, document: Document, info: DocumentInfo) -> str:
        """Add one document, closed by the end-of-document id, which is nowhere else. Returns its key.

        Raises ShardError where that does not hold or an id is not in the vocabulary, OSError when writing fails: then
        the shard in hand is lost.
        """
        self._check(document, info.unique_id)
        if self._num_documents == MAX_DOCUMENTS:
            raise ShardError(f"{self._source}/{self._split} has {MAX_DOCUMENTS:,} documents; make two sources of it")
        key = f"{self._num_documents:09d}"
        facts = {**vars(info), "segments": to_json(document.segments)}
        text = json.dumps(facts, sort_keys=True, ensure_ascii=False, allow_nan=False).encode()
        array = npy(document.ids.astype(self._dtype))
        size = sum(512 + -(-len(data) // 512) * 512 for data in (text, array))
        if self._growing and self._max_bytes is not None and self._growing.size + size > self._max_bytes:
            self.close()
        try:
            if self._growing is None:
                name = f"{self._source}-{self._split}-{self._first_shard + len(self.shards):05d}.tar"
                self._growing = _Growing(self._folder / "shards" / name, self._chunk_bytes)
            self._growing.add(key, text, array, document, self._dtype.itemsize)
        except BaseException:
            self.drop()
            raise
        self._num_documents += 1
        return key

    def close(self) -> None:
        """Finish the shard in hand, if there is one. OSError leaves nothing of it."""
        if (growing := self._growing) is None:
            return
        try:
            sidecars = growing.finish()
        except BaseException:
            self.drop()
            raise
        self._growing = None
        lengths = sidecars.documents[:, 1]
        self.shards.append(
            Shard(
                path=f"shards/{growing.path.name}",
                source=self._source,
                split=self._split,
                sha256=growing.sha256,
                size_bytes=growing.size,
                num_documents=len(lengths),
                num_tokens=int(lengths.sum()),
                chunk_bytes=self._chunk_bytes,
                sidecars_xxh3=digest_of(sidecars.files().values()),
            )
        )

    def drop(self) -> None:
        """Forget the shard in hand. The writer is of no more use than to read `shards`."""
        if self._growing is not None:
            self._growing.abandon()
            self._growing = None

    def _check(self, document: Document, name: str) -> None:
        ids = document.ids
        if ids.ndim != 1 or ids.dtype.kind not in "iu" or not len(ids):
            raise ShardError(f"document {name}: needs a 1-D array of ids, not {ids.dtype} {ids.shape}")
        if (low := int(ids.min())) < 0 or int(ids.max()) >= self._vocab_size:
            wrong = low if low < 0 else int(ids.max())
            raise ShardError(f"document {name}: id {wrong} is not in the vocabulary of {self._vocab_size}")
        ends = np.flatnonzero(ids == self._eod_id)
        if len(ends) != 1 or ends[0] != len(ids) - 1:
            raise ShardError(
                f"document {name}: the end-of-document id {self._eod_id} must be last and nowhere else; "
                f"it is at {ends[:5].tolist()} of {len(ids)}"
            )
        for segment in document.segments:
            if segment.modality not in MODALITIES:
                raise ShardError(f"document {name}: modality {segment.modality} is none of {', '.join(MODALITIES)}")
            if not -1 <= segment.opener < self._vocab_size:
                raise ShardError(f"document {name}: opener {segment.opener} is not in the vocabulary")


class _Growing:
    """A shard that is being written and hashed."""

    def __init__(self, path: Path, chunk_bytes: int) -> None:
        self.path = path
        self.size = 0  # bytes so far
        # One process writes a shard, so the name needs no process id, and a killed one's rest is written over.
        self._temporary = path.with_name(f".{path.name}.tmp")
        self._sha256, self._chunks = hashlib.sha256(), ChunkHasher(chunk_bytes)
        self._documents: list[tuple[int, int]] = []
        self._segments: list[NDArray[np.int64]] = []
        self._num_ids = 0
        self._file = self._temporary.open("wb")

    @property
    def sha256(self) -> str:
        """Of all bytes so far, 64 hexadecimal digits."""
        return self._sha256.hexdigest()

    def add(self, key: str, text: bytes, array: bytes, document: Document, itemsize: int) -> None:
        """Appends the two files of a document."""
        num_ids = len(document.ids)
        self._add(key + INFO_SUFFIX, text)
        self._documents.append((self.size + tarfile.BLOCKSIZE + len(array) - num_ids * itemsize, num_ids))
        self._add(key + TOKENS_SUFFIX, array)
        self._segments.append(np.array(segment_rows(document.segments, self._num_ids), np.int64))
        self._num_ids += num_ids

    def finish(self) -> Sidecars:
        """Puts the shard and the files beside it in place."""
        end = 2 * tarfile.BLOCKSIZE
        self._write(bytes(end + -(self.size + end) % tarfile.RECORDSIZE))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        sidecars = Sidecars(np.array(self._documents, np.int64), np.concatenate(self._segments), self._chunks.table())
        for suffix, content in sidecars.files().items():
            write_atomic(self.path.with_name(self.path.name + suffix), content)
        os.replace(self._temporary, self.path)
        sync(self.path.parent)
        return sidecars

    def abandon(self) -> None:
        """Removes what there is of it."""
        # Closing writes what is buffered, which on a full disk fails again; the descriptor is freed all the same.
        with suppress(OSError):
            self._file.close()
        for name in (self._temporary.name, *(self.path.name + suffix for suffix in ("", *SIDECAR_SUFFIXES))):
            self.path.with_name(name).unlink(missing_ok=True)

    def _add(self, name: str, data: bytes) -> None:
        member = tarfile.TarInfo(name)
        member.size, member.mode, member.uname, member.gname = len(data), MODE, OWNER, OWNER
        # Not through tarfile.TarFile, which keeps every member in memory and takes twice the time.
        self._write(member.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % tarfile.BLOCKSIZE))

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._sha256.update(data)
        self._chunks.update(data)
        self.size += len(data)
