"""What was submitted is what runs, whatever is edited meanwhile."""

import json
import subprocess
import sys

import pytest
from slurm_place import NO_PREFLIGHT, TWO, SlurmPlace, edit, own_checkout

pytestmark = pytest.mark.slow

HELD = "+cluster.slurm.additional_parameters.hold=true"


def test_edits_of_yaml_and_code_after_submission_have_no_effect(place, tmp_path) -> None:
    checkout = own_checkout(tmp_path / "checkout")
    own = SlurmPlace(place.data, place.outputs, cluster=place.cluster, checkout=checkout)
    edit(checkout / "mmhydra/titan/trainer.py", '"""torchtitan', '"""Uncommitted. torchtitan')
    run = own.submit(*TWO, NO_PREFLIGHT, HELD, "training.steps=12", "checkpoint.interval=6")
    frozen = (run.path / "attempts/0001/config.yaml").read_bytes()
    (checkout / "mmhydra/titan/trainer.py").write_text("raise RuntimeError('edited code')\n")
    (checkout / "mmhydra/job/bridge.py").write_text("raise RuntimeError('edited code')\n")
    edit(checkout / "conf/model/debug.yaml", "dim: 128", "dim: 64")
    place.cluster.run("scontrol", "release", run.job_id)
    run.wait_for_end()

    stamp = json.loads((run.path / "checkpoints/step-00000012/stamp.json").read_text())
    assert (run.path / "checkpoints/step-00000012/config.yaml").read_bytes() == frozen
    assert stamp["git"]["dirty"]
    assert b"Uncommitted." in (run.path / "checkpoints/step-00000012/code.patch").read_bytes()
    snapshot = run.document("provenance.json")["snapshot"]
    with open(f"{snapshot}/mmhydra/titan/trainer.py") as file:
        assert "Uncommitted." in file.read()

    # A bare srun starts the same worker. The checkout's own code can't even be imported any more: the worker finds
    # the frozen code by itself. The run is complete, so it loads the last checkpoint and says so.
    attempt = run.path / "attempts/0001"
    (attempt / "status.json").unlink()
    tasks = ["--nodes=2", "--ntasks=2", "--ntasks-per-node=1", "--kill-on-bad-exit=1"]
    bare = ["srun", *tasks, sys.executable, "-m", "mmhydra.worker", str(attempt)]
    environment = {**own.environment, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(bare, env=environment, cwd=checkout, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr + run.logs()
    assert run.document("status.json")["state"] == "done"
