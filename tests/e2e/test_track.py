"""Aim beside a real run: the same numbers, and no harm when it breaks."""

from pathlib import Path

import pytest
from aim.sdk.repo import Repo
from workplace import Workplace, events, records

pytestmark = pytest.mark.slow

FEW = ("training.steps=6", "optim.warmup_steps=2", "training.validation_interval=3", "training.validation_batches=1")


def test_aim_holds_metrics_config_and_commit(place: Workplace, tmp_path: Path) -> None:
    run = place.train(*FEW, "track=aim", f"track.aim.repo={tmp_path / 'repo'}")
    assert [event for event in events(run) if event["kind"] == "sink_failed"] == []
    repo = Repo.from_path(str(tmp_path / "repo"))
    found = {}
    for aim_run in repo.iter_runs():
        assert aim_run["config"]["model"]["dim"] == 128
        for metric in aim_run.metrics():
            steps, values = metric.values.sparse_numpy()
            found[metric.name, metric.context.to_dict()["subset"]] = dict(
                zip(steps.tolist(), values.tolist(), strict=True)
            )
    train = records(run)
    assert found["loss", "train"] == {step: pytest.approx(record["loss"]) for step, record in train.items()}
    held_out = records(run, "validation")
    assert found["val_loss", "val"] == {step: pytest.approx(r["val_loss"]) for step, r in held_out.items()}


def test_broken_aim_harms_nothing(place: Workplace, tmp_path: Path) -> None:
    blocked = tmp_path / "repo"
    blocked.write_text("a file where the repository should be")
    run = place.train(*FEW, "track=aim", f"track.aim.repo={blocked}")
    assert list(records(run)) == list(range(1, 7))
    failed = [event for event in events(run) if event["kind"] == "sink_failed"]
    assert len(failed) == 1
    assert "aim" in failed[0]["message"]
