"""Sweeps against a SLURM of scripts: studies in a folder of the test's own, and jobs that never run."""

import json
import os
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_slurm import FakeSlurm, squeue_row
from fitting_dataset import write_fitting

from mmhydra.compose import compose
from mmhydra.errors import ExitCode
from mmhydra.launch.freeze import Origin, read_origin
from mmhydra.launch.sweeps.asked import Asked, planned_points
from mmhydra.launch.sweeps.compiling import compiled
from mmhydra.launch.sweeps.submitting import submit_sweep
from mmhydra.run.directory import Attempt
from mmhydra.run.outcome import conclude
from mmhydra.sweep.record import RecordedPoint, SweepDirectory, sweep_directory
from mmhydra.sweep.state.states import read_states
from mmhydra.sweep.study.files import Study, read_study

COMMON = """
question: Does it work?
stop_rule: When all have ended.
overrides:
  - data.builder=null
  - training.steps=200
  - cluster=slurm_dev
  - parallel=single
  - cluster.nodes=1
  - cluster.gpus_per_node=1
  - cluster.slurm.max_array_size=1001
"""


class Tools(FakeSlurm):
    """sbatch that numbers its jobs and may refuse one, and a queue in which all tasks wait that were submitted."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.refused = folder / "refused"
        here = shlex.quote(str(folder))
        self._script(
            "sbatch",
            f"echo x >> {here}/count; number=$(wc -l < {here}/count)",
            f'if [ "$number" = "$(cat {here}/refused 2>/dev/null)" ]; then',
            "  echo 'sbatch: error: QOSMaxSubmitJobPerUserLimit' >&2; exit 1",
            "fi",
            'echo "Submitted batch job $((number + 100))"',
        )
        self._script("squeue", f'case "$*" in *--name=*) ;; *) cat {here}/queue 2>/dev/null ;; esac')
        self._script("scancel", f'echo "$*" >> {here}/cancelled')
        self._script("sacct", "exit 0")

    def _script(self, name: str, *lines: str) -> None:
        script = self.folder / name
        script.write_text("\n".join(["#!/bin/bash", *lines, ""]))
        script.chmod(0o755)

    def queue(self, *sweeps: SweepDirectory, state: str = "PENDING") -> None:
        """All tasks that were submitted wait, or have another state."""
        ids = [
            json.loads(attempt.submitted.read_text())["job_id"]
            for sweep in sweeps
            for point in sweep.read().points
            for attempt in sweep.run(point).attempts
            if attempt.submitted.exists()
        ]
        (self.folder / "queue").write_text("".join(f"{squeue_row(each, state)}\n" for each in ids))

    @property
    def num_submitted(self) -> int:
        file = self.folder / "count"
        return len(file.read_text().splitlines()) if file.exists() else 0


@pytest.fixture
def tools(tmp_path, monkeypatch) -> Tools:
    monkeypatch.setenv("MMHYDRA_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MMHYDRA_OUTPUTS", str(tmp_path / "outputs"))
    (tmp_path / "slurm.conf").write_text("")
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))
    fake = Tools(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{fake.folder}{os.pathsep}{os.environ['PATH']}")
    write_fitting(compose(["data.builder=null"]).config)
    known: list[Origin] = []

    def read_once(request, run) -> Origin:  # somebody may be editing the checkout that the tests run in
        if not known:
            known.append(read_origin(request, run))
        return known[0]

    monkeypatch.setattr("mmhydra.launch.sweeps.freezing.read_origin", read_once)
    return fake


@pytest.fixture
def submit(tmp_path) -> Callable[..., SweepDirectory]:
    """Submits the points of a study with these parts."""

    def submit(parts: str, *typed: str, prune: bool = False, name: str = "mine") -> SweepDirectory:
        file = tmp_path / "lab" / "sweeps" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(COMMON + parts)
        asked = Asked(name, typed, (typed,), (tmp_path / "lab",), prune, ("-m", f"sweep={name}", *typed))
        study: Study = read_study(file)
        points = compiled(planned_points(asked, study), asked.config_dirs)
        codes = submit_sweep(asked, study, points)
        assert set(codes) == {ExitCode.DONE}
        return sweep_directory(tmp_path / "outputs", asked.name)

    return submit


def words(sweep: SweepDirectory) -> list[str]:
    return [state.state for state in read_states(sweep, sweep.read())]


def newest(sweep: SweepDirectory) -> list[Attempt]:
    return [sweep.run(point).attempts[-1] for point in sweep.read().points]


def finish(sweep: SweepDirectory, point: RecordedPoint, val_loss: float = 1.0, code: ExitCode = ExitCode.DONE) -> None:
    """The newest attempt of a point comes to its end."""
    attempt = sweep.run(point).attempts[-1]
    attempt.metrics.write_text(json.dumps({"kind": "validation", "step": 200, "val_loss": val_loss}) + "\n")
    conclude(attempt, code, "it ended", requeue=False)
