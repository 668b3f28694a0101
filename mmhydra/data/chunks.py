"""Checks the bytes of a shard when they are first read, chunk by chunk."""

from collections.abc import Callable

import numpy as np
import xxhash
from numpy.typing import NDArray

from mmhydra.data.index import words


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
