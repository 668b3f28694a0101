"""Append-only JSON lines that survive kill -9 and a full disk."""

import json
import math
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmhydra.track.sink import TrackError


class JsonlWriter:
    """Appends records to one file, one `os.write` a record, so that a kill tears at most the last line.

    Only one process writes a file; threads of that process may share a writer.

    Raises:
        OSError: the file cannot be opened (its folder must exist).
    """

    dropped: int
    """Records that never reached the file whole, because the disk was full or failing."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.dropped = 0
        self._warned = False
        self._lock = threading.Lock()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._fd: int | None = os.open(self.path, flags, 0o644)
        # A torn line gets its newline together with the next record: one write, and the record is readable.
        self._torn = not _ends_with_newline(self.path)

    def write(self, record: Mapping[str, Any]) -> None:
        """Append `record` as one line of valid JSON; NaN and the infinities become strings.

        A failing disk does not raise: the record is dropped and counted, and stderr says so once.

        Raises:
            TrackError: the writer is closed.
        """
        data = encode(record)
        with self._lock:
            if self._fd is None:
                raise TrackError(f"the writer of {self.path} is closed")
            if self._torn:
                data = b"\n" + data
            try:
                num_written = os.write(self._fd, data)
            except OSError as exc:
                self._drop(str(exc))
                return
            # A disk that fills up takes the first part of a line and no more.
            if num_written < len(data):
                self._torn = True
                self._drop(f"only {num_written} of {len(data)} bytes fitted")
            else:
                self._torn = False

    def flush(self) -> None:
        """Ask the kernel to put everything on the disk (fsync); a disk that refuses is warned about once."""
        with self._lock:
            if self._fd is not None:
                try:
                    os.fsync(self._fd)
                except OSError as exc:
                    self._warn(f"mmhydra: cannot fsync {self.path}: {exc}")

    def close(self) -> None:
        """Close the file. A second call does nothing."""
        with self._lock:
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None

    def _drop(self, reason: str) -> None:
        self.dropped += 1
        self._warn(f"mmhydra: a metrics record was dropped, more may follow: {self.path}: {reason}")

    def _warn(self, text: str) -> None:
        if not self._warned:
            self._warned = True
            print(text, file=sys.stderr, flush=True)


def encode(record: Mapping[str, Any]) -> bytes:
    """`record` as one line of JSON with its newline. Values JSON does not know become numbers or text."""
    try:
        text = json.dumps(record, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError):  # a non-finite float, or something JSON does not know
        text = json.dumps(_plain(record), allow_nan=False, separators=(",", ":"))
    return text.encode() + b"\n"


def decode(line: bytes) -> dict[str, Any] | None:
    """The record in `line`; None for a torn or invalid one."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def read_jsonl(path: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """The records of `path` in order; torn and invalid lines are skipped.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        for line in file:
            record = decode(line)
            if record is not None:
                yield record


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        if math.isnan(value):
            return "NaN"
        return "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    # Scalars of numpy and torch. Anything else becomes text: a metric of an odd type must not end a run.
    if getattr(value, "ndim", None) == 0:
        return _plain(value.item())
    return str(value)


def _ends_with_newline(path: Path) -> bool:
    with open(path, "rb") as file:
        # Reading the last byte needs a size; a device such as /dev/full has none and counts as empty.
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            return True
        file.seek(size - 1)
        return file.read(1) == b"\n"
