"""Where bytes come from: the protocol of a store, and the local file system."""

import errno
import os
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]


class StoreError(OSError):
    """A store does not answer, or not with what it was asked for."""


class NoAnswer(StoreError):
    """A store has not answered in time."""


class Store(Protocol):
    """Files by path. Any number of threads may use one store at the same time."""

    def read(self, path: str, start: int = 0, length: int | None = None) -> Bytes:
        """`length` bytes from `start` on, or all that follow; fewer where the file ends.

        Raises FileNotFoundError, PermissionError, or another OSError.
        """

    def size(self, path: str) -> int:
        """Bytes of a file. Raises as `read` does."""

    def names(self, folder: str) -> list[str]:
        """Names of the files in a folder; none if there is no such folder. Raises OSError."""

    def where(self, path: str) -> str:
        """A path or URL that a person can follow."""

    def close(self) -> None:
        """Ends connections. The store is of no more use."""


class LocalStore:
    """Files of this machine, those on a network file system included; paths as the system takes them."""

    def read(self, path: str, start: int = 0, length: int | None = None) -> Bytes:
        """As Store has it. The file is opened anew each time, so one that was moved away is missed at once."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if length is None:
                length = max(os.fstat(descriptor).st_size - start, 0)
            # Large arrays of numpy lie on huge pages, which makes reading into them faster than into new bytes.
            buffer = np.empty(length, np.uint8)
            done = 0
            while done < length:
                count = os.preadv(descriptor, [buffer[done:].data], start + done)
                if count == 0:
                    break
                done += count
            return buffer[:done]
        finally:
            os.close(descriptor)

    def size(self, path: str) -> int:
        """As Store has it."""
        return os.stat(path).st_size

    def names(self, folder: str) -> list[str]:
        """As Store has it."""
        try:
            return sorted(entry.name for entry in Path(folder).iterdir() if entry.is_file())
        except FileNotFoundError:
            return []

    def where(self, path: str) -> str:
        """As Store has it."""
        return path

    def close(self) -> None:
        """Nothing is open."""


def is_passing(error: OSError) -> bool:
    """Whether the same read may succeed later: not where a file is missing, or may not be read."""
    lasting = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
    return not (isinstance(error, lasting) or error.errno in (errno.ELOOP, errno.ENAMETOOLONG))
