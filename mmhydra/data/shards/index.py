"""What is derived from a shard and lies beside it, so that any part of it is found and checked without a scan.

A shard `x.tar` holds documents, each as `<key>.json` and `<key>.tokens.npy`. Its documents laid end to end are the
shard's *row* of ids; a *place* is a position in that row. Beside it are

    x.tar.idx.npy     int64 [num_documents, 2]: byte offset of the first id inside the tar, number of ids
    x.tar.seg.npy     int64 [num_segments, 5], in Fortran order (columns are contiguous): PLACE ... OPENER
    x.tar.chunks.npy  uint64 [num_chunks, 2]: high and low word of xxh3_128 of every `chunk_bytes` bytes of the tar

All three follow from the tar alone, so they can always be made again and compared. Ids are stored as
`token_dtype(vocabulary size)`; every offset is a multiple of 64, so the bytes of a chunk can be viewed as ids.
"""

import io
import json
import math
import re
import tarfile
from collections.abc import Iterable
from typing import IO, Any, Literal, NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray

from mmhydra.config.tokens import MODALITIES
from mmhydra.data.shards.document import NO_OPENER, Segment, from_json
from mmhydra.data.storage.faults import ShardError
from mmhydra.errors import UserError

INDEX_SUFFIX = ".idx.npy"
SEGMENTS_SUFFIX = ".seg.npy"
CHUNKS_SUFFIX = ".chunks.npy"
INFO_SUFFIX = ".json"
TOKENS_SUFFIX = ".tokens.npy"

# Columns of a segment table. A segment ends where the next one begins, the last one where the row does.
PLACE, MODALITY, UNIT, LOSS, OPENER = range(5)
# A modality's code is its place in MODALITIES; codes from here on are signals, which are cut between units only.
FIRST_MEDIA = MODALITIES.index("image")

DEFAULT_CHUNK_BYTES = 16_000_000


class Sidecars(NamedTuple):
    """The three arrays beside a shard."""

    documents: NDArray[np.int64]
    segments: NDArray[np.int64]
    chunks: NDArray[np.uint64]

    def files(self) -> dict[str, bytes]:
        """What the files hold, by suffix."""
        arrays = (self.documents, np.asfortranarray(self.segments), self.chunks)
        return {suffix: npy(array) for suffix, array in zip(SIDECAR_SUFFIXES, arrays, strict=True)}


SIDECAR_SUFFIXES = (INDEX_SUFFIX, SEGMENTS_SUFFIX, CHUNKS_SUFFIX)

_NPY_MAGIC = b"\x93NUMPY\x01\x00"
_NPY_HEADER = re.compile(
    r"\{'descr': '([<|][iub][1-8])', 'fortran_order': (True|False), 'shape': \(([0-9, ]*)\), \} *\n"
)


def npy(array: NDArray[np.generic]) -> bytes:
    """An array as the bytes of a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def from_npy(content: NDArray[np.uint8], start: int) -> tuple[NDArray[Any], int]:
    """The array of a .npy file that begins at a byte of `content`, as a view, and where the file ends.

    np.load does the same by compiling Python, which CPython 3.11 gets wrong where several threads do it at a time
    ("AST constructor recursion depth mismatch"), and the trainer's own thread may compile at any time.

    Raises ValueError for anything but the arrays of numbers that `npy` writes.
    """
    size = int.from_bytes(content[start + 8 : start + 10].tobytes(), "little")
    begin = start + 10 + size
    if content[start : start + 8].tobytes() != _NPY_MAGIC or begin > len(content):
        raise ValueError("a file beside it is no .npy file of version 1.0")
    match = _NPY_HEADER.fullmatch(content[start + 10 : begin].tobytes().decode("latin-1"))
    if match is None:
        raise ValueError("a file beside it is a .npy file of another kind of array")
    dtype = np.dtype(match[1])
    order: Literal["F", "C"] = "F" if match[2] == "True" else "C"
    shape = tuple(int(length) for length in match[3].split(",") if length.strip())
    end = begin + dtype.itemsize * math.prod(shape)
    if end > len(content):
        raise ValueError("a file beside it ends before its array does")
    return content[begin:end].view(dtype).reshape(shape, order=order), end


def digest_of(files: Iterable[bytes | memoryview]) -> str:
    """xxh3_128 of several files end to end, 32 hexadecimal digits: the manifest keeps that of a shard's sidecars."""
    hashed = xxhash.xxh3_128()
    for content in files:
        hashed.update(content)
    return hashed.hexdigest()


def token_dtype(vocab_size: int) -> np.dtype[np.uint16] | np.dtype[np.uint32]:
    """The little-endian unsigned type of ids below `vocab_size`: two bytes when they suffice, else four."""
    if not 0 < vocab_size <= 1 << 32:
        raise UserError(f"a vocabulary has between 1 and {1 << 32} ids, not {vocab_size}")
    return np.dtype("<u2") if vocab_size <= 1 << 16 else np.dtype("<u4")


def segment_rows(segments: Iterable[Segment], place: int) -> list[tuple[int, int, int, int, int]]:
    """The table's rows of one document whose first id is at `place`. ValueError for an unknown modality."""
    return [(place + s.start, MODALITIES.index(s.modality), s.unit, s.loss, s.opener) for s in segments]


def segments_from_rows(rows: NDArray[np.int64], start: int, end: int) -> tuple[Segment, ...]:
    """The inverse: segments of the document that fills the places from `start` to `end`."""
    places = [*rows[:, PLACE].tolist(), end]
    return tuple(
        Segment(MODALITIES[modality], place - start, following - place, unit, bool(loss), opener)
        for (place, modality, unit, loss, opener), following in zip(rows.tolist(), places[1:], strict=True)
    )


def scan(file: IO[bytes], name: str, vocab_size: int, first_key: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Index and segment table of a tar (seekable, at its start), whose keys count from `first_key`.

    `name` is for messages. Raises ShardError where the tar is cut off, is no tar, or holds something else than
    documents.
    """
    dtype = token_dtype(vocab_size)
    index: list[tuple[int, int]] = []
    table: list[tuple[int, int, int, int, int]] = []
    place = 0
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while info := tar.next():
                key = f"{first_key + len(index):09d}"
                tokens = tar.next()
                if info.name != key + INFO_SUFFIX or tokens is None or tokens.name != key + TOKENS_SUFFIX:
                    there = f"{info.name} and {tokens.name if tokens else 'nothing'}"
                    raise ShardError(f"{name}: {there}, where {key}{INFO_SUFFIX} and {key}{TOKENS_SUFFIX} should be")
                offset, count = _token_data(file, tokens, name, dtype)
                file.seek(info.offset_data)
                table += segment_rows(_segments(file.read(info.size), name, key, count), place)
                index.append((offset, count))
                place += count
                tar.members.clear()  # type: ignore[attr-defined]  # tarfile keeps every member it has seen
    except tarfile.TarError as error:
        raise ShardError(f"{name} is not a whole tar: {error}. Build or copy the dataset again") from error
    return np.array(index, np.int64).reshape(-1, 2), np.array(table, np.int64).reshape(-1, 5)


def _segments(text: bytes, name: str, key: str, count: int) -> tuple[Segment, ...]:
    try:
        segments = from_json(json.loads(text)["segments"])
    except (ValueError, TypeError, KeyError) as error:
        raise ShardError(f"{name}: {key}{INFO_SUFFIX} lists no segments ({error!r})") from error
    place = 0
    for segment in segments:
        sound = segment.start == place and segment.length > 0 and segment.unit > 0 and segment.opener >= NO_OPENER
        if not sound or segment.length % segment.unit or segment.modality not in MODALITIES:
            raise ShardError(f"{name}: {key}{INFO_SUFFIX} has a segment that can't be: {list(segment)}")
        place += segment.length
    if place != count:
        raise ShardError(f"{name}: the segments of {key} cover {place} of {count} ids")
    return segments


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
    if found != dtype or len(shape) != 1 or not shape[0] or offset + shape[0] * dtype.itemsize != end:
        raise ShardError(
            f"{name}: {member.name} holds {found} of shape {shape} in {member.size} bytes; "
            f"a document is a 1-D array of {dtype}"
        )
    return offset, int(shape[0])
