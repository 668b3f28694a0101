"""-m on a real SLURM: each point is a job of its own, and the shell is free."""

import pytest
from slurm_place import ENDED, NO_PREFLIGHT, ONE

pytestmark = pytest.mark.slow


def test_points_are_submitted_to_where_they_belong(place) -> None:
    steps = ("training.steps=6", "checkpoint.interval=3")
    points = place.run("-m", *ONE, NO_PREFLIGHT, *steps, "seed.model=1,2", "hydra.launcher.timeout_min=7")
    assert points.code == 0, points.text
    assert points.out.count("submitted as job") == 2
    rows = place.cluster.run("squeue", "-h", "-t", "all", "-o", "%A %l %j").stdout.splitlines()
    jobs = [row.split() for row in rows if " debug-" in row and row.split()[1] == "7:00"]
    assert len(jobs) == 2
    for job_id, _, _ in jobs:
        place.cluster.wait_for(lambda job_id=job_id: place.cluster.state(job_id) in ENDED, 120, f"job {job_id}")
        assert place.cluster.state(job_id) == "COMPLETED"
    assert len(list(place.outputs.glob("debug/*/checkpoints/step-00000006/stamp.json"))) == 2
    assert len(list(place.outputs.glob(".store/code/*"))) == 1, "the code is stored once"

    wrong = place.run("-m", *ONE, *steps, "seed.model=3,4", "model.dim=128,129")
    assert wrong.code == 2
    assert "submitted" not in wrong.out


def test_an_administrator_submits_the_script_again_as_it_is(place) -> None:
    run = place.submit(*ONE, NO_PREFLIGHT, "training.steps=6", "checkpoint.interval=3")
    run.wait_for_step(1)
    place.cluster.run("scancel", run.job_id)
    run.wait_for_end("CANCELLED")
    script = run.path / "slurm" / f"{run.job_id}_submission.sh"
    again = place.cluster.run("sbatch", "--parsable", str(script)).stdout.strip()
    place.cluster.wait_for(lambda: place.cluster.state(again) in ENDED, 120, f"job {again}\n{run.logs()}")
    assert place.cluster.state(again) == "COMPLETED", run.logs()
    assert run.document("job.json")["job_id"] == again
    assert sorted(run.losses()) == [1, 2, 3, 4, 5, 6]
