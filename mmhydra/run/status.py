"""status.json: the state of an attempt, for people, `make` and the launcher."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from mmhydra.errors import ExitCode
from mmhydra.files import write_json

State = Literal["running", "done", "failed", "stopped", "preempted"]


@dataclass(frozen=True)
class Status:
    """What rank 0 last said of its attempt."""

    state: State
    exit_code: int | None  # None while it runs
    step: int
    message: str
    rank: int | None = None  # that failed first
    traceback: str | None = None  # of that rank

    def write(self, path: Path) -> None:
        """Replaces the file in one step."""
        write_json(path, asdict(self))


def read_status(path: Path) -> Status | None:
    """The status, or None before the first one is written, and for a file that says none."""
    try:
        return Status(**json.loads(path.read_text()))
    except (FileNotFoundError, ValueError, TypeError):  # TypeError: no object, or one of other fields
        return None


def state_of(code: ExitCode) -> State:
    """The state that an exit code means."""
    states: dict[ExitCode, State] = {
        ExitCode.DONE: "done",
        ExitCode.STOPPED: "stopped",
        ExitCode.PREEMPTED: "preempted",
    }
    return states.get(code, "failed")
