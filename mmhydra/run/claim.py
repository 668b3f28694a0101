"""A file that the first of several writers fills, and no other: of two that mean the same work one may do it."""

import os
import tempfile
from pathlib import Path


def claim(file: Path, who: str) -> str:
    """Puts a name into a file unless there is one; returns the name that is in it. Raises OSError."""
    if not file.exists():
        descriptor, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        try:
            with os.fdopen(descriptor, "w") as opened:
                os.fchmod(descriptor, 0o644)
                opened.write(f"{who}\n")
                opened.flush()
                os.fsync(opened.fileno())
            os.link(temporary, file)  # in one step with its content; fails if the name is taken, on any file system
        except FileExistsError:
            pass
        finally:
            os.unlink(temporary)
    return file.read_text().strip()
