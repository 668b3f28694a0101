"""The same command again after something has changed, pruning, and what is said of points that nothing starts."""

import json
import os
import shlex
import socket
from pathlib import Path

import pytest
from fake_slurm import squeue_row
from fake_sweep import FakeSweep
from fake_sweep import point as fake_point
from rich.console import Console
from sweep_place import COMMON, finish, newest, words

from mmhydra.errors import ExitCode, UserError
from mmhydra.launch.sweeps.asked import Asked
from mmhydra.launch.sweeps.pruning import prune
from mmhydra.sweep.record import SweepDirectory
from mmhydra.sweep.state.states import read_states

LADDER = (
    "stages:\n  a: {axes: {optim.lr: [1e-3, 2e-3, 3e-3]}}\n"
    "  b: {after: a, best: 1, overrides: [tag=b, training.steps=300]}\n"
)


def queue(tools, *jobs: str) -> None:
    (tools.folder / "queue").write_text("".join(f"{squeue_row(job, 'PENDING')}\n" for job in jobs))


def cancelled(tools) -> str:
    file = tools.folder / "cancelled"
    return file.read_text() if file.exists() else ""


# ---------------------------------------------------------------- cost


def test_children_of_parents_that_were_not_chosen_cost_nothing(tools, submit, capsys):
    typed = ("cluster.confirm_gpu_hours=0.01",)
    sweep = submit(LADDER, *typed, "confirm=true")
    for point, loss in zip(sweep.read().points[:3], (1.0, 2.0, 3.0), strict=True):
        finish(sweep, point, loss)
    assert words(sweep) == ["done"] * 3 + ["missing", "unchosen", "unchosen"]
    with pytest.raises(UserError, match=r"slurm_dev: 1 point, at most"):
        submit(LADDER, *typed)
    submit(LADDER, *typed, "confirm=true")
    finish(sweep, sweep.read().points[3])
    submit(LADDER, *typed)
    assert tools.num_submitted == 2
    assert "submitted  nothing" in capsys.readouterr().out


# ---------------------------------------------------------------- conf/ has changed


def experiment(tmp_path: Path, rate: str) -> None:
    file = tmp_path / "lab" / "experiment" / "mine.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"# @package _global_\noptim:\n  min_lr: {rate}\n")


def test_runs_that_a_changed_file_makes_others_are_told_with_what_has_changed(tools, submit, tmp_path, capsys):
    parts = "axes: {experiment: [mine], seed.data: [1, 2, 3]}\n"
    experiment(tmp_path, "1e-5")
    sweep = submit(parts)
    first, _, third = sweep.read().points
    finish(sweep, first)
    queue(tools, "101_1")
    finish(sweep, third, code=ExitCode.FAILED)
    experiment(tmp_path, "2e-5")
    capsys.readouterr()
    submit(parts)
    out = capsys.readouterr().out
    assert (
        "note: 2 points are other runs now, because what conf/, its data or the environment say has changed: "
        f"optim.min_lr is 2e-05, was 1e-05 ({first.run_id} is done, {sweep.read().points[0].run_id} is new)"
    ) in out
    assert "3 points submitted" in out
    submit(parts)
    assert "other runs now" not in capsys.readouterr().out


def test_what_the_best_are_chosen_from_is_not_run_again_without_a_word(tools, submit, tmp_path, capsys):
    experiment(tmp_path, "1e-5")
    ladder = LADDER.replace("a: {", "a: {overrides: [experiment=mine], ")
    sweep = submit(ladder)
    finish(sweep, sweep.read().points[0])
    queue(tools, "101_1", "101_2")
    before = sweep.record.read_bytes()
    experiment(tmp_path, "2e-5")
    with pytest.raises(
        UserError, match=r"(?s)3 points are other runs now.*optim\.min_lr is 2e-05.* 3 of those"
    ) as raised:
        submit(ladder)
    assert f" -m mmhydra.drive {shlex.quote(str(sweep.path))}\n" in str(raised.value)
    assert str(raised.value).endswith("add confirm=true to this command")
    assert sweep.record.read_bytes() == before
    assert tools.num_submitted == 1
    submit(ladder, "confirm=true")
    assert tools.num_submitted == 2


# ---------------------------------------------------------------- which study it is


def test_another_study_of_the_same_name_is_refused_and_a_copy_is_not(tools, submit, tmp_path):
    parts = "axes: {seed.data: [1]}\n"
    sweep = submit(parts)
    before = sweep.record.read_bytes()
    (tmp_path / "lab").rename(tmp_path / "theirs")
    document = json.loads(before)
    document["study_file"] = str(tmp_path / "theirs" / "sweeps" / "mine.yaml")
    sweep.record.write_text(json.dumps(document))
    submit(parts)
    assert sweep.read().study_file == str(tmp_path / "lab" / "sweeps" / "mine.yaml")
    sweep.record.write_text(json.dumps(document))
    with pytest.raises(UserError, match=r"the sweep mine is of the study .*theirs/sweeps/mine\.yaml, .* another one"):
        submit("axes: {seed.data: [7]}\n")
    assert [point.label for point in sweep.read().points] == [{"seed.data": "1"}]
    (tmp_path / "theirs" / "sweeps" / "mine.yaml").unlink()
    submit("axes: {seed.data: [7]}\n")


def test_a_search_does_not_become_points_of_axes(tools, submit, tmp_path):
    search = tmp_path / "outputs" / "sweeps" / "mine" / "search"
    search.mkdir(parents=True)
    (search / "setting.json").write_text("{}")
    with pytest.raises(UserError, match=r"the sweep mine is a search, .* save the study under another name"):
        submit("axes: {seed.data: [1]}\n")
    assert tools.num_submitted == 0


@pytest.mark.parametrize("name", ["..yaml", "a,b.yaml", "-x.yaml"])
def test_a_file_whose_name_no_sweep_can_have_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(name).write_text(COMMON)
    with pytest.raises(UserError, match=r"a sweep has the name of its study, and .* can't be one"):
        Asked(name, (), ((),)).read_study()


# ---------------------------------------------------------------- pruning


def test_nothing_is_pruned_while_nobody_knows_what_another_sweep_has(tools, submit):
    sweep = submit("axes: {seed.data: [1, 2]}\n")
    other = submit("axes: {seed.data: [2]}\n", name="other")
    tools.queue(sweep)
    kept = other.record.read_bytes()
    other.record.write_text("{")
    with pytest.raises(UserError, match=r"--prune cancels no job of .* another sweep has too, and .*other/sweep\.json"):
        submit("axes: {seed.data: [1]}\n", prune=True)
    assert cancelled(tools) == ""
    assert len(sweep.read().points) == 2
    other.record.write_bytes(kept)
    submit("axes: {seed.data: [1]}\n", prune=True)
    assert cancelled(tools) == ""
    assert len(sweep.read().points) == 1


def test_nothing_is_pruned_beside_what_is_left_to_a_person(tools, submit):
    sweep = submit("axes: {seed.data: [1, 2]}\n")
    tools.queue(sweep)
    with pytest.raises(UserError, match="--prune cancels jobs, and dry_run=freeze"):
        submit("axes: {seed.data: [1]}\n", "dry_run=freeze", prune=True)
    assert cancelled(tools) == ""


def test_a_child_that_waits_for_a_job_that_is_pruned_is_submitted_anew(tools, submit, capsys):
    stages = (
        "stages:\n  a: {{axes: {{seed.data: {seeds}}}}}\n"
        "  b: {{after: a, start: none, overrides: [tag=b, seed.data=9]}}\n"  # one run, after the first of these parents
    )
    sweep = submit(stages.format(seeds=[1, 2]))
    tools.queue(sweep)
    assert words(sweep) == ["pending"] * 3
    # scancel takes them out of the queue.
    tools._script("scancel", f'echo "$*" >> {tools.folder}/cancelled; echo > {tools.folder}/queue')
    capsys.readouterr()
    submit(stages.format(seeds=[2]), prune=True)
    assert sorted(job for line in cancelled(tools).splitlines() for job in line.split()) == ["101_[0]", "102_[0]"]
    out = " ".join(capsys.readouterr().out.split())
    assert "1 job is cancelled" in out
    assert "note: 1 job is cancelled too" in out
    child = sweep.read().points[-1]
    assert json.loads(sweep.run(child).attempts[-1].submitted.read_text())["job_id"].startswith("10")
    assert json.loads(sweep.run(child).attempts[-1].submitted.read_text())["job_id"] != "102_0"


def test_how_to_end_what_runs_on_this_machine_can_be_typed(default_config, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sweep = FakeSweep(tmp_path / "outputs", default_config, [fake_point(1), fake_point(2, name="a b", in_study=False)])
    owner = {"host": socket.gethostname(), "pid": os.getpid(), "attempt": 1, "released": False}
    sweep.running(sweep.frozen(2), 10)
    sweep.run(2).lease.write_text(json.dumps(owner))
    prune(Console(highlight=False, soft_wrap=True), sweep.directory, sweep.record)
    place = f"outputs/a b/{sweep.point(2).run_id}"
    assert f" -m mmhydra.cancel '{place}'\n" in capsys.readouterr().out


# ---------------------------------------------------------------- what is said


def test_a_cancelled_child_of_a_stopped_parent_is_told_and_the_command_is_not_recommended(tools, submit, capsys):
    stages = "stages:\n  a: {axes: {seed.data: [1]}}\n  b: {after: a, start: none, overrides: [optim.lr=2e-3]}\n"
    sweep = submit(stages)
    finish(sweep, sweep.read().points[0], code=ExitCode.STOPPED)
    (tools.folder / "queue").write_text(f"{squeue_row('102_0', 'CANCELLED')}\n")
    assert words(sweep) == ["stopped", "cancelled"]
    capsys.readouterr()
    submit(stages)
    out = capsys.readouterr().out
    parent, child = sweep.read().points
    assert f"note: not started: {child.run_id} (its parent {parent.run_id} is stopped)" in out
    assert "what failed goes on with" not in out
    assert tools.num_submitted == 2


def test_commands_find_a_sweep_whose_outputs_were_typed(tools, submit, tmp_path, capsys):
    place = tmp_path / "other place"
    submit("axes: {seed.data: [1]}\n", f"paths.outputs='{place}'")
    (sweep,) = (place / "sweeps").iterdir()
    out = " ".join(capsys.readouterr().out.split())
    assert f"-m mmhydra.status {shlex.quote(str(sweep))} --watch" in out


def test_a_frozen_script_waits_for_what_the_cluster_says_and_for_its_parent(tools, submit, capsys):
    stages = (
        "stages:\n  a: {axes: {seed.data: [1]}}\n"
        "  b: {after: a, start: none, overrides: [optim.lr=2e-3, 'cluster.slurm.dependency=afterok:77']}\n"
    )
    sweep = submit(stages, "dry_run=freeze")
    assert "--dependency=afterok:77,afterok:${ARRAY_0001}_0" in capsys.readouterr().out
    assert sweep.read().command == ("-m", "sweep=mine"), "what goes on with it submits"
    first, second = read_states(sweep, sweep.read())
    assert (first.state, second.state) == ("frozen", "blocked")
    assert "left to you: " in str(first.remark)


def test_a_child_with_a_dependency_of_which_any_part_will_do_comes_once_its_parent_is_done(tools, submit):
    stages = (
        "stages:\n  a: {axes: {seed.data: [1]}}\n"
        "  b: {after: a, start: none, overrides: [optim.lr=2e-3, 'cluster.slurm.dependency=\"afterok:7?afterok:8\"']}\n"
    )
    sweep: SweepDirectory = submit(stages)
    assert tools.num_submitted == 1
    assert words(sweep)[1] == "blocked"
    finish(sweep, sweep.read().points[0])
    submit(stages)
    assert tools.num_submitted == 2
    assert "#SBATCH --dependency='afterok:7?afterok:8'\n" in (sweep.arrays[1] / "array.sh").read_text()
    assert len(newest(sweep)) == 2


# ---------------------------------------------------------------- points of this machine


def test_points_that_ran_here_are_told_as_such(tools, submit, monkeypatch, capsys):
    monkeypatch.setattr("mmhydra.launch.sweeps.submitting.start", lambda request, origin: ExitCode.DONE)
    kept = [line for line in COMMON.splitlines() if "cluster" not in line]
    monkeypatch.setattr("sweep_place.COMMON", "\n".join([*kept, "  - cluster=local", ""]))
    submit("axes: {optim.lr: [1e-3, 2e-3]}\n")
    shown = capsys.readouterr().out
    assert "ran here  2 points" in shown
    assert "submitted  " not in shown
    assert tools.num_submitted == 0


# ---------------------------------------------------------------- the best, with seeds

SEEDS = (
    "stages:\n  small: {axes: {optim.lr: [1e-3, 3e-3]}, seeds: 2}\n"
    "  large: {after: small, best: 1, overrides: [training.steps=300], seeds: [7]}\n"
)


def test_of_parents_that_differ_in_seeds_the_mean_counts_and_all_of_them_compete(tools, submit):
    sweep = submit(SEEDS)
    *small, low, high = sweep.read().points
    assert [each.label["optim.lr"] for each in (low, high)] == ["1e-3", "3e-3"]
    assert [len(each.more_parents) for each in (low, high)] == [1, 1]
    for point, loss in zip(small, (3.0, 3.2, 3.1, 2.0), strict=True):
        finish(sweep, point, loss)
    assert words(sweep) == ["done"] * 4 + ["unchosen", "missing"]
    submit(SEEDS)
    assert tools.num_submitted == 2
    assert [sweep.run(each).attempts != [] for each in (low, high)] == [False, True]


def test_a_child_of_several_parents_is_run_where_the_first_of_them_failed(tools, submit):
    sweep = submit(SEEDS)
    for point, loss in zip(sweep.read().points[:4], (3.0, 3.2, 3.1, 2.0), strict=True):
        failed = point.label == {"optim.lr": "3e-3", "seed": "42"}
        finish(sweep, point, loss, ExitCode.CONFIG if failed else ExitCode.DONE)
    assert words(sweep) == ["done", "done", "failed", "done", "unchosen", "missing"]
    with pytest.raises(UserError, match="slurm_dev: 2 points, at most"):  # what failed is tried again, and one child
        submit(SEEDS, "cluster.confirm_gpu_hours=0.001")


def test_the_children_of_a_family_of_parents_count_once(tools, submit):
    with pytest.raises(UserError, match="slurm_dev: 5 points, at most"):
        submit(SEEDS, "cluster.confirm_gpu_hours=0.001")
