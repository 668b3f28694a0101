"""A file that the first of several writers fills, and no other: of two that mean the same work one may do it."""

import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path

_PATIENCE_S = 5.0  # from the making of a file to its content, where that is not one step
_RETRY_S = 0.05


def claim(file: Path, who: str) -> str:
    """Puts a name into a file unless there is one; returns the name that is in it. Raises OSError."""
    if not file.exists():
        descriptor, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        try:
            _fill(descriptor, who)
            _link(temporary, file, who)
        finally:
            os.unlink(temporary)
    return _read(file)


def _link(temporary: str, file: Path, who: str) -> None:
    """Gives the file its name unless that is taken: in one step with its content, where the file system has links."""
    try:
        os.link(temporary, file)
    except FileExistsError:
        return
    except OSError:  # some file servers have none, and each says so in its own way
        with suppress(FileExistsError):
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            try:
                _fill(descriptor, who)
            except OSError:  # a full disk: else whoever comes next would wait for the content
                os.unlink(file)
                raise


def _fill(descriptor: int, who: str) -> None:
    with os.fdopen(descriptor, "w") as opened:
        os.fchmod(descriptor, 0o644)
        opened.write(f"{who}\n")
        opened.flush()
        os.fsync(opened.fileno())


def _read(file: Path) -> str:
    """Waits for the content if another writer is just about to put it there."""
    deadline = time.monotonic() + _PATIENCE_S
    while not (owner := file.read_text()).endswith("\n"):
        if time.monotonic() >= deadline:
            raise OSError(f"{file} has no content, its writer was killed; remove it and type the same again")
        time.sleep(_RETRY_S)
    return owner.strip()
