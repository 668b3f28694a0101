"""Checks the bytes of a shard when they are first read, chunk by chunk."""

from collections.abc import Callable

import numpy as np
import xxhash
from numpy.typing import NDArray


class ChunkCheck:
    """Hashes each chunk of `data` (uint8 [size_bytes]) once, before its first use in this process.

    `on_fault` is called with a wrong chunk's number and byte range, each time that the chunk is asked for, and raises.
    """

    def __init__(
        self,
        data: NDArray[np.uint8],
        hashes: NDArray[np.uint64],
        chunk_bytes: int,
        on_fault: Callable[[int, int, int], None],
    ) -> None:
        self._data, self._hashes, self._chunk_bytes, self._on_fault = data, hashes, chunk_bytes, on_fault
        self._checked = bytearray(len(hashes))  # 1 where a chunk is known to be whole

    def need(self, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> None:
        """The byte ranges [starts[i], ends[i]) are about to be used; none is empty."""
        firsts = (starts // self._chunk_bytes).tolist()
        lasts = ((ends - 1) // self._chunk_bytes).tolist()
        for first, last in zip(firsts, lasts, strict=True):
            for chunk in range(first, last + 1):
                if not self._checked[chunk]:
                    self._check(chunk)

    def _check(self, chunk: int) -> None:
        start = chunk * self._chunk_bytes
        end = min(start + self._chunk_bytes, len(self._data))
        found = words(xxhash.xxh3_128_intdigest(self._data[start:end].data))
        if found != tuple(self._hashes[chunk].tolist()):
            self._on_fault(chunk, start, end)
        self._checked[chunk] = 1


class ChunkHasher:
    """Hashes a stream in chunks of `chunk_bytes`; the last one may be shorter."""

    def __init__(self, chunk_bytes: int) -> None:
        self._chunk_bytes, self._room = chunk_bytes, chunk_bytes
        self._hash = xxhash.xxh3_128()
        self._rows: list[tuple[int, int]] = []

    def update(self, data: bytes | memoryview) -> None:
        """Goes on with these bytes."""
        view = memoryview(data)
        while len(view) >= self._room:
            self._hash.update(view[: self._room])
            self._rows.append(words(self._hash.intdigest()))
            view, self._room = view[self._room :], self._chunk_bytes
            self._hash.reset()
        self._hash.update(view)
        self._room -= len(view)

    def table(self) -> NDArray[np.uint64]:
        """uint64 [num_chunks, 2] of all bytes so far."""
        rest = [words(self._hash.intdigest())] if self._room < self._chunk_bytes else []
        return np.array([*self._rows, *rest], dtype=np.uint64).reshape(-1, 2)


def words(digest: int) -> tuple[int, int]:
    """High and low word of a 128-bit digest."""
    return digest >> 64, digest & ((1 << 64) - 1)
