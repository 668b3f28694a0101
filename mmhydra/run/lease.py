"""One start of a run at a time, on one host or on many.

On one host the kernel's lock decides: it dies with the process that holds it, so kill -9 frees it at once. Between
hosts, and on a file system without locks, a heartbeat decides: the file's time, which the holder renews. It is
compared with the time that the same file system gives to a file written now, so no two clocks are compared.

A SLURM job holds it by name: the batch script writes job and attempt into the file, rank 0 renews its time. What SLURM
requeues takes the lease of its predecessor at once, for SLURM says that it is dead; if it is not, it sees that the file
names another attempt, and ends without writing.
"""

import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from mmhydra.errors import UserError
from mmhydra.files import read_object, time_of_file_system, write_json
from mmhydra.run.directory import Attempt, RunDirectory

BEAT_S = 5.0
STALE_S = 60.0  # a holder that was silent for so long is dead
SETTLE_S = 1.0  # without locks: longer than a start takes from reading the file to writing it
_RETRY_S = 0.2
_SIZE = 1024  # bytes; the file is padded to it and written at once, so no reader sees half of it


class LeaseError(UserError):
    """Somebody else is writing to the run."""


class HeldError(LeaseError):
    """Its holder lives."""


class Leased(Protocol):
    """A folder that one process at a time may change: that of a run, or of a sweep."""

    @property
    def path(self) -> Path:
        """The folder."""

    @property
    def lease(self) -> Path:
        """The file in it that names the process."""


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


@dataclass(frozen=True)
class JobLease:
    """The lease as a SLURM job holds it; there are as many objects as processes that care."""

    run: RunDirectory
    job_id: str
    attempt: int

    @classmethod
    def of(cls, attempt: Attempt) -> "JobLease | None":
        """That of an attempt in a SLURM job; None for a local one, which its launcher holds."""
        try:
            job_id = json.loads(attempt.job.read_text())["job_id"]
        except (OSError, ValueError, KeyError):
            return None
        return cls(attempt.run, str(job_id), attempt.number)

    def take(self, patience_s: float = 0.0) -> None:
        """Names this job and attempt as the owner. Raises LeaseError if somebody else writes to the run."""
        self.require_free(patience_s)
        self._write(released=False)

    def require_free(self, patience_s: float = 0.0) -> None:
        """Raises LeaseError if somebody else than this job writes to the run, and still does so in a while."""
        if self._owner().get("job") == self.job_id:
            return
        deadline = time.monotonic() + patience_s
        while True:
            try:
                with hold(self.run):
                    return  # free, or held by the dead
            except HeldError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(_RETRY_S)

    def is_ours(self) -> bool:
        """Whether the run is still this attempt's; also where the file is away for a moment."""
        owner = self._owner()
        return not owner or (owner.get("job"), owner.get("attempt")) == (self.job_id, self.attempt)

    def beat(self) -> None:
        """Says that the job lives."""
        with suppress(OSError):
            if self.is_ours():
                os.utime(self.run.lease)

    def release(self) -> None:
        """Says that the job ended, unless the run is somebody else's by now."""
        with suppress(OSError):
            if self._owner() and self.is_ours():
                self._write(released=True)

    def _owner(self) -> dict[str, Any]:
        return read_object(self.run.lease)

    def _write(self, *, released: bool) -> None:
        # A new file in its place: a process that holds the old one by a lock finds itself replaced.
        owner = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": datetime.now(UTC).isoformat(),
            "attempt": self.attempt,
            "released": released,
            "job": self.job_id,
        }
        write_json(self.run.lease, owner)

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Renews the lease in the background."""
        ended = threading.Event()
        heart = threading.Thread(target=_keep_beating, args=(self, ended), name="lease", daemon=True)
        heart.start()
        try:
            yield
        finally:
            ended.set()
            heart.join()


@contextmanager
def hold(place: Leased, held: str | None = None) -> Iterator[Lease]:
    """Holds the lease of a run, or of another folder, or raises LeaseError that names the owner.

    `held` is how an error says that somebody else has it; without it that the run is under way.
    """
    held = held or f"the run {place.path} is under way"
    try:
        descriptor = os.open(place.lease, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise LeaseError(f"{place.path} can't be taken: {error}") from error
    try:
        lease = _take(descriptor, place, held)
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


def _take(descriptor: int, place: Leased, held: str) -> Lease:
    try:
        locked = _lock(descriptor, held)
        _require_free(descriptor, place, held, locked)
        lease = Lease(descriptor)
        if not locked:
            time.sleep(SETTLE_S)
            if not lease.is_ours:  # of starts at the same instant the last to write has it
                raise HeldError(f"{held}, {_owner(descriptor)}")
    except OSError as error:
        raise LeaseError(f"{place.path} can't be taken: {error}") from error
    return lease


def _lock(descriptor: int, held: str) -> bool:
    """Whether the kernel's lock is held; False on a file system that has none."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise HeldError(f"{held}, {_owner(descriptor)}") from error
    except OSError:
        return False
    return True


def _require_free(descriptor: int, place: Leased, held: str, locked: bool) -> None:
    owner, state = _read(descriptor), os.fstat(descriptor)
    if state.st_size == 0 or owner.get("released"):
        return
    if locked and owner.get("host") == socket.gethostname() and "job" not in owner:
        return  # a process of this host whose lock the kernel has freed
    silent_s = time_of_file_system(place.path) - state.st_mtime
    if silent_s < STALE_S:
        raise HeldError(
            f"{held}, {_owner(descriptor)}, last heard of {max(0.0, silent_s):.0f} s ago; if "
            f"it is dead, try again in {STALE_S - max(0.0, silent_s):.0f} s"
        )


def _keep_beating(lease: "Lease | JobLease", ended: threading.Event) -> None:
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
    process = f"SLURM job {owner['job']}" if "job" in owner else f"process {owner['pid']}"
    return f"started by {process} on {owner['host']} at {str(owner['since'])[:19]}{attempt}"
