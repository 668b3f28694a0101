"""Who holds a run's lease, without taking it: a probe of the lock would make a start at that instant fail."""

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mmhydra.monitor.reading import integer, read_dated, text
from mmhydra.run.lease import STALE_S


class Held(Protocol):
    """A folder that one process at a time may change, such as that of a run."""

    @property
    def lease(self) -> Path:
        """The file that names the process."""


@dataclass(frozen=True)
class Holder:
    """The process that started the newest attempt."""

    pid: int
    host: str
    released: bool  # it said that it ended
    silent_s: float  # since its last heartbeat
    is_here: bool  # on this host
    alive: bool  # as far as can be told from here
    attempt: int | None = None  # the one that it has started last


def read_holder(run: Held, now: float) -> Holder | None:
    """The holder by lease.json; None if nobody ever held it. `now` is the file system's time."""
    owner, beat = read_dated(run.lease)
    pid, host = integer(owner.get("pid")), text(owner.get("host"))
    if pid is None or host is None or beat is None:
        return None
    released, silent_s, is_here = owner.get("released") is True, max(0.0, now - beat), host == socket.gethostname()
    alive = not released and silent_s < STALE_S and (not is_here or "job" in owner or _exists(pid))
    return Holder(pid, host, released, silent_s, is_here, alive, integer(owner.get("attempt")))


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass  # somebody else's
    return True
