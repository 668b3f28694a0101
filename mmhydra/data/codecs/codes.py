"""Codes of several codebooks as one row of local ids, and back; and the delay pattern."""

import numpy as np
from numpy.typing import NDArray

from mmhydra.data.codecs.protocol import CodecError, Ids


def to_ids(codes: NDArray[np.integer], codebook_size: int) -> Ids:
    """Codes [n, K] as ids [n * K], the K codebooks of each row beside each other."""
    offsets = np.arange(codes.shape[1], dtype=np.int64) * codebook_size
    return (codes.astype(np.int64) + offsets).reshape(-1)


def to_codes(ids: Ids, num_codebooks: int, codebook_size: int, unit: int) -> Ids:
    """The inverse of `to_ids`. Raises CodecError for ids that are no whole units, or in the wrong codebook's range."""
    if ids.ndim != 1 or len(ids) == 0 or len(ids) % unit:
        raise CodecError(f"{ids.size} ids are no whole number of units; a unit is {unit} ids and there is at least one")
    codes = ids.astype(np.int64).reshape(-1, num_codebooks) - np.arange(num_codebooks) * codebook_size
    outside = (codes < 0) | (codes >= codebook_size)
    if outside.any():
        place = int(np.flatnonzero(outside.reshape(-1))[0])
        start = place % num_codebooks * codebook_size
        raise CodecError(
            f"id {int(ids[place])} at place {place} is not from {start} to {start + codebook_size - 1}, the range of "
            f"codebook {place % num_codebooks}: the ids are shifted, damaged, or from another codec"
        )
    return codes


def delay(codes: Ids) -> Ids:
    """Codes of T frames [T, K] as T + K - 1 rows: row s holds codebook k of frame s - k.

    Where that is before the first or after the last frame, that frame repeats: every id stays a code, none is lost.
    """
    num_frames, num_codebooks = codes.shape
    steps = np.arange(num_frames + num_codebooks - 1)[:, None] - np.arange(num_codebooks)
    return np.take_along_axis(codes, steps.clip(0, num_frames - 1), axis=0)


def undelay(rows: Ids) -> Ids:
    """The inverse of `delay`: rows [S, K] as the S - K + 1 frames that are whole. Raises CodecError if none is."""
    num_rows, num_codebooks = rows.shape
    num_frames = num_rows - num_codebooks + 1
    if num_frames < 1:
        raise CodecError(f"{num_rows} rows of the delay pattern hold no whole frame; it takes {num_codebooks}")
    return np.take_along_axis(rows, np.arange(num_frames)[:, None] + np.arange(num_codebooks), axis=0)
