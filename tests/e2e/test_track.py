"""Aim beside a real run: the same numbers, and no harm when it breaks."""

import json
from pathlib import Path

import pytest
from track_samples import read_aim
from workplace import Workplace, events, records

pytestmark = pytest.mark.slow

FEW = ("training.steps=6", "optim.warmup_steps=2", "training.validation_interval=3", "training.validation_batches=1")


def test_aim_holds_metrics_config_and_commit(place: Workplace, tmp_path: Path) -> None:
    run = place.train(*FEW, "track=aim", f"track.aim.repo={tmp_path / 'repo'}")
    assert [event for event in events(run) if event["kind"] == "sink_failed"] == []
    (shown,) = read_aim(tmp_path / "repo")
    train, held_out = records(run), records(run, "validation")
    assert dict(shown["metrics"]["loss train"]) == {step: record["loss"] for step, record in train.items()}
    assert dict(shown["metrics"]["val_loss val"]) == {step: record["val_loss"] for step, record in held_out.items()}
    provenance = json.loads((run / "attempts/0001/provenance.json").read_text())
    assert shown["params"]["config"]["model"]["dim"] == 128
    assert shown["params"]["git_commit"] == provenance["git"]["commit"]


def test_broken_aim_harms_nothing(place: Workplace, tmp_path: Path) -> None:
    blocked = tmp_path / "repo"
    blocked.write_text("a file where the repository should be")
    run = place.train(*FEW, "track=aim", f"track.aim.repo={blocked}")
    assert list(records(run)) == list(range(1, 7))
    failed = [event for event in events(run) if event["kind"] == "sink_failed"]
    assert len(failed) == 1
    assert "aim" in failed[0]["message"]
