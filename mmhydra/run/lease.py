"""One start of a run at a time, on one host or on many.

On one host the kernel's lock decides: it dies with the process that holds it, so kill -9 frees it at once. Between
hosts, and on a file system without locks, a heartbeat decides: the file's time, which the holder renews. It is
compared with the time that the same file system gives to a file written now, so no two clocks are compared.
"""

import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from mmhydra.errors import UserError
from mmhydra.files import time_of_file_system
from mmhydra.run.directory import RunDirectory

BEAT_S = 5.0
STALE_S = 60.0  # a holder that was silent for so long is dead
SETTLE_S = 1.0  # without locks: longer than a start takes from reading the file to writing it
_SIZE = 1024  # bytes; the file is padded to it and written at once, so no reader sees half of it


class LeaseError(UserError):
    """Somebody else is writing to the run."""


class Lease:
    """The right to start attempts of a run. `lease.json` names the owner for whoever comes second."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._owner: dict[str, Any] = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": datetime.now(UTC).isoformat(),
            "attempt": None,
            "released": False,
        }
        self._write()

    @property
    def is_ours(self) -> bool:
        """Whether the file still names this holder."""
        return _read(self._descriptor) == self._owner

    def started(self, attempt: int) -> None:
        """Notes the attempt that the holder has started."""
        self._note(attempt=attempt)

    def beat(self) -> None:
        """Says that the holder lives."""
        with suppress(OSError):  # a file server that is away for a moment ends no run
            os.utime(self._descriptor)

    def release(self) -> None:
        """Says that the holder ended, so that other hosts need not wait."""
        self._note(released=True)

    def _note(self, **changes: Any) -> None:
        with suppress(OSError):  # a full disk must not hide how the run ended; the heartbeat ends all the same
            if self.is_ours:
                self._owner |= changes
                self._write()

    def _write(self) -> None:
        os.pwrite(self._descriptor, json.dumps(self._owner).encode().ljust(_SIZE), 0)
        os.ftruncate(self._descriptor, _SIZE)


@contextmanager
def hold(run: RunDirectory) -> Iterator[Lease]:
    """Holds the run's lease, or raises LeaseError that names the owner."""
    try:
        descriptor = os.open(run.lease, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise LeaseError(f"the run can't be taken: {error}") from error
    try:
        lease = _take(descriptor, run)
        ended = threading.Event()
        heart = threading.Thread(target=_keep_beating, args=(lease, ended), name="lease", daemon=True)
        heart.start()
        try:
            yield lease
        finally:
            ended.set()
            heart.join()
            lease.release()
    finally:
        os.close(descriptor)


def _take(descriptor: int, run: RunDirectory) -> Lease:
    try:
        locked = _lock(descriptor, run)
        _require_free(descriptor, run, locked)
        lease = Lease(descriptor)
        if not locked:
            time.sleep(SETTLE_S)
            if not lease.is_ours:  # of starts at the same instant the last to write has it
                raise LeaseError(f"the run {run.path} is under way, {_owner(descriptor)}")
    except OSError as error:
        raise LeaseError(f"the run can't be taken: {error}") from error
    return lease


def _lock(descriptor: int, run: RunDirectory) -> bool:
    """Whether the kernel's lock is held; False on a file system that has none."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise LeaseError(f"the run {run.path} is under way, {_owner(descriptor)}") from error
    except OSError:
        return False
    return True


def _require_free(descriptor: int, run: RunDirectory, locked: bool) -> None:
    owner, state = _read(descriptor), os.fstat(descriptor)
    if state.st_size == 0 or owner.get("released"):
        return
    if locked and owner.get("host") == socket.gethostname():
        return  # a process of this host whose lock the kernel has freed
    silent_s = time_of_file_system(run.path) - state.st_mtime
    if silent_s < STALE_S:
        raise LeaseError(
            f"the run {run.path} is under way, {_owner(descriptor)}, last heard of {max(0.0, silent_s):.0f} s ago; if "
            f"it is dead, try again in {STALE_S - max(0.0, silent_s):.0f} s"
        )


def _keep_beating(lease: Lease, ended: threading.Event) -> None:
    while not ended.wait(BEAT_S):
        lease.beat()


def _read(descriptor: int) -> dict[str, Any]:
    try:
        owner = json.loads(os.pread(descriptor, 4096, 0))
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}


def _owner(descriptor: int) -> str:
    owner = _read(descriptor)
    if not {"pid", "host", "since"} <= owner.keys():
        return "started by another process"
    attempt = f", attempt {owner['attempt']}" if owner.get("attempt") else ""
    return f"started by process {owner['pid']} on {owner['host']} at {str(owner['since'])[:19]}{attempt}"
