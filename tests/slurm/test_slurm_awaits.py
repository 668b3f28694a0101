"""A run, one that goes on from it, and an evaluation of that, all submitted before the first of them has begun."""

import json

import pytest
from slurm_place import NO_PREFLIGHT, ONE, SlurmPlace
from workplace import records

pytestmark = pytest.mark.slow

HELD = "+cluster.slurm.additional_parameters.hold=true"
STEADY = (*ONE, NO_PREFLIGHT, "optim.lr=3e-3", "optim.min_lr=3e-3", "checkpoint.interval=10")


def test_children_are_typed_while_their_parents_run(place: SlurmPlace) -> None:
    """The case that a person has: the run is under way, its last checkpoint is what comes next needs."""
    parent = place.submit(*STEADY, "training.steps=20")
    child = place.submit(
        *STEADY,
        "training.steps=30",
        f"checkpoint.extend_from={parent.path}/checkpoints/step-00000020",
        "checkpoint.awaits=true",
        f"cluster.slurm.dependency=afterok:{parent.job_id}",
    )
    measured = place.submit(
        *ONE,
        NO_PREFLIGHT,
        "training.steps=0",
        "training.validation_batches=2",
        f"checkpoint.init_from={child.path}/checkpoints/step-00000030",
        "checkpoint.awaits=true",
        f"cluster.slurm.dependency=afterok:{child.job_id}",
    )
    assert not (child.path / "checkpoints/step-00000030").exists()
    for run in (parent, child, measured):
        run.wait_for_end()
    assert list(records(child.path)) == list(range(21, 31))
    assert records(measured.path, "validation").keys() == {0}
    assert list((measured.path / "checkpoints").iterdir()) == []
    stamp = json.loads((child.path / "checkpoints/step-00000030/stamp.json").read_text())
    assert (stamp["parent"]["run_id"], stamp["parent"]["step"]) == (parent.path.name, 20)


def test_a_job_that_comes_too_early_fails_and_says_what_is_missing(place: SlurmPlace) -> None:
    parent = place.submit(*STEADY, "training.steps=20", HELD, "tag=late")
    child = place.submit(
        *STEADY,
        "training.steps=30",
        f"checkpoint.extend_from={parent.path}/checkpoints/step-00000020",
        "checkpoint.awaits=true",
        "cluster.slurm.requeue=false",
        "tag=late",
    )
    child.wait_for_end("FAILED")
    outcome = child.document("outcome.json")
    assert outcome["exit_code"] == 1
    assert "step-00000020" in outcome["message"]
    assert "is not there: it has saved none" in outcome["message"]
