"""JSON lines of a build's stages."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mmhydra.files import write_parts


def write_lines(path: Path, documents: Iterable[dict[str, Any]]) -> None:
    """Writes lines as they come, no more than one in memory; the file gets its name when all are on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_parts(path, map(line_of, documents))


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
