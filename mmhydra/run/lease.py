"""One start of a run at a time, on one host or on many.

On one host the kernel's lock decides: it dies with the process that holds it, so kill -9 frees it at once. Between
hosts, where a file system may not carry locks, a heartbeat decides: the file's time, which the holder renews. It is
compared with the time that the same file system gives to a file written now, so no two clocks are compared.
"""

import fcntl
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from mmhydra.errors import UserError
from mmhydra.files import time_of_file_system
from mmhydra.run.directory import RunDirectory

BEAT_S = 5.0
STALE_S = 60.0  # a holder on another host that was silent for so long is dead


class LeaseError(UserError):
    """Somebody else is writing to the run."""


class Lease:
    """The right to start attempts of a run. `lease.json` names the owner for whoever comes second."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._owner: dict[str, Any] = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
            "attempt": None,
            "released": False,
        }
        self._write()

    def started(self, attempt: int) -> None:
        """Notes the attempt that the holder has started."""
        self._owner["attempt"] = attempt
        self._write()

    def beat(self) -> None:
        """Says that the holder lives."""
        os.utime(self._descriptor)

    def release(self) -> None:
        """Says that the holder ended, so that other hosts need not wait."""
        self._owner["released"] = True
        self._write()

    def _write(self) -> None:
        text = json.dumps(self._owner).encode()
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, text, 0)


@contextmanager
def hold(run: RunDirectory) -> Iterator[Lease]:
    """Holds the run's lease, or raises LeaseError that names the owner."""
    try:
        descriptor = os.open(run.lease, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise LeaseError(f"the run can't be taken: {error}") from error
    try:
        _lock(descriptor, run)
        _require_no_other_host(descriptor, run)
        lease = Lease(descriptor)
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


def _lock(descriptor: int, run: RunDirectory) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise LeaseError(f"the run {run.path} is under way, {_owner(descriptor)}") from error
    except OSError:
        return  # a file system without locks: the heartbeat alone decides


def _require_no_other_host(descriptor: int, run: RunDirectory) -> None:
    owner = _read(descriptor)
    if owner.get("released", True) or owner.get("host") == socket.gethostname():
        return  # ended, or a process of this host whose lock the kernel has freed
    silent_s = time_of_file_system(run.path) - os.fstat(descriptor).st_mtime
    if silent_s < STALE_S:
        raise LeaseError(
            f"the run {run.path} is under way, {_owner(descriptor)}, last heard of {max(0.0, silent_s):.0f} s ago; if "
            f"that host is dead, try again in {STALE_S - silent_s:.0f} s"
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
    return f"started by process {owner['pid']} on {owner['host']} at {owner['since']}{attempt}"
