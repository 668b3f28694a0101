"""Processes of local trials: one a run, whatever became of the driver that started it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mmhydra.errors import ExitCode
from mmhydra.launch.search import local
from mmhydra.launch.search.runs import MachineRuns, _Process
from mmhydra.launch.search.trials import Candidate
from mmhydra.run.directory import Attempt, RunDirectory
from mmhydra.run.lease import hold
from mmhydra.slurm import SchedulerError
from mmhydra.sweep.record import RecordedPoint, sweep_directory
from mmhydra.sweep.state.states import PointState


@pytest.fixture
def attempt(make_run) -> Attempt:
    """Frozen, and not started."""
    return make_run().directory.attempts[-1]


@pytest.fixture
def ran(monkeypatch) -> list[int | None]:
    """Attempts that ran, by what the lease said meanwhile."""
    found: list[int | None] = []

    def run_local(attempt: Attempt, *others: Any) -> ExitCode:
        found.append(json.loads(attempt.run.lease.read_text())["attempt"])
        return ExitCode.STOPPED

    monkeypatch.setattr(local, "run_local", run_local)
    return found


def run(attempt: Attempt, monkeypatch) -> int:
    monkeypatch.setattr(sys, "argv", ["local", str(attempt.path)])
    return local.main()


def test_it_runs_the_attempt_under_the_lease_of_its_run(attempt, ran, monkeypatch):
    assert run(attempt, monkeypatch) == ExitCode.STOPPED
    assert ran == [attempt.number]


@pytest.mark.parametrize("trace", ["status", "outcome", "metrics"])
def test_an_attempt_that_another_process_had_is_left_alone(attempt, ran, monkeypatch, trace):
    getattr(attempt, trace).write_text("{}")
    assert run(attempt, monkeypatch) == ExitCode.DONE
    assert ran == []


def test_an_attempt_that_is_not_the_newest_is_left_alone(attempt, ran, monkeypatch):
    attempt.run.new_attempt()
    assert run(attempt, monkeypatch) == ExitCode.DONE
    assert ran == []


def test_a_run_that_another_process_has_is_refused(attempt, ran, monkeypatch, capsys):
    with hold(attempt.run):
        assert run(attempt, monkeypatch) == ExitCode.CONFIG
    assert f"process {os.getpid()}" in capsys.readouterr().err
    assert ran == []


def test_a_config_that_was_edited_is_refused(attempt, ran, monkeypatch, capsys):
    (attempt.path / "config.yaml").write_text("name: other\n")
    assert run(attempt, monkeypatch) == ExitCode.CONFIG
    assert "was changed after it was frozen" in capsys.readouterr().err
    assert ran == []


def candidate(number: int = 1) -> Candidate:
    point: Any = None
    return Candidate(RecordedPoint(number, "debug", "0" * 12, "", (), {}, "local", 10), point)


def runs(tmp_path: Path) -> MachineRuns:
    origin: Any = None
    return MachineRuns(sweep_directory(tmp_path, "mine"), origin, 1, lambda sweep, points, origin: None)


@pytest.mark.parametrize(("code", "told"), [(2, "no data"), (1, "no data"), (0, None), (-9, None)])
def test_the_last_words_of_a_process_that_did_not_begin_are_told(attempt, tmp_path, code, told):
    end = f"import os; os.kill(os.getpid(), {-code})" if code < 0 else f"raise SystemExit({code})"
    process = subprocess.Popen([sys.executable, "-c", end])
    log = tmp_path / "log"
    log.write_text("a line\nerror: no data\n")
    machine = runs(tmp_path)
    own = candidate()
    machine._processes[own.run] = _Process(attempt, process, log)
    process.wait()
    assert not machine.starting(own)
    assert machine.refusal(own) == told
    attempt.outcome.write_text("{}")  # it began: how it ended is there
    assert machine.refusal(own) is None


def test_a_process_that_ended_is_no_zombie_until_the_driver_ends(attempt, tmp_path):
    machine = runs(tmp_path)
    process = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        process.stdout.read()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it ended, and nobody has asked how
    machine._processes[candidate().run] = _Process(attempt, process, tmp_path / "log")
    machine.start([])
    assert process.returncode == 0


def test_runs_are_submitted_with_the_origin_of_the_search(tmp_path):
    given = []
    origin: Any = object()
    machine = MachineRuns(sweep_directory(tmp_path, "mine"), origin, 1, lambda *given_: given.append(given_))
    point: Any = SimpleNamespace(config=SimpleNamespace(cluster=SimpleNamespace(kind="slurm")))
    machine.start([Candidate(candidate().recorded, point)])
    assert given == [(machine.sweep, [point], origin)]


def one_run(folder: Path) -> tuple[MachineRuns, RecordedPoint, RunDirectory]:
    machine, point = runs(folder), candidate().recorded
    run = machine.sweep.run(point)
    run.path.mkdir(parents=True)
    return machine, point, run


def test_a_run_is_ended_by_its_file_and_one_that_waits_is_cancelled_too(tmp_path, monkeypatch):
    cancelled = []

    class Slurm:
        def cancel(self, job_id: str) -> None:
            cancelled.append(job_id)

    monkeypatch.setattr("mmhydra.launch.search.runs.scheduler", lambda conf: Slurm())
    machine, point, run = one_run(tmp_path)
    machine.end(PointState(point, "running", job_id="7_1"))
    assert (cancelled, run.trigger("stop").exists()) == ([], True)
    machine.end(PointState(point, "waiting", job_id="7_1"))
    assert cancelled == ["7_1"]
    run.clear_triggers()
    machine.end(PointState(point, "pending", job_id="7_2"))
    assert (cancelled, run.trigger("stop").exists()) == (["7_1", "7_2"], False)


def test_a_run_in_the_queue_that_can_not_be_cancelled_is_ended_by_its_file(tmp_path, monkeypatch, capsys):
    class Slurm:
        def cancel(self, job_id: str) -> None:
            raise SchedulerError("scancel: no answer within 30 s")

    monkeypatch.setattr("mmhydra.launch.search.runs.scheduler", lambda conf: Slurm())
    machine, point, run = one_run(tmp_path)
    machine.end(PointState(point, "pending", job_id="7_2"))
    assert run.trigger("stop").exists()
    assert "warning: scancel: no answer" in capsys.readouterr().err
