"""JSON lines of the work folder."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mmhydra.files import sync


def write_lines(path: Path, documents: Iterable[dict[str, Any]]) -> None:
    """Writes lines as they come, no more than one in memory; the file gets its name when all are on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.writelines(line_of(document) for document in documents)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)


def line_of(document: dict[str, Any]) -> bytes:
    """One line, its newline included."""
    return json.dumps(document, ensure_ascii=False).encode() + b"\n"


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The documents of a file, one at a time."""
    with path.open("rb") as file:
        for line in file:
            yield json.loads(line)


def texts_of(line: Mapping[str, Any]) -> Iterator[str]:
    """The texts of a candidate, which is a line that the stage `read` leaves: its own, and those of its captions."""
    if line["text"]:
        yield line["text"]
    for caption in line["captions"]:
        yield caption["text"]
