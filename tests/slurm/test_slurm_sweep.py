"""-m on a real SLURM: each point is a job of its own, and the shell is free."""

import pytest
from slurm_place import ENDED, NO_PREFLIGHT, ONE, Submitted

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


def test_a_frozen_script_is_left_to_a_person_who_may_submit_it_again(place) -> None:
    frozen = place.run(*ONE, NO_PREFLIGHT, "training.steps=6", "checkpoint.interval=3", "dry_run=freeze")
    assert frozen.code == 0, frozen.text
    assert "frozen, not submitted" in frozen.out
    run = Submitted(place.cluster, place, place.newest_run())
    script = run.path / "slurm" / "submit.sh"
    assert not place.cluster.run("squeue", "-h", "-n", f"debug-{run.path.name}").stdout
    first = place.cluster.run("sbatch", "--parsable", str(script)).stdout.strip()
    run.wait_for_step(1)
    assert run.attempts == ["0001"]
    place.cluster.run("scancel", first)
    again = place.cluster.run("sbatch", "--parsable", str(script)).stdout.strip()
    place.cluster.wait_for(lambda: place.cluster.state(again) in ENDED, 120, f"job {again}\n{run.logs()}")
    assert place.cluster.state(again) == "COMPLETED", run.logs()
    assert run.document("job.json")["job_id"] == again
    assert sorted(run.losses()) == [1, 2, 3, 4, 5, 6]
