"""One start of a run at a time: a lease that dies with the process that holds it."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from mmhydra.errors import UserError
from mmhydra.run.directory import RunDirectory


class LeaseError(UserError):
    """Somebody else is writing to the run."""


@contextmanager
def hold(run: RunDirectory) -> Iterator[None]:
    """Holds the run's lease, or raises LeaseError that names the owner.

    The lock is the kernel's: kill -9 frees it at once, and no clock is compared.
    """
    try:
        descriptor = os.open(run.lease, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise LeaseError(f"the run can't be taken: {error}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LeaseError(f"the run {run.path} is under way, started by {_owner(descriptor)}") from error
        owner = {"host": socket.gethostname(), "pid": os.getpid(), "since": datetime.now(UTC).isoformat()}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(owner).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _owner(descriptor: int) -> str:
    try:
        owner = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {owner['pid']} on {owner['host']} at {owner['since']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
