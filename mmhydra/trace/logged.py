"""What the attempts of a run wrote about its steps: which of them made a step, and with what figures."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmhydra.monitor.history import read_past
from mmhydra.monitor.reading import integer
from mmhydra.run.directory import Attempt, AttemptError, RunDirectory
from mmhydra.track.jsonl import decode

_NEAR_BYTES = 64 * 1024  # from here on reading is as fast as seeking


@dataclass(frozen=True)
class Made:
    """The steps after `first_step` up to `last_step`, which one attempt made with `dp` data-parallel ranks."""

    attempt: Attempt
    dp: int
    first_step: int
    last_step: int


@dataclass(frozen=True)
class Logged:
    """The attempts of a run, oldest first. Of a step that several attempts made the newest one counts."""

    attempts: tuple[Made, ...]

    @classmethod
    def of(cls, run: RunDirectory) -> "Logged":
        """Reads the edges of what each attempt wrote. One that is not what was frozen is left out."""
        found = []
        for attempt in run.attempts:
            with suppress(AttemptError):
                config, _ = attempt.read_frozen()
                past = read_past(attempt)
                found.append(Made(attempt, config.dp, past.first_step, past.last_step))
        return cls(tuple(found))

    @property
    def newest_step(self) -> int:
        """The last step of the newest attempt that made one; 0 if none did."""
        return next((made.last_step for made in reversed(self.attempts) if made.last_step > made.first_step), 0)

    def dp_at(self, step: int) -> int | None:
        """The data-parallel ranks of the attempt that made a step; None for one that none has made."""
        mine = (made.dp for made in reversed(self.attempts) if made.first_step < step <= made.last_step)
        return next(mine, None)

    def record(self, step: int) -> dict[str, Any]:
        """The training record of a step; empty if there is none."""
        for made in reversed(self.attempts):
            if (found := record_of(made.attempt.metrics, step)) is not None:
                return found
        return {}


def record_of(path: Path, step: int) -> dict[str, Any] | None:
    """The training record of a step in one metrics.jsonl, or None.

    One attempt writes its steps in order, so it is found by bisection: a long run has hundreds of megabytes.
    """
    try:
        with open(path, "rb") as file:
            low, high = 0, os.fstat(file.fileno()).st_size
            while high - low > _NEAR_BYTES:
                middle = (low + high) // 2
                file.seek(middle)
                file.readline()  # the rest of one
                start = file.tell()
                first = next(_steps(file), None)
                if first is None or first[0] >= step:
                    high = middle
                else:
                    low = start
            file.seek(low)
            for found, record in _steps(file):
                if found > step:
                    break
                if found == step and record.get("kind") == "train":
                    return record
    except OSError:
        pass
    return None


def _steps(file: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    """Whole records from here on, with their steps."""
    for line in iter(file.readline, b""):
        record = decode(line) or {}
        if (step := integer(record.get("step"))) is not None:
            yield step, record
