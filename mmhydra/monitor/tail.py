"""The log of a run's newest attempt, and of those that follow it."""

import os
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mmhydra.errors import ExitCode, UserError
from mmhydra.monitor.facts import Asker, read_facts
from mmhydra.monitor.find import job_id
from mmhydra.paths import short
from mmhydra.run.directory import Attempt, RunDirectory

_POLL_S = 0.3
_ASK_S = 10.0  # between questions to SLURM
_LOOK_S = 2.0  # between looks at how the run is
_BLOCK = 64 * 1024  # bytes


@dataclass(frozen=True)
class Log:
    """A file that an attempt's processes write."""

    path: Path
    attempt: int
    what: str


def newest_log(run: RunDirectory, rank: int | None) -> Log | None:
    """The newest log of a rank; None stands for rank 0 and, before there are ranks, for what starts them."""
    return next((log for attempt in reversed(run.attempts) if (log := _log_of(attempt, rank)) is not None), None)


def _log_of(attempt: Attempt, rank: int | None) -> Log | None:
    job = job_id(attempt)
    candidates = [(attempt.logs / f"rank-{rank or 0:04d}.log", f"rank {rank or 0}")]
    if rank is None:
        candidates.append((attempt.logs / "elastic.log", "torch elastic"))
        if job is not None:
            for stream in ("err", "out"):
                candidates.append((attempt.batch_output / f"{job}_0_log.{stream}", f"the batch script of job {job}"))
    for path, what in candidates:
        if path.is_file() and (path.stat().st_size or what.startswith("rank")):
            return Log(path, attempt.number, what)
    return None


def print_log(run: RunDirectory, rank: int | None, num_lines: int) -> int:
    """Prints the end of the newest log. Raises UserError if there is none yet."""
    log = newest_log(run, rank)
    if log is None:
        ranks = sorted(
            {int(path.stem[5:]) for path in run.path.glob("attempts/*/logs/rank-*.log") if path.stem[5:].isdigit()}
        )
        if ranks and rank is not None:
            raise UserError(f"rank {rank} has no log; there are those of ranks {ranks[0]} to {ranks[-1]}")
        raise UserError(f"{short(run.path)} has no log yet; add -f to wait for one")
    _head(log)
    _write(last_lines(log.path, num_lines)[0])
    return ExitCode.DONE


def follow_log(run: RunDirectory, rank: int | None, num_lines: int) -> int:
    """Prints the newest log as it grows and goes on with that of the next attempt, until the run ends."""
    ask = Asker(_ASK_S)
    log: Log | None = None
    offset, looked = 0, 0.0
    state: str | None = None
    while True:
        found = newest_log(run, rank)
        if found is not None and found != log:
            if log is not None:
                _copy(log.path, offset)
            lines, offset = last_lines(found.path, num_lines if log is None else sys.maxsize)
            log = found
            _head(log)
            _write(lines)
        elif log is not None:
            offset = _copy(log.path, offset)
        if state is not None:  # what was written before the end was seen is printed by now
            print(f"the run is over: {state}", file=sys.stderr)
            return ExitCode.DONE
        if time.monotonic() - looked >= _LOOK_S:
            looked = time.monotonic()
            facts = read_facts(run, ask)
            state = facts.state if facts.is_final else None
        if state is None:
            time.sleep(_POLL_S)


def last_lines(path: Path, number: int) -> tuple[bytes, int]:
    """The last lines of a file, and its size when they were read."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        text, begin = b"", size
        while begin > 0 and text.count(b"\n", 0, -1) < number:
            block = min(begin, _BLOCK)
            begin -= block
            file.seek(begin)
            text = file.read(block) + text
    text = text[: size - begin]
    lines = text.splitlines(keepends=True)
    return b"".join(lines[-number:] if number else []), size


def _copy(path: Path, offset: int) -> int:
    """Prints what a file has got since; returns how much of it was printed. One that was taken away has got nothing."""
    with suppress(FileNotFoundError), open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size < offset:  # somebody emptied it
            offset = 0
        file.seek(offset)
        while block := file.read(_BLOCK):
            _write(block)
            offset += len(block)
    return offset


def _write(text: bytes) -> None:
    rest = memoryview(text)
    while rest:  # with PYTHONUNBUFFERED this is the bare file, which may take a part
        rest = rest[sys.stdout.buffer.write(rest) :]
    sys.stdout.buffer.flush()


def _head(log: Log) -> None:
    sys.stdout.flush()
    print(f"--- attempt {log.attempt}, {log.what}: {short(log.path)}", file=sys.stderr, flush=True)
