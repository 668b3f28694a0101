"""Reads the token ids of a source's shards through memory maps: no copies, no state, any position at once."""

import shlex
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmhydra.data.index import INDEX_SUFFIX, ShardError, token_dtype
from mmhydra.data.manifest import Manifest, Shard
from mmhydra.data.shard_writer import DocumentInfo, ShardWriter

__all__ = ["DocumentInfo", "ShardError", "ShardWriter", "TokenShards"]


class TokenShards:
    """All documents of one source and split as one row of `num_tokens` ids, in the manifest's order.

    Raises ShardError when a shard or index is missing or has not the size the manifest says, and
    ManifestError when the manifest has no such source and split. Contents are not hashed here:
    `verify_shards` does that.
    """

    def __init__(self, folder: Path, manifest: Manifest, source: str, split: str) -> None:
        self._arguments = (folder, manifest, source, split)
        self.source, self.split = source, split
        dtype = token_dtype(manifest.vocabulary.size)
        self._ids: list[NDArray[Any]] = []
        self._paths = [shard.path for shard in manifest.shards_of(source, split)]
        starts, lengths, shard_of = [], [], []
        for number, shard in enumerate(manifest.shards_of(source, split)):
            path = folder / shard.path
            _check_size(path, shard)
            index = _read_index(path, shard, dtype.itemsize)
            # A plain ndarray over the map: slicing np.memmap itself is several times slower.
            self._ids.append(np.asarray(np.memmap(path, dtype=dtype, mode="r")))
            starts.append(index[:, 0] // dtype.itemsize)
            lengths.append(index[:, 1])
            shard_of.append(np.full(len(index), number))
        self._starts = np.concatenate(starts)  # [num_documents] first id's place in its shard's ids
        self._shard_of = np.concatenate(shard_of)  # [num_documents]
        # [num_documents + 1] first id's place in the whole row; the last entry is num_tokens
        self._edges = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.concatenate(lengths))])

    def __reduce__(self) -> tuple[type["TokenShards"], tuple[Path, Manifest, str, str]]:
        # A data worker opens the maps again; pickling them would send the whole dataset.
        return TokenShards, self._arguments

    @property
    def num_tokens(self) -> int:
        """Ids in all documents, their end-of-document ids included."""
        return int(self._edges[-1])

    @property
    def num_documents(self) -> int:
        """Documents in all shards."""
        return len(self._starts)

    def shard_at(self, token: int) -> str:
        """Path (as in the manifest) of the shard that holds the id `token` of the row.

        Raises IndexError outside of [0, num_tokens).
        """
        if not 0 <= token < self.num_tokens:
            raise IndexError(f"token {token} of {self.source}/{self.split}, which has {self.num_tokens}")
        return self._paths[int(self._shard_of[self._document_at(token)])]

    def read(self, start: int, count: int) -> NDArray[np.int64]:
        """The ids `start` to `start` + `count` - 1 of the row, int64 [count], across documents and shards.

        Raises IndexError outside of [0, num_tokens].
        """
        if start < 0 or count < 0 or start + count > self.num_tokens:
            name = f"{self.source}/{self.split}"
            raise IndexError(f"tokens {start} to {start + count} of {name}, which has {self.num_tokens}")
        out = np.empty(count, np.int64)
        document = self._document_at(start)
        filled = 0
        while filled < count:
            skip = start + filled - int(self._edges[document])
            take = min(count - filled, int(self._edges[document + 1] - self._edges[document]) - skip)
            first = int(self._starts[document]) + skip
            out[filled : filled + take] = self._ids[self._shard_of[document]][first : first + take]
            filled += take
            document += 1
        return out

    def _document_at(self, token: int) -> int:
        return int(np.searchsorted(self._edges, token, side="right")) - 1


def _check_size(path: Path, shard: Shard) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise ShardError(f"shard {path} cannot be opened ({error.strerror}). {_cure(path)}") from error
    if size != shard.size_bytes:
        raise ShardError(f"shard {path} has {size} bytes, the manifest says {shard.size_bytes}. {_cure(path)}")


def _read_index(path: Path, shard: Shard, itemsize: int) -> NDArray[np.int64]:
    path = path.with_name(path.name + INDEX_SUFFIX)
    try:
        index: NDArray[np.int64] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ShardError(f"index {path} cannot be read ({error}). {_cure(path)}") from error
    # A wrong index would give wrong ids without a sound, so everything that can be checked cheaply is.
    sound = index.dtype == np.int64 and index.shape == (shard.num_documents, 2) and len(index) > 0
    if sound:
        offsets, lengths = index.T
        ends = offsets + lengths * itemsize
        sound = (
            bool((offsets % itemsize == 0).all() and (lengths > 0).all() and (offsets[1:] >= ends[:-1]).all())
            and int(lengths.sum()) == shard.num_tokens
            and offsets[0] >= 0
            and ends[-1] <= shard.size_bytes
        )
    if not sound:
        raise ShardError(f"index {path} is not one of {shard.path} as the manifest lists it. {_cure(path)}")
    return index


def _cure(path: Path) -> str:
    folder = shlex.quote(str(path.parent.parent))
    return f"Copy the dataset again, or build it again after: rm -r {folder}"
