"""A sweep of fabricated runs: the record, and the files that submitters, batch scripts and ranks write."""

import json
import math
import os
import random
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mmhydra.checkpoint.stamp import step_folder
from mmhydra.config.frozen import config_sha256, to_yaml
from mmhydra.config.schema import RunConfig
from mmhydra.run.directory import Attempt, RunDirectory
from mmhydra.sweep.record import Record, RecordedParent, RecordedPoint, SweepDirectory, sweep_directory

RECORD = Record(
    name="lr_ladder",
    study="lr_ladder",
    question="Which learning rate is best for the debug model?",
    stop_rule="Stop when the best rate of two batch sizes is the same.",
    metric="val_loss",
    direction="minimize",
    command=("-m", "sweep=lr_ladder"),
    created="2026-11-01T10:00:00+00:00",
    updated="2026-11-01T10:00:00+00:00",
    points=(),
    code={"commit": "c" * 40},
)


def ago(seconds: float) -> str:
    return datetime.fromtimestamp(time.time() - seconds, UTC).isoformat()


def run_id(number: int) -> str:
    return f"{number * 7919 % 16**12:012x}"


def point(number: int, **changes: Any) -> RecordedPoint:
    """The point of a number, of two axes; its run id follows from the number."""
    rate = 1e-4 * 2 ** (number % 5)
    made = RecordedPoint(
        number=number,
        name="debug",
        run_id=run_id(number),
        config_sha256="0" * 64,
        overrides=(f"optim.lr={rate:g}", f"seed={number}"),
        label={"optim.lr": f"{rate:g}", "seed": str(number)},
        cluster="local",
        num_steps=100,
        gpu_hours=2.0,
    )
    return replace(made, **changes)


def parent(of: RecordedPoint, start: str = "extend") -> RecordedParent:
    return RecordedParent(of.name, of.run_id, of.num_steps, start)  # type: ignore[arg-type]


class FakeSweep:
    """Writes what all that take part in a sweep write."""

    def __init__(self, outputs: Path, config: RunConfig, points: Sequence[RecordedPoint], **record: Any) -> None:
        self.record = replace(RECORD, points=tuple(points), **record)
        self.directory: SweepDirectory = sweep_directory(outputs, self.record.name)
        self.directory.write(self.record)
        self._text = to_yaml(config)
        self._sha = config_sha256(self._text)

    def point(self, number: int) -> RecordedPoint:
        return next(each for each in self.record.points if each.number == number)

    def run(self, number: int) -> RunDirectory:
        return self.directory.run(self.point(number))

    def frozen(self, number: int) -> Attempt:
        """The next attempt of a point. Written plainly: thousands of them must not wait for a disk."""
        run = self.run(number)
        run.checkpoints.mkdir(parents=True, exist_ok=True)
        (run.path / "attempts").mkdir(exist_ok=True)
        (run.path / "identity.yaml").write_text(f"run_id: {run.path.name}\nidentity: {{}}\n")
        attempt = run.new_attempt()
        (attempt.path / "config.yaml").write_bytes(self._text)
        (attempt.path / "config.yaml.sha256").write_text(f"{self._sha}  config.yaml\n")
        provenance = {"config_sha256": self._sha, "created": ago(600), "git": {"commit": "c" * 40, "dirty": False}}
        self.write(attempt.path / "provenance.json", **provenance)
        return attempt

    def submitted(self, number: int, job: str) -> Attempt:
        attempt = self.frozen(number)
        self.write(attempt.submitted, job_id=job, cluster="slurm_dev", submitted=ago(3600), script="x")
        return attempt

    def began(self, number: int, job: str, *, restart: int = 0, seconds_ago: float = 900) -> Attempt:
        attempt = self.submitted(number, job)
        began = {"job_id": job, "restart": restart, "nodes": ["n1"], "host": "n1", "step": 0}
        self.write(attempt.job, **began, began=ago(seconds_ago), end_time=time.time() + 5400)
        return attempt

    def trained(self, attempt: Attempt, steps: int, final: float, *, every: int = 1, first: int = 1) -> None:
        """A loss that falls towards `final`, held out ten times."""
        lines = []
        noise = random.Random(final)
        for step in range(first, steps + 1, every):
            loss = final + 3 * math.exp(-5 * step / steps) + noise.uniform(-0.02, 0.02)
            record = {"timestamp": ago(steps - step), "level": "INFO", "kind": "train", "step": step, "loss": loss}
            rest = {"grad_norm": 0.4, "lr": 1e-4, "throughput_tps": 81920.4, "mfu": None, "step_time_s": 0.2}
            lines.append(json.dumps({**record, **rest, "data_shard": "demo-v1/shards/stdlib_code-train-00000.tar"}))
            if step // max(1, steps // 10) > (step - every) // max(1, steps // 10):
                lines.append(json.dumps({"kind": "validation", "step": step, "val_loss": loss + 0.05}))
        with open(attempt.metrics, "a") as file:
            file.writelines(f"{line}\n" for line in lines)

    def held_out(self, attempt: Attempt, *records: tuple[int, float | str]) -> None:
        """Validation records alone: step and value, NaN as the word that files have for it."""
        with open(attempt.metrics, "a") as file:
            for step, value in records:
                file.write(json.dumps({"kind": "validation", "step": step, "val_loss": value}) + "\n")

    def ended(self, attempt: Attempt, state: str, code: int, step: int, message: str = "", **more: Any) -> None:
        told = message or {"done": "the run is complete"}.get(state, state)
        self.write(attempt.status, state=state, exit_code=code, step=step, message=told)
        self.write(attempt.outcome, exit_code=code, message=told, step=step, **more)

    def running(self, attempt: Attempt, step: int) -> None:
        self.write(attempt.status, state="running", exit_code=None, step=step, message="")

    def done(self, number: int, value: float, steps: int = 100) -> Attempt:
        """A local run that came to its end with a held-out loss."""
        attempt = self.frozen(number)
        self.trained(attempt, steps, value, every=max(1, steps // 50))
        self.ended(attempt, "done", 0, steps)
        self.saved(number, steps)
        return attempt

    def saved(self, number: int, step: int) -> None:
        folder = step_folder(self.run(number).checkpoints, step)
        folder.mkdir(parents=True)
        (folder / "stamp.json").write_text("{}")

    def remove(self, number: int) -> None:
        shutil.rmtree(self.run(number).path)

    @staticmethod
    def write(path: Path, **document: Any) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document))

    @staticmethod
    def touch(path: Path, seconds_ago: float) -> None:
        moment = time.time() - seconds_ago
        os.utime(path, (moment, moment))
