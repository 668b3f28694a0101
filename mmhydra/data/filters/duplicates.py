"""The global half of deduplication: records in order, the first of its like stays."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import xxhash
from datasketch import MinHashLSH

from mmhydra.config.filters import DuplicatesFilter, ExactDuplicatesFilter, NearDuplicatesFilter
from mmhydra.data.filters.fingerprint import Signature

Duplicate = Literal["duplicate_exact", "duplicate_near"]

# Pages of one template, alike but not alike enough, fill a bucket, and each more would be compared with all of them:
# only the first ones are.
_MOST_IN_BUCKET = 100


class Deduplicator:
    """Fed with the fingerprints of all records that passed the chain, in their order; the same order, the same result.

    Holds 16 bytes and a signature of each record that stays, and one number per band: about 1.6 kB a record at
    num_perm = 128. MinHashLSH chooses the bands; its own storage would take several times as much.
    """

    def __init__(self, filters: Sequence[DuplicatesFilter]) -> None:
        self._exact: dict[bytes, int] | None = None
        self._near: _NearDuplicates | None = None
        for config in filters:
            if isinstance(config, ExactDuplicatesFilter):
                self._exact = {}
            else:
                self._near = _NearDuplicates(config)

    def feed(self, index: int, exact_key: bytes | None, signature: Signature | None) -> tuple[Duplicate, int] | None:
        """None for a record that stays; else what it is and the index of the first of its like."""
        if self._exact is not None and exact_key is not None:
            first = self._exact.setdefault(exact_key, index)
            if first != index:
                return "duplicate_exact", first
        if self._near is not None and signature is not None:
            near = self._near.feed(index, signature)
            if near is not None:
                return "duplicate_near", near
        return None


class _NearDuplicates:
    def __init__(self, config: NearDuplicatesFilter) -> None:
        lsh = MinHashLSH(threshold=config.threshold, num_perm=config.num_perm)
        self._num_bands, self._rows = int(lsh.b), int(lsh.r)
        self._threshold = config.threshold
        # Hash of a band -> row of the signature that has it, or rows where several do.
        self._buckets: list[dict[int, int | list[int]]] = [{} for _ in range(self._num_bands)]
        self._signatures = np.empty((1024, config.num_perm), dtype=np.uint32)
        self._indices: list[int] = []

    def feed(self, index: int, signature: Signature) -> int | None:
        rows = self._rows
        hashes = [
            xxhash.xxh3_64_intdigest(signature[band * rows : (band + 1) * rows].tobytes())
            for band in range(self._num_bands)
        ]
        candidates: set[int] = set()
        for bucket, key in zip(self._buckets, hashes, strict=True):
            there = bucket.get(key)
            if isinstance(there, int):
                candidates.add(there)
            elif there is not None:
                candidates.update(there)
        if candidates:
            order = np.array(sorted(candidates))  # the first one wins
            similarity = (self._signatures[order] == signature).mean(axis=1)
            alike = np.flatnonzero(similarity >= self._threshold)
            if len(alike):
                return self._indices[int(order[alike[0]])]
        self._keep(index, signature, hashes)
        return None

    def _keep(self, index: int, signature: Signature, hashes: Sequence[int]) -> None:
        row = len(self._indices)
        if row == len(self._signatures):
            self._signatures = np.concatenate([self._signatures, np.empty_like(self._signatures)])
        self._signatures[row] = signature
        self._indices.append(index)
        for bucket, key in zip(self._buckets, hashes, strict=True):
            there = bucket.setdefault(key, row)
            if isinstance(there, list):
                if len(there) < _MOST_IN_BUCKET:
                    there.append(row)
            elif there != row:
                bucket[key] = [there, row]
