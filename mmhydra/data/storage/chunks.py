"""The hashes of a shard's chunks, by which its bytes are checked when they are read."""

import numpy as np
import xxhash
from numpy.typing import NDArray


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


def hex_digest(high: int, low: int) -> str:
    """The 32 hexadecimal digits of a digest's two words."""
    return f"{high:016x}{low:016x}"
