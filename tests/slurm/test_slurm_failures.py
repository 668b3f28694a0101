"""How jobs on a real SLURM end when something is wrong, and that nothing is lost by it."""

import json
import shutil

import pytest
from slurm_place import NO_PREFLIGHT, ONE, TWO, SlurmPlace, edit, own_checkout
from workplace import events, replacing

pytestmark = pytest.mark.slow

ONCE = "cluster.slurm.max_attempts_without_progress=1"
STEP = "    def should_continue_training(self) -> bool:\n"


@pytest.fixture
def own_place(place: SlurmPlace, tmp_path) -> SlurmPlace:
    """A workplace with a checkout of its own, in which a test may break things."""
    return SlurmPlace(place.data, place.outputs, cluster=place.cluster, checkout=own_checkout(tmp_path / "checkout"))


def test_a_crash_in_one_rank_is_failed_with_its_traceback_after_as_many_attempts_as_allowed(own_place) -> None:
    crash = "        if self.step == 3 and torch.distributed.get_rank() == 1:\n            raise ValueError('boom')\n"
    trainer = own_place.checkout / "mmhydra/titan/trainer.py"
    edit(trainer, STEP, "    def should_continue_training(self) -> bool:\n        import torch\n" + crash)
    twice = "cluster.slurm.max_attempts_without_progress=2"
    run = own_place.submit(*TWO, NO_PREFLIGHT, twice, "training.steps=20", "checkpoint.interval=10")
    run.wait_for_end("FAILED")

    assert own_place.cluster.job(run.job_id)["ExitCode"] == "1:0"
    assert run.attempts == ["0001", "0002"]
    outcomes = [run.document("outcome.json", attempt) for attempt in (0, 1)]
    assert [outcome["requeue"] for outcome in outcomes] == [True, False]
    assert "2 attempts in a row" in outcomes[1]["reason"]
    status = run.document("status.json")
    assert (status["state"], status["rank"], status["exit_code"]) == ("failed", 1, 1)
    assert "raise ValueError('boom')" in status["traceback"]
    page = run.verb("status").stdout
    assert "ValueError: boom" in page
    assert "rank 1" in page


def test_code_that_cannot_be_imported_fails_with_the_reason(own_place) -> None:
    (own_place.checkout / "mmhydra/titan/nodes.py").write_text('raise ImportError("half an edit")\n')
    run = own_place.submit(*ONE, NO_PREFLIGHT, ONCE, "training.steps=20", "checkpoint.interval=10")
    run.wait_for_end("FAILED")
    status = run.document("status.json")
    assert status["state"] == "failed"
    assert "half an edit" in status["traceback"]
    assert "half an edit" in run.verb("status").stdout


def test_wrong_data_is_exit_code_2_and_never_requeued(place, tmp_path) -> None:
    data = tmp_path / "data"
    shutil.copytree(place.data, data)
    own = SlurmPlace(data, place.outputs, cluster=place.cluster)
    held = "+cluster.slurm.additional_parameters.hold=true"
    run = own.submit(*ONE, NO_PREFLIGHT, held, "training.steps=20", "checkpoint.interval=10")
    manifest = next(data.glob("*/manifest.json"))
    document = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(document | {"name": "another"}))
    place.cluster.run("scontrol", "release", run.job_id)
    run.wait_for_end("FAILED")
    assert place.cluster.job(run.job_id)["ExitCode"] == "2:0"
    assert run.attempts == ["0001"]
    assert run.document("outcome.json")["requeue"] is False


def test_missing_data_fails_the_smoke_test_of_all_nodes_and_blames_none(place, tmp_path) -> None:
    data = tmp_path / "data"
    shutil.copytree(place.data, data)
    own = SlurmPlace(data, place.outputs, cluster=place.cluster)
    run = own.submit(
        *TWO, "+cluster.slurm.additional_parameters.hold=true", "training.steps=20", "checkpoint.interval=10"
    )
    shutil.rmtree(data)
    place.cluster.run("scontrol", "release", run.job_id)
    run.wait_for_end("FAILED")
    assert place.cluster.job(run.job_id)["ExitCode"] == "2:0"
    outcome = run.document("outcome.json")
    assert "no node is to blame" in outcome["message"]
    assert not list(place.outputs.glob(".cluster/*/exclude"))
    assert "data" in run.verb("status").stdout


def test_a_node_that_fails_its_smoke_test_is_excluded_and_the_run_goes_on_without_it(place, tmp_path) -> None:
    bad = place.cluster.nodes[0]
    prolog = tmp_path / "prolog.sh"  # a node whose tasks do not start
    prolog.write_text(f'#!/bin/sh\n[ "$SLURMD_NODENAME" != {bad} ]\n')
    prolog.chmod(0o755)
    run = place.submit(
        *TWO, f'cluster.slurm.srun_args=["--task-prolog={prolog}"]', "training.steps=10", "checkpoint.interval=5"
    )
    run.wait_for_end()
    assert run.attempts == ["0001", "0002"]
    assert bad in run.document("job.json", 0)["nodes"]
    assert bad not in run.document("job.json", 1)["nodes"]
    told = run.document("outcome.json", 0)["message"]
    assert "1 of 2 nodes failed the smoke test" in told
    [line] = (place.outputs / ".cluster/slurm_dev/exclude").read_text().splitlines()
    assert line.startswith(f"{bad}  # ")
    # The next run stays away from it from the start.
    script = place.run(*TWO, "training.steps=11", "checkpoint.interval=5", "dry_run=sbatch").out
    assert f"#SBATCH --exclude={bad}\n" in script


def test_a_full_disk_at_save_is_named_and_what_was_saved_before_stays(place) -> None:
    # KiB: no checkpoint fits. SLURM hands limits on only where it is asked to.
    full = ('cluster.slurm.setup=["ulimit -f 3000"]', 'cluster.slurm.srun_args=["--propagate=FSIZE"]')
    run = place.submit(*TWO, NO_PREFLIGHT, ONCE, *full, "training.steps=20", "checkpoint.interval=10")
    run.wait_for_end("FAILED")
    status = run.document("status.json")
    assert "could not be written" in status["message"]
    assert "step 10" in status["message"]
    assert not list(run.path.glob("checkpoints/*/stamp.json"))
    # With room again the same command goes on.
    again = place.submit(*TWO, NO_PREFLIGHT, ONCE, "training.steps=20", "checkpoint.interval=10")
    assert again.path == run.path


def test_the_end_of_the_time_limit_saves_and_requeues(place) -> None:
    run = place.submit(*TWO, NO_PREFLIGHT, "training.steps=5000", "checkpoint.interval=5000")
    run.wait_for_step(5)
    place.cluster.run("scontrol", "update", f"JobId={run.job_id}", "TimeLimit=1")
    place.cluster.wait_for(lambda: (run.path / "attempts/0001/outcome.json").exists(), 90, "the end of attempt 1")
    place.cluster.run("scontrol", "update", f"JobId={run.job_id}", "TimeLimit=30", check=False)
    outcome = run.document("outcome.json", 0)
    assert (outcome["exit_code"], outcome["requeue"]) == (75, True), outcome
    run.wait_for_step(outcome["step"] + 1)
    assert run.attempts == ["0001", "0002"]
    assert run.document("job.json")["step"] == outcome["step"], "what was saved last is gone on from"
    assert sorted(run.losses()) == list(range(1, run.step + 1))


def test_a_person_asks_by_files_to_save_to_leave_and_to_stop(place) -> None:
    run = place.submit(*ONE, NO_PREFLIGHT, "training.steps=5000", "checkpoint.interval=5000")
    run.wait_for_step(3)
    (run.path / "save").touch()
    place.cluster.wait_for(lambda: list(run.path.glob("checkpoints/*/stamp.json")), 30, "a checkpoint")
    place.cluster.wait_for(lambda: not (run.path / "save").exists(), 10, "the file to be taken away")
    assert place.cluster.state(run.job_id) == "RUNNING"
    (run.path / "drain").touch()
    place.cluster.wait_for(lambda: len(run.attempts) == 2, 60, "another attempt")
    assert run.document("outcome.json", 0)["exit_code"] == 75
    place.cluster.wait_for(lambda: (run.path / "attempts/0002/metrics.jsonl").exists(), 60, "a step")
    (run.path / "stop").touch()
    run.wait_for_end("FAILED")
    assert place.cluster.job(run.job_id)["ExitCode"] == "3:0"
    assert run.document("status.json")["state"] == "stopped"
    assert not (run.path / "stop").exists()
    kinds = [event["kind"] for event in events(run.path)]
    assert [kind for kind in kinds if kind in ("save", "drain", "stop")] == ["save", "drain", "stop"]


def test_an_orphan_of_a_dead_daemon_ends_without_writing(place) -> None:
    run = place.submit(*ONE, NO_PREFLIGHT, "training.steps=20000", "checkpoint.interval=20")
    run.wait_for_step(3)
    [node] = run.document("job.json")["nodes"]
    place.cluster.kill_node(node, daemon_only=True)
    place.cluster.wait_for(lambda: len(run.attempts) == 2, 90, "another attempt")
    failure = run.path / "attempts/0001/failures/rank-0000.json"
    place.cluster.wait_for(failure.exists, 30, "the end of the orphan")
    assert "has taken over this run" in json.loads(failure.read_text())["message"]
    [other] = run.document("job.json")["nodes"]
    assert other != node
    second = run.path / "attempts/0002"
    place.cluster.wait_for(lambda: (second / "metrics.jsonl").exists(), 60, "a step of the new attempt")
    assert place.cluster.state(run.job_id) == "RUNNING", "the orphan's script requeued nothing"
    saved = [json.loads(path.read_text()) for path in run.path.glob("checkpoints/*/stamp.json")]
    begun = json.loads((second / "job.json").read_text())["step"]
    assert all(stamp["attempt"] == 2 for stamp in saved if stamp["step"] > begun)


def test_cancelling_saves_and_does_not_run_again(place) -> None:
    run = place.submit(*ONE, NO_PREFLIGHT, "training.steps=20000", "checkpoint.interval=20000")
    second = place.run(*ONE, NO_PREFLIGHT, "training.steps=20000", "checkpoint.interval=20000")
    assert second.code == 2
    assert f"under way as SLURM job {run.job_id}" in second.err
    run.wait_for_step(3)
    assert run.verb("cancel").returncode == 0
    run.wait_for_end("CANCELLED")
    place.cluster.wait_for(lambda: list(run.path.glob("checkpoints/*/stamp.json")), 30, "a checkpoint")
    assert run.attempts == ["0001"]
    again = place.submit(*replacing(ONE), NO_PREFLIGHT, "training.steps=20000", "checkpoint.interval=20000")
    assert again.path == run.path


def test_a_signal_before_the_first_step_and_a_killed_rank_cost_an_attempt_each(place) -> None:
    run = place.submit(*TWO, NO_PREFLIGHT, "training.steps=5000", "checkpoint.interval=10")
    place.cluster.wait_for((run.path / "attempts/0001/logs/rank-0001.log").exists, 60, "the ranks to start")
    place.cluster.run("scancel", "--signal=USR2", run.job_id)  # heard when torch is imported
    place.cluster.wait_for(lambda: len(run.attempts) == 2, 60, "another attempt")
    assert run.document("outcome.json", 0)["exit_code"] == 75, run.logs()

    drilled = run.verb("drill", "--kill-rank", "1", "--json")
    assert drilled.returncode == 0, drilled.stderr + run.logs()
    findings = json.loads(drilled.stdout)
    assert findings["lost_steps"] <= 10
    assert findings["attempt"] == 3
    status = run.document("status.json", 1)
    assert status["rank"] == 1, "its peer, which only lost it, is not blamed"
    assert "rank 1 was ended by SIGKILL" in status["message"]
    assert "rank 1 was ended by SIGKILL" in run.verb("status").stdout
    assert "SIGKILL" not in run.verb("logs").stderr
