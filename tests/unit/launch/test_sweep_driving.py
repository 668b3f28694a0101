"""Later stages that a driver submits: who has the sweep meanwhile, what is tried again, what is refused."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from sweep_place import finish, words

from mmhydra.drive import main
from mmhydra.errors import ExitCode, UserError
from mmhydra.launch.slurm import SubmissionError
from mmhydra.launch.sweeps import driving
from mmhydra.launch.sweeps.driving import drive_stages
from mmhydra.launch.sweeps.holding import holding
from mmhydra.run.lease import HeldError
from mmhydra.sweep.ending import cancel
from mmhydra.sweep.record import SweepDirectory

LADDER = "stages:\n  a: {axes: {optim.lr: [1e-3, 2e-3]}}\n  b: {after: a, best: 1, overrides: [tag=b]}\n"


@pytest.fixture
def drive(monkeypatch) -> Callable[..., list[str]]:
    """Drives a sweep; each time that it would wait the next of `steps` is done. Returns what was said."""

    def drive(sweep: SweepDirectory, *steps: Callable[[], object]) -> list[str]:
        left: Iterator[Callable[[], object]] = iter(steps)
        monkeypatch.setattr(driving, "time", SimpleNamespace(sleep=lambda seconds: next(left)()))
        said: list[str] = []
        drive_stages(sweep, said.append)
        assert next(left, None) is None, "it has waited as often as it should"
        return said

    return drive


def end_parents(sweep: SweepDirectory) -> None:
    for point, loss in zip(sweep.read().points[:2], (2.0, 1.0), strict=True):
        finish(sweep, point, loss)


def test_the_best_go_on_once_all_have_ended_and_all_is_composed_once(tools, submit, drive, monkeypatch):
    sweep = submit(LADDER)
    tools.queue(sweep)
    composed = []
    points_of = driving.points_of
    monkeypatch.setattr(driving, "points_of", lambda *given: composed.append(given) or points_of(*given))
    said = drive(sweep, lambda: None, lambda: end_parents(sweep))
    assert said == ["submitted to slurm_dev: 102 (1 point)"]
    tools.queue(sweep)
    assert words(sweep) == ["done", "done", "unchosen", "pending"]
    assert len(composed) == 1


def test_the_verb_ends_with_what_to_type(tools, submit, monkeypatch, capsys):
    sweep = submit(LADDER)
    end_parents(sweep)
    monkeypatch.setattr("mmhydra.drive.use_frozen_code", lambda *_: None)
    monkeypatch.setattr("mmhydra.drive._heed_signals", lambda: None)
    capsys.readouterr()
    assert main([str(sweep.path)]) == ExitCode.DONE
    submitted, last = capsys.readouterr().out.splitlines()
    assert submitted.endswith(" submitted to slurm_dev: 102 (1 point)")
    assert last.endswith(f" nothing is left to wait for; python -m mmhydra.status {sweep.path} shows the table")


def test_while_it_waits_cancel_names_it_and_no_other_command_submits(tools, submit, drive):
    sweep = submit(LADDER)
    tools.queue(sweep)
    told: list[str] = []

    def others() -> None:
        told.extend(cancel(sweep))
        with pytest.raises(HeldError, match=f"the sweep mine is .* or driven, started by process {os.getpid()}"):
            submit(LADDER)
        end_parents(sweep)

    drive(sweep, others)
    assert told[0].startswith(f"process {os.getpid()} on ")
    assert told[1] == f"kill {os.getpid()}"


def test_what_slurm_refuses_is_tried_again(tools, submit, drive):
    sweep = submit(LADDER)
    end_parents(sweep)
    tools.refused.write_text("2")
    said = drive(sweep, lambda: None)
    assert "QOSMaxSubmitJobPerUserLimit" in said[0]
    assert said[0].startswith("tried again in 30 s: ")
    assert said[1:] == ["submitted to slurm_dev: 103 (1 point)"]
    assert [len(sweep.run(point).attempts) for point in sweep.read().points] == [1, 1, 0, 1]


def test_what_is_refused_while_nothing_is_at_work_is_given_up(tools, submit, drive):
    sweep = submit(LADDER)
    end_parents(sweep)
    tools._script("sbatch", "echo 'sbatch: error: Invalid account' >&2; exit 1")
    with pytest.raises(SubmissionError, match="Invalid account"):
        drive(sweep, *[lambda: None] * 3)


def test_a_run_that_somebody_has_is_waited_for(tools, submit, drive, capsys):
    sweep = submit(LADDER)
    end_parents(sweep)
    child = sweep.run(sweep.read().points[3])
    child.path.mkdir(parents=True)
    owner = {"host": "n1", "pid": 7, "since": "2026-01-01T00:00:00", "attempt": 1, "released": False}
    child.lease.write_text(json.dumps(owner))
    said = drive(sweep, lambda: child.lease.write_text(json.dumps({**owner, "released": True})))
    assert said == ["submitted to slurm_dev: 102 (1 point)"]
    assert "note: not submitted: the run " in capsys.readouterr().out


def test_another_command_is_waited_for(tools, submit, monkeypatch):
    sweep = submit(LADDER)
    tools.queue(sweep)
    other = holding(sweep)
    other.__enter__()
    said: list[str] = []

    def go_on(seconds: float) -> None:
        if seconds == driving.POLL_S:
            end_parents(sweep)
        else:
            other.__exit__(None, None, None)

    monkeypatch.setattr("time.sleep", go_on)
    drive_stages(sweep, said.append)
    assert said[0].startswith("waits: the sweep mine is being submitted or driven, started by process ")
    assert said[1:] == ["submitted to slurm_dev: 102 (1 point)"]


def test_points_that_are_not_composed_as_they_were_are_refused(tools, submit, drive, tmp_path):
    file = tmp_path / "lab" / "experiment" / "mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("# @package _global_\noptim:\n  min_lr: 1e-5\n")
    sweep = submit(LADDER.replace("tag=b", "tag=b, experiment=mine"))
    tools.queue(sweep)
    (folder,) = json.loads((sweep.origin / "provenance.json").read_text())["config_folders"]
    file.write_text("# @package _global_\noptim:\n  min_lr: 2e-5\n")
    end_parents(sweep)
    assert drive(sweep) == ["submitted to slurm_dev: 102 (1 point)"], "the folder as it was is kept"
    stored = Path(folder["snapshot"]) / "experiment" / "mine.yaml"
    stored.chmod(0o644)
    stored.write_text("# @package _global_\noptim:\n  min_lr: 2e-5\n")
    with pytest.raises(UserError, match=r"point 3 of mine .* is not composed as it was"):
        drive(sweep)
