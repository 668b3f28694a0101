"""The index of a shard: where in the tar each document's token ids lie.

An index is an int64 array of shape [num_documents, 2]: the byte offset of the first id inside the tar and the
number of ids. It is derived from the tar alone, so it can always be made again and compared. The ids are
stored as `token_dtype(vocabulary size)`; every offset is a multiple of 64, so a memory map of the tar can be
viewed as ids.
"""

import tarfile
from typing import IO

import numpy as np
from numpy.typing import NDArray

from mmhydra.errors import UserError

INDEX_SUFFIX = ".idx.npy"
TOKENS_SUFFIX = ".tokens.npy"


class ShardError(UserError):
    """A shard or its index is missing, damaged or not what the manifest says."""


def token_dtype(vocab_size: int) -> np.dtype[np.uint16] | np.dtype[np.uint32]:
    """The little-endian unsigned type of ids below `vocab_size`: two bytes when they suffice, else four."""
    if not 0 < vocab_size <= 1 << 32:
        raise UserError(f"a vocabulary has between 1 and {1 << 32} ids, not {vocab_size}")
    return np.dtype("<u2") if vocab_size <= 1 << 16 else np.dtype("<u4")


def build_index(file: IO[bytes], name: str, vocab_size: int) -> NDArray[np.int64]:
    """Scan the tar headers of `file` (seekable, at its start) and return its index, int64 [num_documents, 2].

    `name` is for messages. Raises ShardError where the tar is cut off, is no tar, or holds ids of another
    type.
    """
    dtype = token_dtype(vocab_size)
    rows: list[tuple[int, int]] = []
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                if member.name.endswith(TOKENS_SUFFIX):
                    rows.append(_token_data(file, member, name, dtype))
    except tarfile.TarError as error:
        raise ShardError(f"{name} is not a whole tar: {error}. Build or copy the dataset again") from error
    return np.array(rows, dtype=np.int64).reshape(-1, 2)


def _token_data(file: IO[bytes], member: tarfile.TarInfo, name: str, dtype: np.dtype[np.generic]) -> tuple[int, int]:
    """Byte offset and number of the ids of one `.tokens.npy` member."""
    # tarfile seeks to the next header by itself, so moving the file here is safe.
    file.seek(member.offset_data)
    try:
        np.lib.format.read_magic(file)
        shape, _, found = np.lib.format.read_array_header_1_0(file)
    except ValueError as error:
        raise ShardError(f"{name}: {member.name} is not a .npy array: {error}") from error
    offset = file.tell()
    end = member.offset_data + member.size
    if found != dtype or len(shape) != 1 or offset + shape[0] * dtype.itemsize != end:
        raise ShardError(
            f"{name}: {member.name} holds {found} of shape {shape} in {member.size} bytes; "
            f"a document is a 1-D array of {dtype}"
        )
    return offset, int(shape[0])
