"""The whole life of a job on a real SLURM: submitted, preempted, its node killed, finished; one loss curve."""

import json

import pytest
from slurm_place import SMALL, SlurmPlace
from workplace import Workplace, records, replacing

pytestmark = pytest.mark.slow

STEPS = 14
JOB = (*SMALL, "parallel=tp2pp2", f"training.steps={STEPS}", "checkpoint.interval=4")  # 8 ranks over two nodes


def test_eight_ranks_over_two_nodes_survive_preemption_and_a_dead_node(place: SlurmPlace, tmp_path) -> None:
    run = place.submit(*JOB)
    assert run.step == 0, "the shell was free before the first step"
    comment = place.cluster.run("squeue", "-h", "-j", run.job_id, "-o", "%k").stdout

    preempted = run.verb("drill", "--preempt", "--json")
    assert preempted.returncode == 0, preempted.stderr + run.logs()
    killed = run.verb("drill", "--kill-node", "--json")
    assert killed.returncode == 0, killed.stderr + run.logs()
    run.wait_for_end()

    findings = [json.loads(preempted.stdout), json.loads(killed.stdout)]
    assert findings[0]["lost_steps"] == 0, "preemption saves first"
    assert 0 <= findings[1]["lost_steps"] <= 4, "a dead node costs what was not saved"
    victim = findings[1]["what"].removeprefix("killed node ")
    assert victim in run.document("job.json", 1)["nodes"]
    assert victim not in run.document("job.json", 2)["nodes"]
    assert run.attempts == ["0001", "0002", "0003"]
    assert run.document("outcome.json", 0)["exit_code"] == 75

    here = Workplace(place.data, tmp_path / "uninterrupted")
    baseline = here.train(*replacing(JOB, "cluster=local"))
    curve = {step: (float(one["loss"]), float(one["grad_norm"])) for step, one in records(baseline).items()}
    assert run.losses() == curve
    assert sorted(curve) == list(range(1, STEPS + 1))
    assert run.path.name == baseline.name, "where a run runs is no part of its identity"

    # The hash of the config stands in SLURM's comment, the first log line, and the checkpoint.
    stamp = json.loads((run.path / f"checkpoints/step-{STEPS:08d}/stamp.json").read_text())
    config, code = stamp["config_sha256"], stamp["git"]["snapshot_sha256"]
    assert f"config={config}" in comment
    assert f"code={code}" in comment
    first = (run.path / "attempts/0003/logs/rank-0007.log").read_text().splitlines()[0]
    assert f"config sha256 {config}" in first
    assert f"code sha256 {code}" in first

    status = run.verb("status")
    assert status.returncode == 0, status.stderr
    assert "done" in status.stdout
