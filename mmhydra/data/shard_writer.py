"""Writes documents as WebDataset tars, the same bytes for the same documents.

The bytes are those of `webdataset.TarWriter(..., mtime=0)` (a test holds this), made with the standard
library because importing webdataset imports torch, and datasets are also built where torch must not be
loaded.
"""

import hashlib
import io
import json
import tarfile
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mmhydra.data.index import INDEX_SUFFIX, TOKENS_SUFFIX, ShardError, build_index, token_dtype
from mmhydra.data.manifest import Shard
from mmhydra.files import write_atomic

OWNER = "mmhydra"
MODE = 0o444


@dataclass(frozen=True)
class DocumentInfo:
    """What is kept beside a document's token ids, as `<key>.json`."""

    unique_id: str
    source: str
    source_uri: str
    modalities: tuple[str, ...]
    license: str
    language: str


class ShardWriter:
    """Writes the documents of one source and split into `folder`/shards, a new shard at about `max_bytes`.

    A shard is put together in memory and written whole, so keep `max_bytes` well below the memory (4-64 MB is
    usual). Use it as a context manager; `shards` then lists what was written. After an exception the shard in
    hand is dropped.
    """

    def __init__(self, folder: Path, source: str, split: str, *, vocab_size: int, eod_id: int, max_bytes: int) -> None:
        if max_bytes <= 0:
            raise ShardError(f"a shard's size limit is more than 0 bytes, not {max_bytes}")
        if not 0 <= eod_id < vocab_size:
            raise ShardError(f"the end-of-document id {eod_id} is not in the vocabulary of {vocab_size}")
        self._folder, self._source, self._split = folder, source, split
        self._vocab_size, self._eod_id, self._max_bytes = vocab_size, eod_id, max_bytes
        self._dtype = token_dtype(vocab_size)
        self._num_documents = 0  # of all shards: makes the keys unique within the source and split
        self.shards: list[Shard] = []
        (folder / "shards").mkdir(parents=True, exist_ok=True)
        self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()

    def write(self, tokens: NDArray[np.integer[Any]], info: DocumentInfo) -> None:
        """Add one document: `tokens` 1-D ids, the last and only the last of them the end-of-document id.

        Raises ShardError where that does not hold or an id is not in the vocabulary, OSError when writing
        fails.
        """
        self._check(tokens, info.unique_id)
        key = f"{self._num_documents:09d}"
        array = io.BytesIO()
        np.save(array, tokens.astype(self._dtype))
        members = (
            (f"{key}.json", json.dumps(asdict(info), sort_keys=True, ensure_ascii=False).encode()),
            (f"{key}{TOKENS_SUFFIX}", array.getvalue()),
        )
        size = sum(512 + -(-len(data) // 512) * 512 for _, data in members)
        if self._tar.offset and self._tar.offset + size > self._max_bytes:
            self.close()
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.uname, member.gname = len(data), MODE, OWNER, OWNER
            self._tar.addfile(member, io.BytesIO(data))
        self._num_documents += 1

    def close(self) -> None:
        """Write the shard in hand, if it has a document, and its index."""
        if not self._tar.offset:
            return
        self._tar.close()
        name = f"{self._source}-{self._split}-{len(self.shards):05d}.tar"
        path = self._folder / "shards" / name
        self._buffer.seek(0)
        index = build_index(self._buffer, name, self._vocab_size)
        index_file = io.BytesIO()
        np.save(index_file, index)
        data = self._buffer.getvalue()
        write_atomic(path, data)
        write_atomic(path.with_name(name + INDEX_SUFFIX), index_file.getvalue())
        self.shards.append(
            Shard(
                path=f"shards/{name}",
                source=self._source,
                split=self._split,
                sha256=hashlib.sha256(data).hexdigest(),
                size_bytes=len(data),
                num_documents=len(index),
                num_tokens=int(index[:, 1].sum()),
            )
        )
        self._open()

    def _open(self) -> None:
        self._buffer = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._buffer, mode="w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115

    def _check(self, tokens: NDArray[np.integer[Any]], name: str) -> None:
        if tokens.ndim != 1 or tokens.dtype.kind not in "iu" or not len(tokens):
            raise ShardError(f"document {name}: needs a 1-D array of ids, not {tokens.dtype} {tokens.shape}")
        if (low := int(tokens.min())) < 0 or int(tokens.max()) >= self._vocab_size:
            wrong = low if low < 0 else int(tokens.max())
            raise ShardError(f"document {name}: id {wrong} is not in the vocabulary of {self._vocab_size}")
        ends = np.flatnonzero(tokens == self._eod_id)
        if len(ends) != 1 or ends[0] != len(tokens) - 1:
            raise ShardError(
                f"document {name}: the end-of-document id {self._eod_id} must be last and nowhere else; "
                f"it is at {ends[:5].tolist()} of {len(tokens)}"
            )
