"""A search with real runs of this machine: one is ended early, the driver is killed, the study is edited meanwhile."""

import json
import os
import re
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from workplace import Workplace, records

from mmhydra.launch.search.book import Book, Trial
from mmhydra.sweep.study.files import read_study

pytestmark = pytest.mark.slow

STUDY = """
question: Which rate is best?
stop_rule: After four trials.
overrides:
  - cluster=local
  - training.steps=40
  - training.validation_interval=5
  - training.validation_batches=1
  - optim.warmup_steps=1
  - optim.min_lr=1e-6
  - checkpoint.interval=40
search:
  space:
    optim.lr: {choices: [1e-2, 5e-3, 1e-5, 2e-5]}
  num_trials: 4
  concurrency: 2
  sampler: {kind: grid, seed: SEED}
  halving: {min_steps: 5, factor: 2}
"""


def started(place: Workplace) -> list[Path]:
    """Attempts that have a process, in the order of their runs."""
    return sorted(place.outputs.glob("debug/*/attempts/*/status.json"))


def trials(place: Workplace) -> list[Trial]:
    """What the journal says."""
    sweep = place.outputs / "sweeps" / "rates"
    search = read_study(sweep / "study.yaml").search
    assert search is not None
    return Book(sweep / "search" / "journal.log", search, "minimize").trials


def test_a_search_outlives_its_driver_and_its_study(place, tmp_path) -> None:
    place.outputs.mkdir(parents=True, exist_ok=True)
    place = replace(place, outputs=place.outputs / ".." / place.outputs.name)  # which Python writes in another way
    study = tmp_path / "lab" / "sweeps" / "rates.yaml"
    study.parent.mkdir(parents=True)
    study.write_text(STUDY.replace("SEED", "5"))
    command = place.command("--config-dir", str(tmp_path / "lab"), "-m", "sweep=rates")
    with open(tmp_path / "driver.log", "wb") as log:
        driver = subprocess.Popen(command, env=place.environment, stdout=log, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 240
    while len(started(place)) < 2 and driver.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(started(place)) == 2, (tmp_path / "driver.log").read_text()
    second = place.run("rates", module="mmhydra.drive")
    assert second.code == 2
    assert f"process {driver.pid}" in second.err  # one driver at a time
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    study.write_text(STUDY.replace("SEED", "1").replace("training.steps=40", "training.steps=41"))
    refused = subprocess.run(command, env=place.environment, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "overrides, search.sampler of its study has changed since" in refused.stderr

    finished = place.run("rates", module="mmhydra.drive")
    assert finished.code == 0, finished.text
    assert "goes on with 2 of 2 trials that are under way" in finished.out
    found = trials(place)
    assert [trial.number for trial in found] == [1, 2, 3, 4]
    runs = [place.outputs / "debug" / trial.notes["run_id"] for trial in found]
    assert len(set(runs)) == 4
    for run in runs:
        assert [path.name for path in (run / "attempts").iterdir()] == ["0001"]
    ends = {trial.number: outcome(run) for trial, run in zip(found, runs, strict=True)}
    pruned = [trial for trial in found if trial.state == "pruned"]
    assert pruned
    assert {trial.state for trial in found} <= {"done", "pruned"}
    for trial, run in zip(found, runs, strict=True):
        curve = {step: record["val_loss"] for step, record in records(run, "validation").items()}
        if trial.state == "done":
            assert ends[trial.number]["exit_code"] == 0
            assert trial.value == min(curve.values())
            assert max(curve) == 40
        else:
            assert ends[trial.number]["exit_code"] == 3
            assert ends[trial.number]["step"] < 40
            assert list((run / "checkpoints").glob("step-*/stamp.json"))  # saved before it ended
        assert trial.reports.items() <= curve.items()
    best = min((trial for trial in found if trial.state == "done"), key=lambda trial: trial.value or 0.0)
    assert f"best: trial {best.number}, val_loss {best.value:.5g}" in finished.out
    provenance = json.loads((runs[-1] / "attempts" / "0001" / "provenance.json").read_text())
    first = json.loads((runs[0] / "attempts" / "0001" / "provenance.json").read_text())
    assert provenance["git"] == first["git"]
    assert provenance["sweep"] == "rates"
    typed = re.search(r"^.*python -m mmhydra.train (.*)$", finished.out, re.MULTILINE)
    assert typed is not None
    again = place.run(*typed[1].split())
    assert again.code == 0
    assert "already complete" in again.out


def outcome(run: Path) -> dict[str, Any]:
    """How a run ended."""
    return dict(json.loads((run / "attempts" / "0001" / "outcome.json").read_text()))


def test_a_space_with_a_corner_that_can_not_run_starts_nothing(place, tmp_path) -> None:
    study = tmp_path / "lab" / "sweeps" / "wrong.yaml"
    study.parent.mkdir(parents=True)
    space = "optim.lr: {choices: [1e-2, 5e-3, 1e-5, 2e-5]}"
    wrong = "model.num_heads: {low: 1, high: 7, int: true}"
    study.write_text(STUDY.replace("SEED", "0").replace(space, wrong).replace("kind: grid", "kind: tpe"))
    refused = place.run("--config-dir", str(tmp_path / "lab"), "-m", "sweep=wrong")
    assert refused.code == 2
    assert "model.num_heads=7" in refused.err
    assert "Traceback" not in refused.err
    assert not os.path.exists(place.outputs / "sweeps")
    typed = place.run("--config-dir", str(tmp_path / "lab"), "-m", "sweep=wrong", "model.num_heads=4")
    assert typed.code == 2
    assert "leave it out of the command line" in typed.err
