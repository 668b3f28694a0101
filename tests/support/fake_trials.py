"""Machines that run trials of a search without training: real run directories, losses of a formula.

A driver starts runs through `FakeRuns`; `Machines` lets them get on, by hand or in a thread, and outlives drivers that
are killed.
"""

import hashlib
import json
import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmhydra.errors import UserError
from mmhydra.files import write_json
from mmhydra.launch.search.book import Book
from mmhydra.launch.search.driver import Driver
from mmhydra.launch.search.trials import Candidate
from mmhydra.run.directory import Attempt
from mmhydra.sweep.record import Record, RecordedPoint, SweepDirectory, sweep_directory
from mmhydra.sweep.state.asking import BulkAsker
from mmhydra.sweep.state.curves import Curves
from mmhydra.sweep.state.states import Memory, PointState
from mmhydra.sweep.study.space import Choice, Search, texts

NUM_STEPS = 90
INTERVAL = 10  # steps between two values of the metric
RUN = "fake.json"  # in an attempt that was started


def composed(number: int, values: Mapping[str, Choice]) -> Candidate:
    """A candidate whose run id follows from its values; `bad: true` among them can't be composed."""
    if values.get("bad") is True:
        raise UserError("bad: it can't be composed\n    and more")
    overrides = tuple(f"{key}={text}" for key, text in texts(values).items())
    run_id = hashlib.sha256("\n".join(overrides).encode()).hexdigest()[:12]
    point: Any = None  # only what is submitted for real needs one
    recorded = RecordedPoint(number, "fake", run_id, "0" * 64, overrides, texts(values), "local", NUM_STEPS)
    return Candidate(recorded, point)


def _values(candidate: Candidate) -> dict[str, Any]:
    """What a trial was asked with, from the texts of its label."""
    found: dict[str, Any] = {}
    for key, text in candidate.recorded.label.items():
        try:
            found[key] = json.loads(text)
        except ValueError:  # a word
            found[key] = text
    return found


@dataclass
class FakeRuns:
    """What the driver starts and ends."""

    sweep: SweepDirectory
    values: Callable[[Candidate], Mapping[str, Any]] = _values

    def start(self, candidates: Sequence[Candidate]) -> None:
        for candidate in candidates:
            run = self.sweep.run(candidate.recorded)
            (run.path / "attempts").mkdir(parents=True, exist_ok=True)
            run.clear_triggers()
            attempt = run.new_attempt()
            (attempt.path / "config.yaml").write_text("cluster:\n  kind: local\n")
            write_json(attempt.path / RUN, {"number": candidate.recorded.number, **self.values(candidate)})
            (attempt.path / "config.yaml.sha256").write_text("0\n")

    def starting(self, candidate: Candidate) -> bool:
        run = self.sweep.run(candidate.recorded)
        newest = run.attempts[-1] if run.attempts else None
        return newest is not None and (newest.path / RUN).exists() and not newest.outcome.exists()

    def refusal(self, candidate: Candidate) -> str | None:
        return None

    def end(self, state: PointState) -> None:
        self.sweep.run(state.point).trigger("stop").touch()


@dataclass
class Machines:
    """Lets each started run get on by one interval a tick; `speed` says in how many ticks of a run's own."""

    outputs: Path
    loss: Callable[[Mapping[str, Any], int], float]
    ticks_per_interval: Callable[[Mapping[str, Any]], int] = lambda run: 1
    fails: Callable[[Mapping[str, Any], int], int | None] = lambda run, attempt: None  # the exit code it fails with
    _ticks: dict[Path, int] = field(default_factory=dict)

    def tick(self) -> None:
        for file in self.outputs.glob(f"fake/*/attempts/*/{RUN}"):
            attempt = Attempt(file.parent)
            if (attempt.path / "config.yaml.sha256").exists() and not attempt.outcome.exists():
                self._advance(attempt, json.loads(file.read_text()))

    def in_thread(self, ended: threading.Event, pause_s: float) -> threading.Thread:
        def work() -> None:
            while not ended.wait(pause_s):
                with suppress(FileNotFoundError):
                    self.tick()

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        return thread

    def _advance(self, attempt: Attempt, run: Mapping[str, Any]) -> None:
        tick = self._ticks[attempt.path] = self._ticks.get(attempt.path, 0) + 1
        if tick == 1:
            owner = {"pid": os.getpid(), "host": socket.gethostname(), "attempt": attempt.number, "released": False}
            write_json(attempt.run.lease, owner)
            write_json(attempt.status, _status("running", None))
        code = self.fails(run, attempt.number)
        if code is not None:
            return self._conclude(attempt, "failed", code)
        if attempt.run.trigger("stop").exists():
            attempt.run.trigger("stop").unlink()
            return self._conclude(attempt, "stopped", 3)
        intervals, rest = divmod(tick, self.ticks_per_interval(run))
        step = intervals * INTERVAL
        if rest == 0:
            record = {"kind": "validation", "step": step, "val_loss": self.loss(run, step)}
            with open(attempt.metrics, "a") as metrics:
                metrics.write(json.dumps(record) + "\n")
        if step >= NUM_STEPS:
            self._conclude(attempt, "done", 0)
        return None

    def _conclude(self, attempt: Attempt, state: str, code: int) -> None:
        write_json(attempt.status, _status(state, code))
        write_json(attempt.outcome, {"exit_code": code, "message": f"it {state}", "step": 0})
        write_json(attempt.run.lease, {**json.loads(attempt.run.lease.read_text()), "released": True})


def _status(state: str, code: int | None) -> dict[str, Any]:
    return {"state": state, "exit_code": code, "step": 0, "message": state, "rank": None, "traceback": None}


def begin(outputs: Path, search: Search, direction: str = "minimize") -> SweepDirectory:
    """A sweep without points."""
    sweep = sweep_directory(outputs, "fake_search")
    record = Record(
        "fake_search",
        "fake",
        "Which?",
        "Never.",
        "val_loss",
        direction,
        (),
        "2026-01-01",
        "2026-01-01",
        (),  # type: ignore[arg-type]
    )
    sweep.write(record)
    sweep.search.mkdir(exist_ok=True)
    return sweep


def driver(sweep: SweepDirectory, search: Search, **more: Any) -> Driver:
    """A driver of fake runs that goes on with whatever is there."""
    record = sweep.read()
    book = Book(sweep.search / "journal.log", search, record.direction)
    given = {"compose": composed, "runs": FakeRuns(sweep), "say": lambda text: None, "poll_s": 0.002, **more}
    memory = Memory(Curves(), BulkAsker())
    return Driver(sweep, record, search, book, memory=memory, **given)


def started(outputs: Path) -> list[dict[str, Any]]:
    """What was started: one entry an attempt."""
    return [json.loads(file.read_text()) for file in sorted(outputs.glob(f"fake/*/attempts/*/{RUN}"))]


def steps(outputs: Path) -> int:
    """Steps that all runs have made."""
    files = outputs.glob("fake/*/attempts/*/metrics.jsonl")
    return sum(INTERVAL * len(file.read_text().splitlines()) for file in files)


def to_the_end(search_driver: Driver, machines: Machines, each_round: Callable[[], None] = lambda: None) -> None:
    """Drives by hand: a look, then a tick."""
    search_driver.take_up()
    while search_driver.round():
        each_round()
        machines.tick()
