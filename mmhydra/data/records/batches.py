"""Record files as batches with addresses: any process can read any batch, and none holds more than one.

JSONL is addressed by bytes; gzip by lines, Parquet by rows inside a row group. Of the latter two a process unpacks what
stands before its batch, but not again what it unpacked for the one before.
"""

import glob
import gzip
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, cast

import pyarrow as pa
import pyarrow.parquet as pq

from mmhydra.data.records.streams import LineStream, RowStream, going_on
from mmhydra.errors import UserError

MAX_LINE_BYTES = 16 * 1024 * 1024  # a longer line is one bad record
_SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".jsonl.gz": "gzip", ".ndjson.gz": "gzip", ".parquet": "parquet"}
_BOM = b"\xef\xbb\xbf"

Kind = Literal["jsonl", "gzip", "parquet"]


class RecordFileError(UserError):
    """A file of records is not there, or is bad as a whole."""


class BatchRef(NamedTuple):
    """Where a batch is: bytes [start, stop) of JSONL, lines of gzip, rows inside a row group of Parquet."""

    path: str
    kind: Kind
    start: int
    stop: int
    first: int  # number of the first line or row in the file, from 1
    num_records: int  # lines (blank ones too) or rows
    row_group: int = 0


class RawRecord(NamedTuple):
    """One line or row, unparsed."""

    place: str  # file:line
    value: bytes | dict[str, Any]
    fault: Literal["", "line_too_long", "unended"] = ""  # unended: no newline at the end of the file


def list_files(patterns: Sequence[str], folder: Path) -> list[Path]:
    """The files that glob patterns (`**` too), relative to `folder`, match: sorted, each once.

    Raises RecordFileError for a pattern that matches none, and for a file of an unknown kind.
    """
    found: set[Path] = set()
    for pattern in patterns:
        matches = [folder / match for match in glob.glob(pattern, root_dir=folder, recursive=True)]
        files = [match for match in matches if match.is_file()]
        if not files:
            raise RecordFileError(f"no record file matches {pattern} in {folder}; give a path or pattern that does")
        found.update(files)
    for path in found:
        _kind(path)
    return sorted(found)


def scan(
    files: Iterable[Path],
    records_per_batch: int,
    max_line_bytes: int = MAX_LINE_BYTES,
    max_batch_bytes: int | None = None,
) -> Iterator[BatchRef]:
    """The batches of all files, in order. Reads JSONL once, as a stream. Raises RecordFileError.

    A batch of JSONL ends with the line that reaches `max_batch_bytes`, if it has not enough records before.
    """
    assert records_per_batch > 0
    for path in files:
        kind = _kind(path)
        if kind == "parquet":
            yield from _scan_parquet(path, records_per_batch)
        else:
            yield from _scan_lines(path, kind, records_per_batch, max_line_bytes, max_batch_bytes)


def read(ref: BatchRef, max_line_bytes: int = MAX_LINE_BYTES) -> Iterator[RawRecord]:
    """The records of one batch; blank lines are none. Raises RecordFileError."""
    return _read_parquet(ref) if ref.kind == "parquet" else _read_lines(ref, max_line_bytes)


def _kind(path: Path) -> Kind:
    for suffix, kind in _SUFFIXES.items():
        if path.name.lower().endswith(suffix):
            return cast(Kind, kind)
    raise RecordFileError(f"{path}: not a file of records; known are {', '.join(f'*{suffix}' for suffix in _SUFFIXES)}")


class _Line(NamedTuple):
    content: bytes  # cut off beyond the limit
    size: int  # bytes of the whole line in the file
    too_long: bool
    ended: bool


def _lines(file: IO[bytes], max_line_bytes: int) -> Iterator[_Line]:
    """Lines of which at most the limit is in memory."""
    while content := file.readline(max_line_bytes + 1):
        size, part = len(content), content
        while len(part) > 0 and not part.endswith(b"\n"):
            part = file.readline(1 << 20)
            size += len(part)
        ended = part.endswith(b"\n")
        yield _Line(content, size, size - ended > max_line_bytes, ended)


def _open(path: str | Path, kind: Kind) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb")) if kind == "gzip" else open(path, "rb")


def _unreadable(path: str | Path, error: Exception) -> RecordFileError:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return RecordFileError(f"{path}: cannot read this file of records ({reason}); mend it, or leave it out")


def _scan_lines(
    path: Path, kind: Kind, records_per_batch: int, max_line_bytes: int, max_batch_bytes: int | None
) -> Iterator[BatchRef]:
    start = place = number = 0  # bytes for JSONL, lines for gzip
    first = 1
    try:
        with _open(path, kind) as file:
            for line in _lines(file, max_line_bytes):
                number += 1
                place += 1 if kind == "gzip" else line.size
                is_large = kind == "jsonl" and max_batch_bytes is not None and place - start >= max_batch_bytes
                if is_large or number - first + 1 == records_per_batch:
                    yield BatchRef(str(path), kind, start, place, first, number - first + 1)
                    start, first = place, number + 1
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, error) from error
    if number >= first:
        yield BatchRef(str(path), kind, start, place, first, number - first + 1)


def _read_lines(ref: BatchRef, max_line_bytes: int) -> Iterator[RawRecord]:
    number = ref.first - 1
    last = number + ref.num_records
    try:
        with _lines_from(ref, max_line_bytes) as lines:
            while number < last:
                line = next(lines, None)
                if line is None:
                    break
                number += 1
                if raw := _raw(ref, number, line):
                    yield raw
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(ref.path, error) from error
    if number < last:
        raise _shorter(ref)


@contextmanager
def _lines_from(ref: BatchRef, max_line_bytes: int) -> Iterator[Iterator[_Line]]:
    """The lines from the first of a batch on."""
    if ref.kind == "jsonl":
        with open(ref.path, "rb") as file:
            file.seek(ref.start)
            yield _lines(file, max_line_bytes)
        return

    def begin() -> LineStream:
        file = _open(ref.path, ref.kind)
        return LineStream(file, _lines(file, max_line_bytes))

    with going_on(ref.path, max_line_bytes, ref.start, begin) as stream:
        lines = iter(stream)
        for _ in range(ref.start - stream.place):
            next(lines, None)
        yield lines


def _shorter(ref: BatchRef) -> RecordFileError:
    return RecordFileError(f"{ref.path}: shorter than when its batches were found; start again with the file at rest")


def _raw(ref: BatchRef, number: int, line: _Line) -> RawRecord | None:
    place = f"{ref.path}:{number}"
    if line.too_long:
        return RawRecord(place, b"", "line_too_long")
    content = line.content.removeprefix(_BOM) if number == 1 else line.content
    if not content.strip():
        return None
    return RawRecord(place, content.rstrip(b"\r\n"), "" if line.ended else "unended")


def _scan_parquet(path: Path, records_per_batch: int) -> Iterator[BatchRef]:
    try:
        metadata = pq.read_metadata(path)
        sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    except (OSError, pa.ArrowException) as error:  # ArrowInvalid is a ValueError too
        raise _unreadable(path, error) from error
    first = 1
    for group, size in enumerate(sizes):
        for start in range(0, size, records_per_batch):
            stop = min(size, start + records_per_batch)
            yield BatchRef(str(path), "parquet", start, stop, first + start, stop - start, group)
        first += size


def _read_parquet(ref: BatchRef) -> Iterator[RawRecord]:
    try:
        number = ref.first - 1
        begin = partial(RowStream, ref.path, ref.row_group)
        with going_on(ref.path, ref.row_group, ref.start, begin) as stream:
            for value in stream.rows(ref.start, ref.stop):
                number += 1
                yield RawRecord(f"{ref.path}:{number}", value)
    # ValueError and OverflowError: times beyond what Python's datetime holds, zones that do not exist.
    except (OSError, pa.ArrowException, KeyError, IndexError, ValueError, OverflowError, TypeError) as error:
        raise _unreadable(ref.path, error) from error
    if number < ref.first - 1 + ref.num_records:
        raise _shorter(ref)
