"""What came from an object store, kept on a disk of the node: bounded, and shared by all processes of the node.

A file is named by the hash of its content, so it can belong to no other version of a shard, and a damaged one is found
when it is read. Processes agree through locks on files (flock), which the system frees when a process ends.
"""

import fcntl
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import xxhash

from mmhydra.data.storage.store import Bytes, LocalStore

_FILE, _TEMPORARY = ".chunk", ".tmp"
_LOCK, _USED = ".lock", ".used"
_STALE_S = 3600.0  # a temporary file that is older was left by a process that is no more
_EVICT_TO = 0.9  # of the limit: making room reads the folder, which should be seldom
_POLL_S = 0.02
_PAUSE_S = 300.0  # after a write that failed: a disk that was full may have room again
_NUM_LOCKS = 4096  # chunks that share a lock wait for each other's fetching, with all of its retries


class DiskCache:
    """Files below `folder`, together never more than `max_bytes`; what was used longest ago makes room.

    Where it can't be written (a full disk), that is said once on standard error, and reading goes on without it; it is
    tried again after some minutes.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder, self._max_bytes = folder, max_bytes
        self._paused_until = 0.0  # on the monotonic clock
        self._is_told = False
        self._files = LocalStore()
        self._make_folders()

    def read(self, digest: str) -> Bytes | None:
        """The content whose xxh3_128 is `digest` (32 hexadecimal digits), if it is here and whole."""
        path = self._path(digest)
        try:
            content = self._files.read(str(path))
        except OSError:
            return None
        if xxhash.xxh3_128_hexdigest(content.data) != digest:
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):
            os.utime(path)  # its last use; the time of access is not kept everywhere
        return content

    def write(self, digest: str, content: Bytes) -> None:
        """Keeps a content."""
        if content.nbytes > self._max_bytes or not self._is_writable():
            return
        temporary = self.folder / f".{digest}.{os.getpid()}.{threading.get_ident()}{_TEMPORARY}"
        try:
            with temporary.open("wb") as file:
                with self._lock(self.folder / _LOCK):
                    used = self._used()
                    if used + content.nbytes > self._max_bytes:
                        used = self._make_room(content.nbytes)
                        if used + content.nbytes > self._max_bytes:  # with what other processes are writing
                            temporary.unlink()
                            return
                    # It has its size from here on, so whoever adds up the sizes counts what is on its way.
                    file.truncate(content.nbytes)
                    (self.folder / _USED).write_text(str(used + content.nbytes))
                file.write(np.ascontiguousarray(content).data)
            with self._lock(self.folder / _LOCK):  # or who adds up might see neither name
                os.replace(temporary, self._path(digest))
        except OSError as error:
            self._pause(error)
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    @contextmanager
    def fetching(self, digest: str, wait_s: float, ended: threading.Event | None = None) -> Iterator[None]:
        """One process at a time fetches a content, the others find it here; after `wait_s` none waits any longer.

        Nor does any after `ended` is set.
        """
        ended = ended or threading.Event()
        try:
            # Not a lock for each content: nobody could ever remove its file.
            file = (self.folder / ".locks" / f"{int(digest, 16) % _NUM_LOCKS:03x}").open("a")
        except OSError:
            yield
            return
        with file:
            end = time.monotonic() + wait_s
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    if time.monotonic() < end and not ended.wait(_POLL_S):
                        continue
                except OSError:
                    pass  # a file system without locks: several may fetch the same
                break
            yield

    def _path(self, digest: str) -> Path:
        return self.folder / f"{digest}{_FILE}"

    def _used(self) -> int:
        """Bytes of all files, at least: what others removed by hand is counted until room has to be made."""
        try:
            return int((self.folder / _USED).read_text())
        except (OSError, ValueError):
            return sum(size for _, size, _ in self._listing())

    def _make_room(self, more: int) -> int:
        """Removes what was used longest ago; what is left has so many bytes."""
        listing = sorted(self._listing())
        used = sum(size for _, size, _ in listing)
        target = max(int(_EVICT_TO * self._max_bytes) - more, 0)
        stale = time.time() - _STALE_S
        for used_at, size, path in listing:
            if path.name.endswith(_TEMPORARY):
                if used_at > stale:
                    continue
            elif used <= target:
                break
            path.unlink(missing_ok=True)
            used -= size
        return used

    def _listing(self) -> list[tuple[float, int, Path]]:
        """Time of last use, size and path of each file."""
        found = []
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if entry.name.endswith((_FILE, _TEMPORARY)):
                    with suppress(FileNotFoundError):
                        facts = entry.stat()
                        found.append((facts.st_mtime, facts.st_size, Path(entry.path)))
        return found

    def _make_folders(self) -> bool:
        try:
            (self.folder / ".locks").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self._pause(error)
            return False
        return True

    def _is_writable(self) -> bool:
        """False for a while after a write has failed. The folder may have been removed meanwhile, or never made."""
        if time.monotonic() < self._paused_until:
            return False
        return self._paused_until == 0.0 or self._make_folders()

    def _pause(self, error: OSError) -> None:
        self._paused_until = time.monotonic() + _PAUSE_S
        if not self._is_told:
            self._is_told = True
            reason = error.strerror or error
            print(
                f"note: the cache loader.store.cache_dir={self.folder} can't be written ({reason}): reading on "
                f"without it, and trying it again every {_PAUSE_S / 60:.0f} minutes. Free some space, or lower "
                "loader.store.cache_gb",
                file=sys.stderr,
            )

    @staticmethod
    @contextmanager
    def _lock(path: Path) -> Iterator[None]:
        with path.open("a") as file:
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
            yield
