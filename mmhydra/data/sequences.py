"""Cuts a source's documents, laid end to end, into sequences of one length, and makes training batches of
them.

Shape suffixes: B sequences, L positions, L1 = L + 1 ids (the last one is only ever a label).
"""

import numpy as np
from numpy.typing import NDArray

from mmhydra.data.shards import TokenShards
from mmhydra.errors import UserError

IGNORE_INDEX = -100  # torch's cross_entropy leaves such labels out


class FixedSequences:
    """Sequence k is the ids [k * L, k * L + L + 1) of the source's row: neighbours share one id, none is
    skipped.

    Raises UserError when the source is too short for one sequence. Ids after the last whole sequence are not
    used.
    """

    def __init__(self, shards: TokenShards, seq_len: int) -> None:
        if seq_len < 1:
            raise UserError(f"seq_len is at least 1, not {seq_len}")
        if shards.num_tokens < seq_len + 1:
            raise UserError(
                f"source {shards.source} split {shards.split} has {shards.num_tokens} tokens, fewer than "
                f"the {seq_len + 1} of one sequence (seq_len + 1); set seq_len to at most "
                f"{shards.num_tokens - 1}, or use more data"
            )
        self.shards, self.seq_len = shards, seq_len

    def __len__(self) -> int:
        return (self.shards.num_tokens - 1) // self.seq_len

    def __getitem__(self, k: int) -> NDArray[np.int64]:
        """Sequence `k`, int64 [L1]. Raises IndexError outside of [0, len)."""
        if not 0 <= k < len(self):
            raise IndexError(f"sequence {k} of {self.shards.source}/{self.shards.split}: has {len(self)}")
        return self.shards.read(k * self.seq_len, self.seq_len + 1)


def to_batch(
    tokens_BL1: NDArray[np.int64], eod_id: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Ids [B, L1] to (input_BL, labels_BL, positions_BL), each int64.

    Labels are the next ids, and IGNORE_INDEX where the input is the end-of-document id: what follows it is
    another document, which cannot be foretold. Positions count from 0 at the start of the sequence and again
    after each end-of-document id; attention masks are made from these restarts, so packed documents do not
    see each other.
    """
    input_BL = tokens_BL1[:, :-1]
    is_end_BL = input_BL == eod_id
    labels_BL = np.where(is_end_BL, IGNORE_INDEX, tokens_BL1[:, 1:])
    place_L = np.arange(input_BL.shape[1], dtype=np.int64)
    starts_BL = np.zeros_like(input_BL)
    starts_BL[:, 1:] = np.where(is_end_BL[:, :-1], place_L[1:], 0)
    positions_BL = place_L - np.maximum.accumulate(starts_BL, axis=1)
    return np.ascontiguousarray(input_BL), labels_BL, positions_BL
