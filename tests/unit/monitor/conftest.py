"""A run whose files are written one by one, as its processes would, and a SLURM that says what a test wants."""

import json
import os
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fake_run import FakeRun
from fake_slurm import FakeSlurm

from mmhydra.checkpoint.stamp import step_folder
from mmhydra.run.directory import Attempt, RunDirectory
from mmhydra.run.identity import identify


def ago(seconds: float) -> str:
    return datetime.fromtimestamp(time.time() - seconds, UTC).isoformat()


class Scene:
    """Writes what submitter, batch script and ranks write."""

    def __init__(self, run: FakeRun) -> None:
        self._run = run
        self.directory: RunDirectory = run.directory

    @property
    def path(self) -> Path:
        return self.directory.path

    def attempt(self) -> Attempt:
        self._run.start()
        return self.directory.attempts[-1]

    def submitted(self, job: str = "123", seconds_ago: float = 3600) -> Attempt:
        attempt = self.attempt()
        self.write(attempt.submitted, job_id=job, cluster="slurm_dev", submitted=ago(seconds_ago), script="x")
        return attempt

    def began(self, attempt: Attempt, job: str = "123", *, restart: int = 0, step: int = 0, nodes: int = 2) -> Attempt:
        names = [f"gpu{number:02d}" for number in range(1, nodes + 1)]
        end = time.time() + 5400
        self.write(
            attempt.job,
            job_id=job,
            restart=restart,
            nodes=names,
            host=names[0],
            began=ago(900),
            step=step,
            end_time=end,
        )
        return attempt

    def started(self, job: str = "123", **rest: int) -> Attempt:
        return self.began(self.submitted(job), job, **rest)

    def requeued(self, job: str = "123", **rest: int) -> Attempt:
        return self.began(self.attempt(), job, **rest)

    def local(
        self, *, pid: int | None = None, host: str | None = None, beat_ago: float = 1, released: bool = False
    ) -> None:
        owner = {"host": host or socket.gethostname(), "pid": pid or os.getpid(), "since": ago(60)}
        self.directory.lease.write_text(json.dumps({**owner, "attempt": 1, "released": released}).ljust(1024))
        self.touch(self.directory.lease, beat_ago)

    def trained(self, attempt: Attempt, *steps: int, seconds_ago: float = 2, every_s: float = 2, **more: Any) -> None:
        lines = []
        for number, step in enumerate(steps, 1):
            stamp = ago(seconds_ago + every_s * (len(steps) - number))
            record = {
                "timestamp": stamp,
                "kind": "train",
                "step": step,
                "loss": 7.5 - step / 1000,
                "throughput_tps": 81920.4,
            }
            lines.append(json.dumps({**record, "step_time_s": 0.2, "mfu": 0.412, **more}))
        attempt.metrics.write_text("\n".join([*lines, '{"torn": ']))
        self.touch(attempt.metrics, seconds_ago)

    def status(self, attempt: Attempt, state: str, code: int | None, step: int, message: str, **more: Any) -> None:
        self.write(attempt.status, state=state, exit_code=code, step=step, message=message, **more)

    def ended(self, attempt: Attempt, code: int, message: str, **more: Any) -> None:
        self.write(attempt.outcome, exit_code=code, message=message, **more)

    def saved(self, step: int) -> None:
        folder = step_folder(self.directory.checkpoints, step)
        folder.mkdir(parents=True)
        (folder / "stamp.json").write_text("{}")

    def log(self, attempt: Attempt, rank: int, text: str) -> Path:
        path = attempt.logs / f"rank-{rank:04d}.log"
        path.write_text(text)
        return path

    @staticmethod
    def write(path: Path, **document: Any) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document))

    @staticmethod
    def touch(path: Path, seconds_ago: float) -> None:
        moment = time.time() - seconds_ago
        os.utime(path, (moment, moment))


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "outputs"
    monkeypatch.setenv("MMHYDRA_OUTPUTS", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def make_scene(outputs: Path, default_config, change) -> Callable[..., Scene]:
    def make(**leaves: object) -> Scene:
        dotted = {name.replace("__", "."): value for name, value in leaves.items()}
        steps = {"training.steps": 1000}
        config = change(default_config, {"paths.outputs": str(outputs), **steps, **dotted})
        identity = identify(config, {}, None)
        directory = RunDirectory(outputs / config.name / identity.run_id)
        directory.create(identity)
        return Scene(FakeRun(config, directory, {}))

    return make


@pytest.fixture
def scene(make_scene: Callable[..., Scene]) -> Scene:
    return make_scene()


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    fake = FakeSlurm(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(fake.folder))
    return fake
