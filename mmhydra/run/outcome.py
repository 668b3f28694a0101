"""How an attempt ended: from what its ranks left behind, and from what whoever ran them saw."""

import json
import signal
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mmhydra.errors import ExitCode
from mmhydra.files import write_json
from mmhydra.run.directory import Attempt
from mmhydra.run.status import read_status, state_of

# A rank that is ended so did not choose to: its peers fail afterwards, of the loss, and often write first.
_SUDDEN = {signal.SIGKILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE}
_SAME_EVENT_S = 10.0
_TOGETHER = (ExitCode.PREEMPTED, ExitCode.STOPPED)  # no rank failed: all agreed to end


@dataclass(frozen=True)
class Failure:
    """One rank that did not reach its end. `signal` is what the system ended it with, None if it ended itself."""

    rank: int
    time: float  # seconds since the epoch
    exit_code: int
    message: str
    traceback: str | None = None
    signal: int | None = None
    order: str | None = None  # what ended the attempt, if all ranks agreed to end it: `drain`

    def write(self, attempt: Attempt) -> None:
        """Leaves it in the attempt, unless the rank said something itself."""
        attempt.failures.mkdir(exist_ok=True)
        path = attempt.failures / f"rank-{self.rank:04d}.json"
        if not path.exists():
            write_json(path, asdict(self))


def failures(attempt: Attempt) -> list[Failure]:
    """All failures, in the order of time; broken files are passed over."""
    found = []
    for path in sorted(attempt.failures.glob("rank-*.json")):
        try:
            failure = Failure(**json.loads(path.read_text()))
            rank, when, code = int(failure.rank), float(failure.time), int(failure.exit_code)
            found.append(replace(failure, rank=rank, time=when, exit_code=code))
        except (OSError, ValueError, TypeError):
            continue
    return sorted(found, key=lambda failure: failure.time)


def root_cause(attempt: Attempt) -> Failure | None:
    """The rank that failed first; the others mostly fail because of it.

    A rank that was killed comes before peers that noticed it: they are told within milliseconds, its own end is
    written down by whoever waits for it.
    """
    found = failures(attempt)
    if not found:
        return None
    if code_of(found[0].exit_code) in _TOGETHER and found[0].traceback is None:
        return found[0]  # all agreed; what a rank does while it takes its leave changes nothing
    near = (each for each in found if each.time - found[0].time < _SAME_EVENT_S)
    return next((each for each in near if each.signal in _SUDDEN), found[0])


def of_signal(rank: int, number: int, when: float) -> Failure:
    """A rank that the system ended."""
    hint = "; the host may be out of memory" if number == signal.SIGKILL else ""
    named = number in set(signal.Signals)  # real-time signals have no names
    name = signal.Signals(number).name if named else f"signal {number}"
    message = f"rank {rank} was ended by {name}{hint}"
    return Failure(rank, when, 128 + number, message, signal=number)


def judge(attempt: Attempt, returncode: int) -> tuple[ExitCode, str]:
    """Exit code and message of an attempt whose ranks have all ended; `returncode` is of what started them."""
    status = read_status(attempt.status)
    if status is not None and status.exit_code == ExitCode.DONE:  # all ranks had come to the end when it was written
        return ExitCode.DONE, "the run is complete"
    failure = root_cause(attempt)
    if failure is None:
        return ExitCode.FAILED, f"the ranks ended without a word (exit code {returncode}); see {attempt.logs}"
    code = code_of(failure.exit_code)
    if code in _TOGETHER and failure.traceback is None:
        return code, failure.message
    return code, f"{failure.message}\n(rank {failure.rank}, see {log_of(attempt, failure.rank)})"


def code_of(number: int) -> ExitCode:
    """The exit code that a number means to us."""
    return ExitCode(number) if number in set(ExitCode) else ExitCode.FAILED


def log_of(attempt: Attempt, rank: int) -> Path:
    """What a rank printed."""
    return attempt.logs / f"rank-{rank:04d}.log"


def tail(log: Path, lines: int = 30) -> str | None:
    """The last lines of a log: where a process that could say nothing left its traceback. None if it is empty."""
    try:
        text = log.read_text(errors="replace")
    except OSError:
        return None
    return "\n".join(text.splitlines()[-lines:]) or None


def last_step(attempt: Attempt) -> int:
    """The newest step that the attempt tells of, from its status and its metrics; 0 if it tells of none."""
    status = read_status(attempt.status)
    steps = [status.step if status is not None else 0]
    try:
        with open(attempt.metrics, "rb") as file:
            file.seek(max(0, file.seek(0, 2) - 65536))
            lines = file.read().splitlines()
    except OSError:
        lines = []
    for line in lines:
        try:
            steps.append(int(json.loads(line)["step"]))
        except (ValueError, KeyError, TypeError):  # the first may be cut in half
            continue
    return max(steps)


def ended_for_good(attempt: Attempt) -> bool:
    """Whether the attempt ended, and was not to be followed by another."""
    try:
        outcome = json.loads(attempt.outcome.read_text())
    except (OSError, ValueError):
        return False
    return isinstance(outcome, dict) and outcome.get("requeue", False) is False  # null: SLURM decides


def conclude(attempt: Attempt, code: ExitCode, message: str, **more: Any) -> None:
    """Writes outcome.json, and status.json in place of a rank 0 that could not. Raises OSError."""
    failure = root_cause(attempt) if code is not ExitCode.DONE else None
    if failure is not None and code in _TOGETHER and failure.traceback is None:
        failure = None
    step = last_step(attempt)
    write_json(attempt.outcome, {"exit_code": int(code), "message": message, "step": step, **more})
    status = read_status(attempt.status)
    if status is None or status.exit_code != code or failure is not None:
        document = {
            "state": state_of(code),
            "exit_code": int(code),
            "step": step,
            "message": message,
            "rank": failure.rank if failure else None,
            "traceback": failure.traceback if failure else None,
        }
        write_json(attempt.status, document)
