import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_slurm import FakeSlurm, squeue_row

from mmhydra import status

TRACEBACK = "Traceback (most recent call last):\n" + '  File "x.py", line 1, in f\n' * 20 + "ValueError: the cause\n"


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    def told(scene: Any) -> dict[str, Any]:
        assert status.main([str(scene.path), "--json"]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return told


@pytest.fixture
def page(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    monkeypatch.setenv("COLUMNS", "200")  # commands in one line, wherever this Python lies

    def page(scene: Any) -> str:
        assert status.main([str(scene.path)]) == 0
        return capsys.readouterr().out

    return page


def test_a_job_that_waits(scene, slurm: FakeSlurm, told, page) -> None:
    scene.submitted()
    slurm.has(squeue_row("123", "PENDING", reason="Resources", start="2026-11-26T03:00:00"))
    facts = told(scene)
    assert facts["state"] == "pending"
    assert not facts["final"]
    assert facts["job"]["reason"] == "Resources"
    assert facts["waits_s"] == pytest.approx(3600, abs=30)
    text = page(scene)
    assert "123 PENDING (Resources): no nodes are free, waiting for 1 h, expected to start 11-26 03:00" in text
    assert "mmhydra.cancel outputs/debug/" in text


def test_a_job_that_trains(scene, slurm: FakeSlurm, told, page) -> None:
    attempt = scene.started()
    slurm.has(squeue_row("123", "RUNNING", nodes="gpu[01-02]", used="1:00", left="1:00:00"))
    assert told(scene)["state"] == "starting"
    scene.status(attempt, "running", None, 0, "starting")
    scene.trained(attempt, 10, 20, 30)
    scene.saved(25)
    facts = told(scene)
    assert (facts["state"], facts["step"], facts["num_steps"], facts["checkpoint"]) == ("running", 30, 1000, 25)
    assert facts["train"]["loss"] == 7.47
    assert facts["remaining_s"] == pytest.approx(970 * 0.2)
    assert facts["left_s"] == 3600
    assert facts["problems"] == []
    text = page(scene)
    for words in ("RUNNING", "30 of 1,000", "loss 7.4700", "81,920 tokens/s", "step 25, 5 steps ago", "gpu[01-02] (2)"):
        assert words in text


@pytest.mark.parametrize(
    ("losses", "row"),
    [
        ({"text": 3.91234, "image": 5.1}, "text 3.9123 image 5.1000"),
        ({"text": 3.91234}, None),  # that of all tokens, which stands there already
        ({"text": "NaN", "image": None, "audio": 5}, "text nan audio 5.0000"),
        ("broken", None),
    ],
)
def test_a_run_of_several_modalities_tells_each_loss(scene, slurm: FakeSlurm, page, losses, row) -> None:
    attempt = scene.started()
    slurm.has(squeue_row("123", "RUNNING"))
    scene.status(attempt, "running", None, 0, "starting")
    scene.trained(attempt, 10, loss_by_modality=losses)
    text = page(scene)
    assert ("loss of" in text) == (row is not None)
    assert row is None or row in text


@pytest.mark.parametrize("skipped", [0, 1234])
def test_a_run_that_skips_samples_says_so(scene, slurm: FakeSlurm, page, skipped: int) -> None:
    attempt = scene.started()
    slurm.has(squeue_row("123", "RUNNING"))
    scene.status(attempt, "running", None, 0, "starting")
    scene.trained(attempt, 10, skipped_samples=skipped)
    assert ("1,234 samples, whose chunks can't be read" in page(scene)) == bool(skipped)


def test_a_requeued_run_tells_how_each_attempt_ended(scene, slurm: FakeSlurm, told, page) -> None:
    first = scene.started()
    scene.trained(first, *range(10, 410, 10))
    scene.status(first, "preempted", 75, 405, "a checkpoint is saved")
    slurm.has(squeue_row("123", "RUNNING"))
    assert told(scene)["state"] == "ending"
    scene.ended(first, 75, "preempted", requeue=True, reason="another job took the nodes", step=405)
    slurm.has(squeue_row("123", "PENDING", reason="BeginTime", restarts=1))
    assert told(scene)["state"] == "waiting"
    slurm.has(squeue_row("123", "RUNNING", restarts=1))
    assert told(scene)["state"] == "starting"  # its new attempt is not there yet
    second = scene.requeued(restart=1, step=400, nodes=3)
    scene.status(second, "running", None, 400, "starting")
    scene.trained(second, 410, 420)
    facts = told(scene)
    assert (facts["state"], facts["attempt"], facts["step"], facts["job_id"]) == ("running", 2, 420, "123")
    lines = [" ".join(line.split()) for line in page(scene).splitlines()]
    began = next(line for line in lines if line.startswith("1 123 gpu[01-02]"))
    assert began.endswith("0 to 405 preempted: another job took the nodes")
    assert next(line for line in lines if line.startswith("2 123 gpu[01-03]")).endswith("400 to 420 running")


@pytest.mark.parametrize(
    ("answer", "remark"),
    [
        (None, "SLURM does not know the job any more"),
        (squeue_row("123", "NODE_FAIL"), "SLURM says NODE_FAIL"),
        (squeue_row("123", "COMPLETED"), "SLURM says COMPLETED"),
    ],
)
def test_a_job_that_is_gone_is_not_said_to_run(
    scene, slurm: FakeSlurm, told, page, answer: str | None, remark: str
) -> None:
    attempt = scene.started()
    scene.status(attempt, "running", None, 0, "starting")
    scene.trained(attempt, 10)
    slurm.forgets() if answer is None else slurm.has(answer)
    facts = told(scene)
    assert facts["state"] == "gone"
    assert facts["final"]
    assert remark in facts["remark"]
    text = page(scene)
    assert "GONE" in text
    assert "RUNNING" not in text
    assert "mmhydra.train resume=outputs/debug/" in text


def test_cancelled_and_never_begun(scene, slurm: FakeSlurm, told) -> None:
    attempt = scene.submitted()
    slurm.has(squeue_row("123", "CANCELLED"))
    assert told(scene)["state"] == "cancelled"
    slurm.forgets()
    assert told(scene)["remark"].startswith("the job ended before its ranks began")
    scene.began(attempt)
    scene.status(attempt, "running", None, 0, "starting")
    slurm.has(squeue_row("123", "CANCELLED"))
    assert told(scene)["state"] == "cancelled"


def test_a_job_that_slurm_is_ending(scene, slurm: FakeSlurm, told) -> None:
    scene.status(scene.started(), "running", None, 0, "starting")
    slurm.has(squeue_row("123", "COMPLETING"))
    assert told(scene)["state"] == "ending"


def test_a_run_that_may_not_requeue_is_final_when_preempted(scene, slurm: FakeSlurm, told) -> None:
    attempt = scene.started()
    scene.status(attempt, "preempted", 75, 7, "a checkpoint is saved")
    scene.ended(attempt, 75, "a checkpoint is saved", requeue=False, step=7)
    slurm.has(squeue_row("123", "FAILED", status=75 << 8))
    facts = told(scene)
    assert (facts["state"], facts["final"]) == ("preempted", True)
    assert "mmhydra.train resume=" in facts["commands"]["go on"]


def test_a_controller_that_is_down_leaves_the_files_and_the_lease(scene, slurm: FakeSlurm, told, page) -> None:
    attempt = scene.started()
    scene.status(attempt, "running", None, 0, "starting")
    slurm.is_down()
    facts = told(scene)
    assert facts["state"] == "running"
    assert "SLURM can't be asked" in facts["remark"]
    assert "Unable to contact" in facts["job_problem"]
    scene.local(host="gpu01", beat_ago=3)
    assert "its lease was renewed" in told(scene)["remark"]
    assert "123, state unknown" in page(scene)


def test_no_slurm_on_this_host(scene, slurm: FakeSlurm, told) -> None:
    scene.submitted()
    assert "is on PATH of this host" in told(scene)["job_problem"]


def test_silence_is_told(scene, slurm: FakeSlurm, told, page) -> None:
    attempt = scene.started()
    slurm.has(squeue_row("123", "RUNNING"))
    scene.status(attempt, "running", None, 0, "starting")
    scene.trained(attempt, 10, 20, 30, seconds_ago=50, every_s=2)
    assert told(scene)["problems"] == []
    scene.trained(attempt, 10, 20, 30, seconds_ago=200, every_s=2)
    assert told(scene)["problems"] == ["no step for 3 min"]
    assert "no step for 3 min" in page(scene)
    scene.trained(attempt, 10, 20, 30, seconds_ago=200, every_s=30)  # slow steps, or a long log interval
    assert told(scene)["problems"] == []


def test_a_failure_shows_its_traceback_and_its_log(scene, slurm: FakeSlurm, told, page) -> None:
    attempt = scene.started()
    scene.write(attempt.failures / "rank-0000.json", rank=0, time=9.0, exit_code=1, message="peer lost")
    scene.write(attempt.failures / "rank-0003.json", rank=3, time=8.0, exit_code=1, message="[bold]the cause")
    scene.status(attempt, "failed", 1, 7, "[bold]the cause", rank=3, traceback=TRACEBACK)
    scene.ended(attempt, 1, "rank 3 failed", requeue=False, reason="three attempts without progress", step=7)
    slurm.has(squeue_row("123", "FAILED", status=256))
    facts = told(scene)
    assert facts["state"] == "failed"
    assert facts["failure"]["rank"] == 3
    text = page(scene)
    assert "ValueError: the cause" in text
    assert "10 lines before" in text
    assert "three attempts without progress" in text
    assert "--rank 3" in text


def test_ranks_that_agreed_to_end_did_not_fail(scene, slurm: FakeSlurm, told) -> None:
    attempt = scene.started()
    scene.write(attempt.failures / "rank-0000.json", rank=0, time=9.0, exit_code=75, message="a checkpoint is saved")
    scene.ended(attempt, 75, "a checkpoint is saved", requeue=True)
    slurm.has(squeue_row("123", "PENDING"))
    assert told(scene)["failure"] is None


def test_a_rank_that_was_killed_is_the_cause(scene, slurm: FakeSlurm, told) -> None:
    attempt = scene.started()
    scene.write(attempt.failures / "rank-0000.json", rank=0, time=8.0, exit_code=1, message="peer lost")
    scene.write(attempt.failures / "rank-0002.json", rank=2, time=8.1, exit_code=137, message="SIGKILL", signal=9)
    scene.ended(attempt, 1, "rank 2 was ended by SIGKILL", requeue=False)
    slurm.has(squeue_row("123", "FAILED"))
    assert told(scene)["failure"]["rank"] == 2


def test_a_failure_that_is_requeued_is_not_the_end(scene, slurm: FakeSlurm, told) -> None:
    attempt = scene.started()
    scene.status(attempt, "failed", 1, 7, "out of memory")
    scene.ended(attempt, 1, "out of memory", requeue=True, step=7)
    slurm.has(squeue_row("123", "PENDING", reason="BeginTime"))
    assert told(scene)["state"] == "waiting"
    slurm.forgets()
    assert told(scene)["state"] == "failed"


def test_preflight_failures_are_named(scene, slurm: FakeSlurm, page) -> None:
    attempt = scene.started()
    checks = [
        {"name": "device", "ok": False, "message": "3 of 4 GPUs are visible", "seconds": 1},
        {"name": "clock", "ok": True, "message": "", "seconds": 1},
    ]
    scene.write(attempt.preflight / "gpu02.json", node="gpu02", ok=False, seconds=2, checks=checks)
    scene.write(attempt.preflight / "gpu01.json", node="gpu01", ok=True, seconds=2, checks=[])
    (attempt.preflight / "gpu03.json").write_text("{")
    slurm.has(squeue_row("123", "RUNNING"))
    text = page(scene)
    assert "gpu02: device: 3 of 4 GPUs are visible" in text
    assert "clock" not in text


def test_step_times_name_the_straggler(scene, slurm: FakeSlurm, page) -> None:
    attempt = scene.started()
    scene.status(attempt, "running", None, 0, "starting")
    slurm.has(squeue_row("123", "RUNNING"))
    times = {f"gpu{n:02d}": {"step_p50_s": 0.5, "compute_p50_s": 0.01 * n} for n in range(1, 12)}
    scene.write(attempt.nodes, step=5, nodes=times, straggler="gpu11", slowdown=1.83)
    lines = [" ".join(line.split()) for line in page(scene).splitlines()]
    assert "gpu11 0.5 s - 0.11 s - 1.8 times as slow as the others" in lines
    assert "and 3 faster nodes" in lines


def test_done(scene, slurm: FakeSlurm, told, page) -> None:
    attempt = scene.started()
    scene.trained(attempt, 1000)
    scene.status(attempt, "done", 0, 1000, "the run is complete")
    slurm.has(squeue_row("123", "RUNNING"))
    assert told(scene)["state"] == "ending"
    scene.ended(attempt, 0, "the run is complete", requeue=False)
    scene.saved(1000)
    slurm.forgets()
    facts = told(scene)
    assert (facts["state"], facts["final"]) == ("done", True)
    assert "mmhydra.checkpoint show" in page(scene)


def test_a_local_run_from_its_lease(scene, slurm: FakeSlurm, told, page) -> None:
    assert told(scene)["state"] == "empty"
    attempt = scene.attempt()
    scene.local()
    assert told(scene)["state"] == "starting"
    scene.status(attempt, "running", None, 0, "starting")
    scene.trained(attempt, 10)
    assert told(scene)["state"] == "running"
    assert f"local, process {os.getpid()} on" in page(scene)
    scene.local(released=True)
    assert told(scene)["state"] == "gone"
    scene.local(host="elsewhere", beat_ago=310)
    assert "elsewhere is silent for 5 min" in told(scene)["remark"]
    scene.status(attempt, "done", 0, 10, "the run is complete")
    scene.ended(attempt, 0, "the run is complete")
    assert told(scene)["state"] == "done"
    assert slurm.calls == []


def test_a_local_run_whose_process_was_killed(scene, slurm: FakeSlurm, told) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    attempt = scene.attempt()
    scene.status(attempt, "running", None, 0, "starting")
    scene.local(pid=child.pid)
    facts = told(scene)
    assert facts["state"] == "gone"
    assert "it was killed" in facts["remark"]


def test_broken_files_are_no_traceback(scene, slurm: FakeSlurm, told, page) -> None:
    attempt = scene.started()
    slurm.has(squeue_row("123", "RUNNING"))
    for path in (attempt.status, attempt.outcome, attempt.metrics, attempt.nodes, attempt.submitted):
        path.write_text('{"nodes": [1], "torn": ')
    attempt.metrics.write_text('{"kind": "train", "step": "x", "loss": "NaN", "step_time_s": null}\n[1]\nnoise')
    (attempt.path / "config.yaml").write_text("model: {")
    (scene.directory.attempts[-1].failures).mkdir()
    (attempt.failures / "rank-0000.json").write_text("[]")
    scene.directory.lease.write_text("")
    facts = told(scene)
    assert facts["model"] is None
    assert facts["job_id"] == "123"
    assert any("was changed after it was frozen" in problem for problem in facts["problems"])
    assert "loss nan" in page(scene)


def test_an_attempt_that_was_claimed_and_not_frozen_takes_the_config_before(scene, slurm: FakeSlurm, told) -> None:
    scene.attempt()
    scene.directory.new_attempt()
    scene.local()
    facts = told(scene)
    assert (facts["attempt"], facts["num_steps"], facts["state"]) == (2, 1000, "starting")


def test_a_long_history_is_cut(scene, slurm: FakeSlurm, page) -> None:
    for restart in range(12):
        scene.ended(scene.requeued(restart=restart), 75, "preempted", requeue=True)
    slurm.has(squeue_row("123", "PENDING", restarts=12))
    text = page(scene)
    assert "4 earlier attempts in outputs/debug/" in text
    assert text.count("preempted") == 7


def test_a_run_by_id_by_job_and_by_any_path(scene, slurm: FakeSlurm, capsys, monkeypatch) -> None:
    attempt = scene.started("987654")
    slurm.has(squeue_row("987654", "RUNNING"))
    for wanted in (
        scene.path.name,
        scene.path.name[:4],
        "987654",
        str(attempt.metrics.parent),
        str(scene.directory.checkpoints),
    ):
        assert status.main([wanted, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["run_id"] == scene.path.name


def test_no_run(make_scene, outputs: Path, slurm: FakeSlurm, capsys: pytest.CaptureFixture[str]) -> None:
    first = make_scene()
    for wanted, words in (("feed", "begins with feed"), ("55", "had such a job"), ("nowhere/at/all", "does not exist")):
        assert status.main([wanted]) == 2
        assert words in capsys.readouterr().err
    twin = outputs / "other" / f"{first.path.name[:5]}ffffff"
    twin.mkdir(parents=True)
    (twin / "identity.yaml").write_text("")
    assert status.main([first.path.name[:4]]) == 2
    told = capsys.readouterr().err
    assert "may be any of 2 runs" in told
    assert "outputs/other" in told


def test_watch_ends_with_the_run(scene, slurm: FakeSlurm, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmhydra.monitor.watch.REFRESH_S", 0.05)
    attempt = scene.attempt()
    scene.local()
    naps = []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            scene.ended(attempt, 0, "the run is complete")

    monkeypatch.setattr(time, "sleep", sleep)
    assert status.main([str(scene.path), "--watch"]) == 0
    assert len(naps) == 3
    assert "DONE" in capsys.readouterr().out


def test_ctrl_c_ends_the_watching_alone(scene, slurm: FakeSlurm, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.attempt()
    scene.local()

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)
    assert status.main([str(scene.path), "--watch"]) == 0
    assert "the run goes on" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["status", "logs", "cancel"])
def test_no_heavy_imports(module: str) -> None:
    heavy = "{'torch', 'hydra', 'omegaconf', 'submitit', 'numpy', 'tokenizers'}"
    code = f"import sys, mmhydra.{module}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_evaluation_says_what_it_measured(make_scene, slurm: FakeSlurm, told, page) -> None:
    weights = Path.cwd() / "outputs/debug/0123456789ab/checkpoints/step-00000100"
    scene = make_scene(training__steps=0, checkpoint__init_from=str(weights))
    attempt = scene.started()
    slurm.has(squeue_row("123", "RUNNING", nodes="gpu[01-02]"))
    text = page(scene)
    assert "evaluation  not measured yet  weights of outputs/debug/0123456789ab/checkpoints/step-00000100" in text
    attempt.metrics.write_text('{"kind": "validation", "step": 0, "val_loss": 2.25}\n')
    scene.status(attempt, "done", 0, 0, "the run is complete")
    slurm.has(squeue_row("123", "COMPLETED"))
    text = page(scene)
    assert "evaluation  held-out 2.2500  weights of outputs/debug" in text
    assert "0 of 0" not in text
    assert "training" not in text.split("╯")[0]
    assert told(scene)["evaluation"] is True


def test_a_run_that_trains_is_no_evaluation(scene, told, page) -> None:
    scene.trained(scene.attempt(), 10)
    assert told(scene)["evaluation"] is False
    assert "evaluation" not in page(scene)
