"""A drill: where it may not be made, what it refuses to break, and what it measures of a run that goes on."""

import json
import os
import subprocess
import sys
import threading
import time

import pytest
from fake_slurm import FakeSlurm, squeue_row
from frozen import begin_job, freeze

from mmhydra.compose import compose
from mmhydra.drill.__main__ import main
from mmhydra.drill.faults import DrillError, Fault, Target, kill_node, kill_rank, preempt
from mmhydra.drill.measure import drill
from mmhydra.slurm.job_state import JobState

NODES = ("127.0.0.2", "127.0.0.3")


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    fake = FakeSlurm(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(fake.folder))
    fake.has(squeue_row("7", "RUNNING", nodes=",".join(NODES)))
    return fake


@pytest.fixture
def cluster(tmp_path):
    """The folder that scripts/slurm-dev makes, as far as a drill looks at it."""
    folder = tmp_path / "slurm-dev"
    folder.mkdir()
    (folder / "cluster.json").write_text("{}")
    return folder


@pytest.fixture
def make_run(tmp_path, default_config, change, cluster):
    def make(conf: object = None, cluster_name: str = "slurm_dev"):
        config = change(default_config, {"paths.outputs": str(tmp_path / "outputs")})
        if cluster_name != "local":
            section = compose([f"cluster={cluster_name}"]).config.cluster.model_dump()
            section["slurm"]["slurm_conf"] = str(conf or cluster / "slurm.conf")
            config = change(config, {"cluster": section})
        return freeze(tmp_path / "outputs" / "debug" / "0123456789ab", config).run

    return make


def log_steps(attempt, *steps: int) -> None:
    with open(attempt.metrics, "a") as file:
        file.writelines(f'{{"step": {step}}}\n' for step in steps)


NOTHING = Fault("nothing", lambda target: "did nothing")


def refused(run, fault: Fault = NOTHING, timeout_s: float = 0.5) -> str:
    with pytest.raises(DrillError) as refusal:
        drill(run, fault, timeout_s, lambda text: None)
    return str(refusal.value)


# ---------------------------------------------------------------- refused


def test_another_slurm_than_the_development_one_is_never_broken(make_run, slurm, tmp_path):
    run = make_run(tmp_path / "site" / "slurm.conf")
    broken = Fault("x", lambda target: pytest.fail("it was broken"))
    assert f"wants the development SLURM of scripts/slurm-dev, not {tmp_path}/site/slurm.conf" in refused(run, broken)


def test_a_local_run_is_refused(make_run, slurm):
    assert "not the site's own SLURM" in refused(make_run(cluster_name="local"))


def test_a_run_without_a_job_is_refused(make_run, slurm):
    assert "is no run of SLURM; submit it with cluster=slurm_dev" in refused(make_run())


def test_a_job_that_is_over_is_refused(make_run, slurm):
    run = make_run()
    begin_job(run.attempts[0])
    slurm.has(squeue_row("7", "COMPLETED"))
    assert "job 7 is over (COMPLETED); submit the run again" in refused(run)
    slurm.forgets()
    assert "job 7 is over (is not known any more)" in refused(run)


def test_a_run_that_does_no_step_is_waited_for_and_then_refused(make_run, slurm):
    run = make_run()
    begin_job(run.attempts[0])
    assert "did not do a step in time" in refused(run)


def target_of(run, cluster) -> Target:
    job = JobState("7", "RUNNING", None, list(NODES), None, 1, 1, 0, None)
    return Target(run.attempts[-1], job, cluster / "slurm.conf")


def test_a_node_of_another_job_is_not_killed(make_run, slurm, cluster):
    with pytest.raises(DrillError, match=r"127\.0\.0\.9 is no node of job 7; its nodes: 127\.0\.0\.2, 127\.0\.0\.3"):
        kill_node("127.0.0.9").make(target_of(make_run(), cluster))


@pytest.fixture
def ranks(make_run):
    """Two processes that look like ranks of the run from outside."""
    run = make_run()
    command = [sys.executable, "-c", "import time; time.sleep(60)", "mmhydra.worker", str(run.attempts[0].path)]
    processes = [subprocess.Popen(command, env={**os.environ, "RANK": str(rank)}) for rank in range(2)]
    yield run, processes
    for process in processes:
        process.kill()
        process.wait()


def test_a_rank_that_is_not_there_is_not_killed(ranks, cluster):
    run, processes = ranks
    time.sleep(0.2)
    with pytest.raises(DrillError, match="there is no rank 5; legal: 0 to 1"):
        kill_rank(5).make(target_of(run, cluster))
    assert [process.poll() for process in processes] == [None, None]


def test_the_rank_that_is_named_is_killed_else_the_last(ranks, cluster):
    run, processes = ranks
    time.sleep(0.2)
    assert kill_rank(0).make(target_of(run, cluster)) == f"killed rank 0 (process {processes[0].pid})"
    assert processes[0].wait(5) == -9
    assert "killed rank 1 " in kill_rank(None).make(target_of(run, cluster))
    assert processes[1].wait(5) == -9


def test_a_run_without_ranks_on_this_host_is_refused(make_run, cluster):
    with pytest.raises(DrillError, match=r"no rank of .* runs on this host"):
        kill_rank(None).make(target_of(make_run(), cluster))


def test_preemption_asks_for_the_same_nodes_on_that_cluster(make_run, slurm, cluster):
    slurm.answer("sbatch", "12\n")
    told = preempt().make(target_of(make_run(), cluster))
    assert told == "job 12 of partition high takes 127.0.0.2, 127.0.0.3 for 8 s"
    (call,) = slurm.calls
    assert "--partition=high --nodes=2 --nodelist=127.0.0.2,127.0.0.3 --exclusive" in call
    assert slurm.environment_of("sbatch")["SLURM_CONF"] == str(cluster / "slurm.conf")
    slurm.answer("sbatch", err="sbatch: error: invalid partition specified: high\n", code=1)
    with pytest.raises(DrillError, match="sbatch says: sbatch: error: invalid partition"):
        preempt().make(target_of(make_run(), cluster))


# ---------------------------------------------------------------- measured


def going_on(run, slurm, after_s: float = 0.4) -> Fault:
    """A fault after which the first attempt does two steps more, and a second goes on from step 8."""

    def happen() -> None:
        first = run.attempts[0]
        log_steps(first, 11, 12)
        first.outcome.write_text('{"exit_code": 1, "requeue": true}')
        time.sleep(after_s)
        second = begin_job(freeze(run.path, first.read_frozen()[0]), nodes=NODES, step=8)
        for step in range(9, 15):
            log_steps(second, step)
            time.sleep(0.1)

    def make(target: Target) -> str:
        threading.Thread(target=happen).start()
        return "pulled the plug"

    return Fault("plug", make)


def test_findings_of_a_run_that_goes_on(make_run, slurm):
    run = make_run()
    log_steps(begin_job(run.attempts[0], nodes=NODES), 9, 10)
    told: list[str] = []
    findings = drill(run, going_on(run, slurm), 20, told.append)
    assert (findings.step, findings.resumed_step, findings.lost_steps) == (12, 8, 4)
    assert (findings.attempt, findings.nodes, findings.what) == (2, list(NODES), "pulled the plug")
    assert 0 <= findings.detection_s < 0.8
    assert 0.8 <= findings.recovery_s < 3  # step 13 is the first that is new
    assert told[0] == "step 10: pulled the plug"


def test_a_fault_that_nobody_notices_is_told(make_run, slurm):
    run = make_run()
    log_steps(begin_job(run.attempts[0]), 1)
    assert "nobody noticed the fault in time" in refused(run)


def test_a_run_that_is_not_started_again_is_told(make_run, slurm):
    run = make_run()
    log_steps(begin_job(run.attempts[0]), 1)
    run.attempts[0].outcome.write_text("{}")
    assert "the run was not started again in time" in refused(run)


def test_the_command_tells_without_a_traceback_and_prints_json(make_run, slurm, capsys, monkeypatch):
    run = make_run()
    assert main([str(run.path), "--preempt", "--timeout", "1"]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    log_steps(begin_job(run.attempts[0], nodes=NODES), 9, 10)
    monkeypatch.setattr("mmhydra.drill.__main__.preempt", lambda: going_on(run, slurm))
    assert main([str(run.path), "--preempt", "--timeout", "20", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["lost_steps"] == 4
    assert "pulled the plug" in err
