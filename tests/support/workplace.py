"""Runs the command line for tests, and reads what runs leave behind."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SHORT = ("training.steps=20", "optim.warmup_steps=5", "checkpoint.interval=10", "training.validation_interval=10")


def replacing(base: Sequence[str], *overrides: str) -> list[str]:
    """Overrides in which later ones replace earlier ones of the same key, which a command line may not do."""
    return list({override.partition("=")[0]: override for override in (*base, *overrides)}.values())


@dataclass(frozen=True)
class Finished:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Both streams, for assertions that show all of it."""
        return f"{self.out}\n{self.err}"


@dataclass(frozen=True)
class Workplace:
    """A data folder and an outputs folder, and the commands in them."""

    data: Path
    outputs: Path

    @property
    def environment(self) -> dict[str, str]:
        """The variables that point the commands here."""
        return {**os.environ, "MMHYDRA_DATA": str(self.data), "MMHYDRA_OUTPUTS": str(self.outputs)}

    def command(self, *arguments: str, module: str = "mmhydra.train") -> list[str]:
        """The command line of a module."""
        return [sys.executable, "-m", module, *arguments]

    def run(self, *arguments: str, module: str = "mmhydra.train", timeout_s: float = 400) -> Finished:
        """Runs a module to its end."""
        done = subprocess.run(
            self.command(*arguments, module=module),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    def train(self, *overrides: str) -> Path:
        """Trains to the end and returns the run directory."""
        finished = self.run(*overrides)
        assert finished.code == 0, finished.text + self.logs()
        return self.newest_run()

    def newest_run(self) -> Path:
        """The run directory that was made or used last."""
        return max(self.outputs.glob("*/*/attempts"), key=lambda path: path.stat().st_mtime_ns).parent

    def logs(self) -> str:
        """The ends of all logs of the newest attempt, for a failing test."""
        logs = sorted(self.newest_run().glob("attempts/*/logs/*.log"))[-9:]
        return "\n".join(f"--- {log.name}\n{log.read_text()[-1500:]}" for log in logs)


def records(run: Path, kind: str = "train", attempt: str = "*") -> dict[int, dict[str, Any]]:
    """Metric records of a run by step; the newest attempt wins."""
    found = {}
    for file in sorted(run.glob(f"attempts/{attempt}/metrics.jsonl")):
        for line in file.read_text().splitlines():
            record = json.loads(line)
            if record["kind"] == kind:
                found[record["step"]] = record
    return found


def events(run: Path) -> list[dict[str, Any]]:
    """Events of rank 0, oldest first."""
    files = sorted(run.glob("attempts/*/events.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]
