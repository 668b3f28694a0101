"""JSON lines of the work folder."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mmhydra.files import sync, write_atomic


def write_lines(path: Path, documents: Sequence[dict[str, Any]]) -> None:
    """Writes all lines or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, b"".join(line_of(document) for document in documents))


def stream_lines(path: Path, documents: Iterable[dict[str, Any]]) -> None:
    """Writes lines as they come: no more than one is in memory. A file of that name is written over."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.writelines(line_of(document) for document in documents)
    sync(path)


def line_of(document: dict[str, Any]) -> bytes:
    """One line, its newline included."""
    return json.dumps(document, ensure_ascii=False).encode() + b"\n"


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The documents of a file, one at a time."""
    with path.open("rb") as file:
        for line in file:
            yield json.loads(line)
