"""`cancel SWEEP`: all jobs in few calls, those that nobody noted too."""

import json
import os
import socket
from collections.abc import Callable
from dataclasses import replace

import pytest
from fake_slurm import FakeSlurm, squeue_row
from fake_sweep import FakeSweep, point

from mmhydra import cancel
from mmhydra.monitor.words import python_module

Make = Callable[..., FakeSweep]


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def told(code: int = 0, name: str = "lr_ladder") -> str:
        assert cancel.main([name]) == code
        captured = capsys.readouterr()
        return captured.err if code else captured.out

    return told


def calls(slurm: FakeSlurm, tool: str = "scancel") -> list[str]:
    return [call for call in slurm.calls if call.startswith(tool)]


def test_all_jobs_in_one_call(make_sweep: Make, slurm: FakeSlurm, slurm_config, told) -> None:
    sweep = make_sweep(300, slurm_config)
    rows = []
    for number in range(1, 300):
        sweep.submitted(number, f"70_{number}")
        rows.append(squeue_row(f"70_{number}", "PENDING"))
    attempt = sweep.began(300, "71_4")
    sweep.running(attempt, 40)
    sweep.saved(300, 40)
    slurm.has(*rows, squeue_row("71_4", "RUNNING", nodes="n1"))
    slurm.answer("scancel")
    lines = told().splitlines()
    assert lines[0] == "300 jobs being cancelled; they were 299 pending, 1 running"
    assert lines[1] == "checkpoints are kept, 1 run of these have one; this goes on from them:"
    assert lines[2].endswith("-m mmhydra.train -m sweep=lr_ladder")
    (call,) = calls(slurm)
    assert call.split()[1:] == ["70_[1-299]", "71_[4]"]
    assert len(calls(slurm, "squeue")) <= 3


def test_what_is_over_is_left_alone(make_sweep: Make, slurm: FakeSlurm, slurm_config, told) -> None:
    sweep = make_sweep(3, slurm_config)
    sweep.ended(sweep.began(1, "70_1"), "done", 0, 100)
    sweep.submitted(2, "70_2")
    slurm.has(squeue_row("70_2", "CANCELLED"))
    slurm.answer("scancel")
    assert told() == "nothing to cancel: nothing of this sweep is at work\n"
    assert calls(slurm) == []


def test_an_array_whose_submitter_was_killed(make_sweep: Make, slurm: FakeSlurm, slurm_config, told) -> None:
    sweep = make_sweep(1, slurm_config)
    attempt = sweep.frozen(1)
    tasks = [{"index": 0, "attempt": str(attempt.path)}]
    written = {"state": "submitting", "name": "lr-0001-ab", "tasks": tasks, "slurm_conf": None}
    sweep.write(sweep.directory.new_array() / "array.json", **written, written="2026-11-01T10:00:00+00:00")
    # The same tool answers both questions: ids by name, and states by id.
    script = slurm.folder / "squeue"
    row = squeue_row("91_0", "PENDING")
    script.write_text(f'#!/bin/bash\ncase "$*" in *--name=lr-0001-ab*) echo 91;; *) echo "{row}";; esac\n')
    script.chmod(0o755)
    slurm.answer("scancel")
    lines = told().splitlines()
    assert lines == ["array lr-0001-ab, whose submitter was killed, is being cancelled: 91"]
    assert calls(slurm) == ["scancel 91"]


def test_the_driver_of_a_search_goes_first(make_sweep: Make, slurm: FakeSlurm, slurm_config, told) -> None:
    sweep = make_sweep(1, slurm_config)
    sweep.submitted(1, "70")
    sweep.write(sweep.directory.search / "driver.json", job_id="69")
    slurm.has(squeue_row("69", "RUNNING"), squeue_row("70", "PENDING"))
    slurm.answer("scancel")
    lines = told().splitlines()
    assert lines[0] == "job 69, which drives the search, is being cancelled; it was RUNNING"
    assert lines[1] == "job 70 is being cancelled; it was pending"
    assert calls(slurm) == ["scancel 69", "scancel 70"]


def test_a_driver_whose_submitter_was_killed(make_sweep: Make, slurm: FakeSlurm, slurm_config, told) -> None:
    sweep = make_sweep(1, slurm_config)
    written = {"state": "submitting", "name": "lr-driver-ab", "slurm_conf": None}
    file = sweep.directory.search / "driver.json"
    sweep.write(file, **written, written="2026-11-01T10:00:00+00:00")
    script = slurm.folder / "squeue"
    row = squeue_row("69", "PENDING")
    script.write_text(f'#!/bin/bash\ncase "$*" in *--name=lr-driver-ab*) echo 69;; *) echo "{row}";; esac\n')
    script.chmod(0o755)
    slurm.answer("scancel")
    assert told().splitlines() == ["job 69, which drives the search, is being cancelled; it was PENDING"]
    assert calls(slurm) == ["scancel 69"]


def test_runs_that_another_sweep_has_are_told(make_sweep: Make, slurm: FakeSlurm, slurm_config, told) -> None:
    others = make_sweep(2, slurm_config, name="others")
    make_sweep(name="none", points=[replace(others.point(1), in_study=False)])
    make_sweep(name="broken").directory.record.write_text("{")
    sweep = make_sweep(3, slurm_config)
    for number in (1, 2, 3):
        sweep.submitted(number, f"70_{number}")
    slurm.has(*(squeue_row(f"70_{number}", "PENDING") for number in (1, 2, 3)))
    slurm.answer("scancel")
    lines = told().splitlines()
    assert lines[1] == (
        "note: 2 of them are runs of the sweep others too, whose own command submits what is cancelled again"
    )
    assert sum("note:" in line for line in lines) == 1


def test_a_slurm_that_can_not_be_asked_refuses(make_sweep: Make, slurm: FakeSlurm, slurm_config, told) -> None:
    sweep = make_sweep(1, slurm_config)
    sweep.submitted(1, "70_1")
    slurm.is_down()
    assert "SLURM can't be asked" in told(2)


def test_one_silent_slurm_keeps_no_other_job_at_work(
    make_sweep: Make, slurm: FakeSlurm, slurm_config, change, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = make_sweep(2, change(slurm_config, {"cluster.slurm.slurm_conf": "/silent/slurm.conf"}))
    sweep.submitted(1, "70_1")
    other = make_sweep(2, change(slurm_config, {"cluster.slurm.slurm_conf": "/answers/slurm.conf"}))
    other.submitted(2, "80_2")
    slurm.is_down()
    script = slurm.folder / "squeue"
    script.rename(slurm.folder / "squeue-down")
    script.write_text(
        f'#!/bin/bash\n[ "$SLURM_CONF" = /answers/slurm.conf ] || exec {slurm.folder}/squeue-down "$@"\n'
        f'echo "{squeue_row("80_2", "PENDING")}"\n'
    )
    script.chmod(0o755)
    slurm.answer("scancel")
    assert cancel.main(["lr_ladder"]) == 2
    captured = capsys.readouterr()
    assert captured.out.startswith("job 80_2 is being cancelled; it was pending\n")
    assert "SLURM can't be asked" in captured.err
    assert "jobs there may be at work still; type this again" in captured.err
    assert calls(slurm) == ["scancel 80_[2]"]


def test_an_array_without_a_moment_is_looked_for_all_the_same(
    make_sweep: Make, slurm: FakeSlurm, slurm_config, told
) -> None:
    sweep = make_sweep(1, slurm_config)
    folder = sweep.directory.new_array()
    sweep.write(folder / "array.json", state="submitting", name="lr-0001-ab", written="nope", tasks=[])
    slurm.has()
    slurm.answer("sacct")
    assert told() == "nothing to cancel: nothing of this sweep is at work\n"
    assert any("--name=lr-0001-ab" in call for call in calls(slurm, "squeue"))


def test_local_points_are_told_how_to_end(make_sweep: Make, told) -> None:
    sweep = make_sweep(7)
    owner = {"host": socket.gethostname(), "pid": os.getpid(), "attempt": 1, "released": False}
    for number in range(1, 8):
        sweep.running(sweep.frozen(number), 10)
        sweep.run(number).lease.write_text(json.dumps(owner))
    lines = told().splitlines()
    assert lines[0] == "7 points without a job at work; this ends them:"
    assert lines[1] == f"kill {os.getpid()}"
    assert lines[-1].startswith(f"and 2 more: {python_module('status')} outputs/sweeps/lr_ladder")


def test_what_is_to_be_typed_is_quoted(make_sweep: Make, told, monkeypatch: pytest.MonkeyPatch) -> None:
    points = [point(number, name="a b") for number in range(1, 8)]
    sweep = make_sweep(points=points, name="lr ladder")
    owner = {"host": socket.gethostname(), "pid": os.getpid(), "attempt": 1, "released": False}
    for number in range(1, 8):
        sweep.running(sweep.frozen(number), 10)
        sweep.run(number).lease.write_text(json.dumps(owner))
    monkeypatch.setattr("mmhydra.sweep.ending.read_holder", lambda place, now: None)  # they ended just now
    lines = told(name="lr ladder").splitlines()
    assert lines[1] == f"touch 'outputs/a b/{sweep.point(1).run_id}/stop'"
    assert lines[-1].endswith("-m mmhydra.status 'outputs/sweeps/lr ladder' --state running")


def test_who_submits_is_told_first(make_sweep: Make, told) -> None:
    sweep = make_sweep(1)
    owner = {"host": socket.gethostname(), "pid": os.getpid(), "attempt": None, "released": False}
    sweep.directory.lease.write_text(json.dumps(owner))
    lines = told().splitlines()
    assert lines[0].startswith(f"process {os.getpid()} on {socket.gethostname()} may go on to submit; end it first")
    assert lines[1] == f"kill {os.getpid()}"


def test_a_silent_slurm_is_asked_about_one_array_and_not_about_each(
    make_sweep: Make, slurm: FakeSlurm, slurm_config, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = make_sweep(1, slurm_config)
    for number in range(3):
        folder = sweep.directory.new_array()
        sweep.write(folder / "array.json", state="submitting", name=f"lr-{number}", written=None, tasks=[])
    slurm.is_down()
    assert cancel.main(["lr_ladder"]) == 2
    assert "SLURM can't be asked" in capsys.readouterr().err
    assert sum("--name=lr-" in call for call in slurm.calls if call.startswith("squeue")) == 1
