"""Arrays on the development SLURM, for tests."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slurm_place import CHECKOUT, ENDED, SlurmPlace, Submitted

from mmhydra.launch.array import ArrayJob
from mmhydra.launch.slurm import batch_job
from mmhydra.run.directory import Attempt

SUBMITTER = CHECKOUT / "tests" / "support" / "submit_array.py"


@dataclass(frozen=True)
class Task(Submitted):
    """A run that is a task of an array. It may run again as the task of another."""

    @property
    def job_id(self) -> str:
        """The id of its newest job."""
        files = sorted(self.path.glob("attempts/*/submitted.json"))
        return str(json.loads(files[-1].read_text())["job_id"])


@dataclass(frozen=True)
class Array:
    """An array that was submitted, or was to be. `variables` are further ones of the submitter."""

    place: SlurmPlace
    folder: Path
    name: str
    points: Sequence[str]
    depends_on: str | None = None
    variables: dict[str, str] = field(default_factory=dict)

    def start(self) -> subprocess.CompletedProcess[str]:
        """Runs the submitter to its end."""
        depends = [] if self.depends_on is None else ["--depends-on", self.depends_on]
        return subprocess.run(
            [sys.executable, str(SUBMITTER), str(self.folder), self.name, *depends, "--", *self.points],
            env={**self.place.environment, "PYTHONPATH": str(CHECKOUT), **self.variables},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def submit(self) -> "Array":
        """Submits it; SLURM has to take it."""
        done = self.start()
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.split()[-1] == self.job_id, done.stdout + done.stderr
        return self

    @property
    def record(self) -> dict[str, Any]:
        """array.json."""
        return dict(json.loads((self.folder / "array.json").read_text()))

    @property
    def again(self) -> ArrayJob:
        """The array as another submitter of it would have it."""
        attempts = [Attempt(task.path / "attempts" / "0001") for task in self.tasks]
        jobs = tuple(batch_job(attempt, attempt.read_frozen()[0]) for attempt in attempts)
        return ArrayJob(self.folder, self.name, jobs, tuple(task["index"] for task in self.record["tasks"]))

    @property
    def job_id(self) -> str:
        """The array's job."""
        return str(self.record["job_id"])

    @property
    def tasks(self) -> list[Task]:
        """The runs, in the order of the points."""
        attempts = [Path(task["attempt"]) for task in self.record["tasks"]]
        return [Task(self.place.cluster, self.place, attempt.parent.parent) for attempt in attempts]

    def state(self, index: int) -> str:
        """What SLURM says of a task."""
        return self.place.cluster.state(f"{self.job_id}_{index}")

    def comment(self, index: int) -> str:
        """SLURM's comment of a task."""
        shown = self.place.cluster.run("squeue", "-h", "-r", "-t", "all", "-j", self.job_id, "-o", "%i %k").stdout
        return dict(line.split(" ", 1) for line in shown.splitlines())[f"{self.job_id}_{index}"]

    def wait_for_end(self, timeout_s: float = 240) -> None:
        """Returns when all tasks are over."""
        indices = [task["index"] for task in self.record["tasks"]]
        logs = lambda: "\n".join(task.logs() for task in self.tasks) + self.logs()  # noqa: E731
        self.place.cluster.wait_for(lambda: all(self.state(one) in ENDED for one in indices), timeout_s, logs())

    def logs(self) -> str:
        """What the batch scripts printed, for a failing test."""
        return "\n".join(f"--- {log.name}\n{log.read_text()[-1500:]}" for log in sorted(self.folder.glob("*_log.*")))
