"""Reads what others are writing: a file that is missing, half there or broken is no reason to show nothing."""

import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mmhydra.files import time_of_file_system
from mmhydra.track.jsonl import decode

TAIL_BYTES = 256 * 1024  # hundreds of records; metrics.jsonl of a long run has hundreds of megabytes


def newest_records(path: Path, num_bytes: int = TAIL_BYTES) -> list[dict[str, Any]]:
    """The whole records in the last bytes of a file of JSON lines, oldest first."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - num_bytes - 1))
            lines = file.read().splitlines()
    except OSError:
        return []
    if size > num_bytes + 1:
        lines = lines[1:]  # it may begin in the middle
    return [record for record in map(decode, lines) if record is not None]


def read_dated(path: Path) -> tuple[dict[str, Any], float | None]:
    """A JSON object, empty if none can be read, and when its file was written, as of `written_at`."""
    try:
        descriptor = os.open(path, os.O_RDONLY)  # Python's own files ask three times for the size
    except OSError:
        return {}, None
    try:
        about = os.fstat(descriptor)
        return decode(os.read(descriptor, about.st_size)) or {}, about.st_mtime
    except OSError:
        return {}, None
    finally:
        os.close(descriptor)


def first_record(path: Path) -> dict[str, Any]:
    """The first record of a file of JSON lines; empty if there is none."""
    try:
        with open(path, "rb") as file:
            return decode(file.readline()) or {}
    except OSError:
        return {}


def written_at(path: Path) -> float | None:
    """When a file was last written, by the clock of its file system, in seconds since the epoch."""
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def now_of(folder: Path) -> float:
    """The time that `written_at` is to be compared with. In a folder of somebody else's it is this host's."""
    try:
        return time_of_file_system(folder)
    except OSError:
        return time.time()


def number(value: Any) -> float | None:
    """A finite or infinite number that a record holds; records write NaN and the infinities as words."""
    try:
        return None if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None


def seconds(value: Any) -> float | None:
    """A moment that a record holds in ISO 8601, in seconds since the epoch; UTC where it has no time zone."""
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()


def integer(value: Any) -> int | None:
    """A whole number that a record holds."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def text(value: Any) -> str | None:
    """A text that a record holds; None for an empty one."""
    return value if isinstance(value, str) and value else None


def names(value: Any) -> list[str]:
    """A list of names that a record holds."""
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
