"""`status SWEEP`: the page, the JSON object, watching."""

import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from fake_slurm import FakeSlurm, squeue_row
from fake_sweep import FakeSweep, parent, point

from mmhydra import status
from mmhydra.sweep.report.page import report
from mmhydra.sweep.show.overview import read_overview
from mmhydra.sweep.state.curves import Curves

Make = Callable[..., FakeSweep]


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    monkeypatch.setenv("COLUMNS", "400")  # commands in one line, wherever this Python lies

    def told(*arguments: str, code: int = 0) -> str:
        capsys.readouterr()
        assert status.main(arguments) == code
        captured = capsys.readouterr()
        return captured.err if code else captured.out

    return told


def line_of(page: str, sweep: FakeSweep, number: int) -> str:
    table = [line for line in page.splitlines() if "│" not in line]
    return next(line for line in table if f" {sweep.point(number).run_id} " in line)


def test_the_page(make_sweep: Make, told) -> None:
    sweep = make_sweep(4, stop_rule="Stop at 1.2.")
    sweep.directory.study.write_text("stop: {metric_below: 1.2}\n")
    sweep.done(1, 2.5)
    sweep.done(2, 1.5)
    sweep.ended(sweep.frozen(3), "failed", 1, 10, "CUDA error\nsecond line")
    page = told("lr_ladder")
    assert "sweep lr_ladder  FAILED" in page
    assert "Which learning rate is best for the debug model?" in page
    assert "not met: metric_below 1.2" in page
    assert "4: 1 missing, 2 done, 1 failed" in page
    assert re.search(r"best +val_loss 1\.\d+ at step \d+  optim\.lr=0\.0004 seed=2", page)
    assert re.search(r"0\.0004 +2 +\w+ +done +100/100 +1\.\d+ +1\.\d+", line_of(page, sweep, 2))
    assert line_of(page, sweep, 3).rstrip().endswith("CUDA error")
    assert re.search(r"why +\S+ -m mmhydra\.logs outputs/debug/" + sweep.point(3).run_id, page)
    assert re.search(r"go on +\S+ -m mmhydra\.train -m sweep=lr_ladder", page)
    assert re.search(r"report +\S+ -m mmhydra\.report outputs/sweeps/lr_ladder", page)


def test_only_what_varies_is_a_column(make_sweep: Make, told) -> None:
    points = [replace(point(number), label={"model.dim": "64", "optim.lr": f"1e-{number}"}) for number in (1, 2)]
    header = next(line for line in told(str(make_sweep(points=points).directory.path)).splitlines() if " run " in line)
    assert header.split() == ["#", "lr", "run", "state", "step", "loss", "val_loss"]


def test_only_the_failed_ones(make_sweep: Make, told) -> None:
    sweep = make_sweep(3)
    sweep.done(1, 2.5)
    sweep.ended(sweep.frozen(2), "failed", 1, 10)
    ids = [sweep.point(number).run_id for number in (1, 2, 3)]
    for arguments, shown in ((["--failed"], [1]), (["--state", "done", "--state", "missing"], [0, 2])):
        page = told("lr_ladder", *arguments)
        table = page.split("╯")[1].split("why")[0]
        assert [i for i, run in enumerate(ids) if run in table] == shown
    assert "no point is in such a state" in told("lr_ladder", "--state", "running")


def test_the_json_object_has_the_points_that_are_asked_for(make_sweep: Make, told) -> None:
    sweep = make_sweep(3)
    sweep.done(1, 2.5)
    sweep.ended(sweep.frozen(2), "failed", 1, 10)
    for arguments, shown in ((["--failed"], [2]), (["--state", "done", "--state", "missing"], [1, 3])):
        document = json.loads(told("lr_ladder", "--json", *arguments))
        assert [each["number"] for each in document["points"]] == shown
        assert document["counts"] == {"missing": 1, "done": 1, "failed": 1}, "of all points"
        assert document["best"] == sweep.point(1).run_id


def test_a_filter_is_for_sweeps(make_sweep: Make, told) -> None:
    sweep = make_sweep(1)
    sweep.done(1, 2.0)
    assert "is one run" in told(str(sweep.run(1).path), "--failed", code=2)


def test_a_stop_rule_that_is_met(make_sweep: Make, told) -> None:
    sweep = make_sweep(2)
    sweep.directory.study.write_text("stop: {metric_below: 1.8}\n")
    sweep.held_out(sweep.done(1, 2.5), (100, 1.7))
    assert "met: val_loss 1.7000 is below 1.8; nothing more is submitted" in told("lr_ladder")


def test_gpu_hours_and_price(make_sweep: Make, told, slurm_config) -> None:
    sweep = make_sweep(2, slurm_config)
    attempt = sweep.began(1, "70_1", seconds_ago=3600)
    sweep.ended(attempt, "done", 0, 100)
    price = slurm_config.cluster.usd_per_gpu_hour
    assert f"64.0 GPU-hours used of at most 4, {64 * price:,.0f} USD" in told("lr_ladder")


def test_stages_that_choose_cost_what_they_can_choose(make_sweep: Make, told) -> None:
    small = [point(number, stage="small", gpu_hours=1.0) for number in (1, 2, 3, 4)]
    large = [point(9 + each.number, stage="large", parent=parent(each), num_best=1, gpu_hours=100.0) for each in small]
    make_sweep(points=[*small, *large])
    page = told("lr_ladder")
    assert "GPU-hours used of at most 104" in page
    assert "4 missing, 4 unchosen" in page
    assert re.search(r"later stages +\S+ -m mmhydra\.drive outputs/sweeps/lr_ladder", page)


def test_a_stage_that_has_chosen_has_nothing_to_drive(make_sweep: Make, told) -> None:
    small = [point(number, stage="small") for number in (1, 2)]
    large = [point(9 + each.number, stage="large", parent=parent(each), num_best=1) for each in small]
    sweep = make_sweep(points=[*small, *large])
    for number, loss in ((1, 2.0), (2, 3.0), (10, 1.0)):
        sweep.done(number, loss)
    page = told("lr_ladder")
    assert "1 unchosen" in page
    assert "mmhydra.drive" not in page


def test_a_stage_without_any_parent_has_nothing_to_drive(make_sweep: Make, told) -> None:
    small = [point(number, stage="small") for number in (1, 2)]
    large = [point(9 + each.number, stage="large", parent=parent(each), num_best=1) for each in small]
    sweep = make_sweep(points=[*small, *large])
    for number in (1, 2):
        sweep.ended(sweep.frozen(number), "failed", 2, 10)
    page = told("lr_ladder")
    assert "not chosen: none of 2 parents is done" in " ".join(page.split())
    assert "mmhydra.drive" not in page


def test_points_that_left_the_study(make_sweep: Make, told, slurm: FakeSlurm, slurm_config) -> None:
    sweep = make_sweep(points=[point(1), point(2, in_study=False)], config=slurm_config)
    sweep.submitted(2, "70_2")
    slurm.has(squeue_row("70_2", "PENDING"))
    page = told("lr_ladder")
    assert "1: 1 missing; 1 more that the study has not any more" in page
    assert "1 point not in the study any more, and at work" in " ".join(page.replace("│", " ").split())


def test_a_search(make_sweep: Make, told, slurm: FakeSlurm, slurm_config) -> None:
    sweep = make_sweep(3, slurm_config)
    sweep.ended(sweep.began(1, "70"), "done", 0, 100)
    sweep.ended(sweep.began(2, "71"), "stopped", 3, 20, "a person asked to stop (file `stop`)", requeue=False)
    sweep.ended(sweep.began(3, "72"), "done", 0, 100)
    sweep.write(sweep.directory.search / "driver.json", job_id="69", slurm_conf=None)
    sweep.write(sweep.directory.search / "setting.json")
    slurm.has(squeue_row("69", "PENDING"))
    page = told("lr_ladder")
    assert "sweep lr_ladder  RUNNING" in page
    assert line_of(page, sweep, 2).rstrip().endswith("ended early at step 20"), "the search asked, no person"
    assert "3: 2 done, 1 ended early" in page
    assert "job 69 PENDING" in page
    assert "--watch" in page
    slurm.has(squeue_row("69", "COMPLETED"))
    page = told("lr_ladder")
    assert "sweep lr_ladder  DONE" in page
    assert "job 69" not in page
    assert re.search(r"go on +\S+ -m mmhydra\.drive outputs/sweeps/lr_ladder", page)
    assert "mmhydra.logs" not in page


@pytest.mark.parametrize(
    ("search", "goes_on"),
    [
        ("space: {optim.lr: {low: 1e-4, high: 1e-2, log: true}}, num_trials: 3", False),
        ("space: {optim.lr: {low: 1e-4, high: 1e-2, log: true}}, num_trials: 4", True),
        ("space: {optim.lr: {choices: [1e-4, 1e-3, 1e-2]}}, num_trials: 9, sampler: {kind: grid}", False),
        ("space: nonsense", True),
    ],
)
def test_a_search_that_is_over_has_nothing_to_drive(make_sweep: Make, told, search: str, goes_on: bool) -> None:
    sweep = make_sweep(3)
    sweep.done(1, 2.5)
    sweep.ended(sweep.frozen(2), "stopped", 3, 20, "a person asked to stop (file `stop`)")
    sweep.done(3, 2.0)
    sweep.write(sweep.directory.search / "setting.json")
    sweep.directory.study.write_text(f"question: Which rate?\nstop_rule: None.\nsearch: {{{search}}}\n")
    page = told("lr_ladder")
    assert "sweep lr_ladder  DONE" in page
    assert ("mmhydra.drive" in page) == goes_on


def test_a_trial_that_stopped_itself_says_why(make_sweep: Make, told) -> None:
    sweep = make_sweep(2)
    sweep.write(sweep.directory.search / "setting.json")
    sweep.ended(sweep.frozen(1), "stopped", 3, 20, "the loss is NaN")
    assert line_of(told("lr_ladder"), sweep, 1).rstrip().endswith("the loss is NaN")


def test_a_folder_of_a_search_that_never_began_is_none(make_sweep: Make, told) -> None:
    sweep = make_sweep(2)
    sweep.directory.search.mkdir()
    sweep.ended(sweep.frozen(1), "stopped", 3, 20, "a person asked to stop (file `stop`)")
    page = told("lr_ladder")
    assert "1 missing, 1 stopped" in page
    assert line_of(page, sweep, 1).rstrip().endswith("a person asked to stop (file `stop`)")


def test_evaluations_say_what_they_measured(make_sweep: Make, told) -> None:
    one = point(1, stage="stable")
    check = [point(number, stage="check", num_steps=0, parent=parent(one, "init")) for number in (2, 3)]
    sweep = make_sweep(points=[one, *check])
    sweep.done(1, 2.5)
    measured = sweep.frozen(2)
    sweep.held_out(measured, (0, 2.25))
    sweep.ended(measured, "done", 0, 0)
    page = told("lr_ladder")
    assert re.search(r" done +evaluation +- +2\.2500", line_of(page, sweep, 2))
    assert re.search(r" missing +evaluation +- +- ", line_of(page, sweep, 3) + " ")
    assert re.search(r"steps +100 of 100  100%", page)
    assert re.search(r"evaluations +1 of 2 have measured their val_loss", page)
    assert [each["evaluation"] for each in json.loads(told("lr_ladder", "--json"))["points"]] == [False, True, True]


def test_steps_of_points_that_were_not_chosen_do_not_count(make_sweep: Make, told) -> None:
    small = [point(number, stage="small") for number in (1, 2)]
    large = [point(9 + each.number, stage="large", parent=parent(each), num_best=1) for each in small]
    sweep = make_sweep(points=[*small, *large])
    sweep.done(1, 2.0)
    sweep.done(2, 3.0)
    sweep.ended(sweep.frozen(11), "failed", 1, 40)  # of an earlier choice
    sweep.frozen(11)
    assert re.search(r"steps +200 of 300  67%", told("lr_ladder"))
    overview = read_overview(sweep.directory)
    assert [each.state for each in overview.states] == ["done", "done", "missing", "unchosen"]
    assert (overview.steps_made, overview.steps_due) == (200, 300)
    assert "200 of 300" in report(overview, Curves())


def test_a_study_of_evaluations_alone_has_no_steps_to_count(make_sweep: Make, told) -> None:
    overrides = ("training.steps=0", "checkpoint.init_from=/x/step-00000100")
    make_sweep(points=[point(1, num_steps=0, overrides=overrides)])
    page = told("lr_ladder")
    assert "0 of 0" not in page
    assert "none of its points takes a step" in page
    assert "0 of 1 have measured their val_loss" in page


def test_the_best_and_the_stop_rule_are_of_the_study(make_sweep: Make, told) -> None:
    # As a submission counts: what the study has not any more decides nothing.
    sweep = make_sweep(points=[point(1), point(2, in_study=False)])
    sweep.directory.study.write_text("stop: {metric_below: 1.8}\n")
    sweep.done(1, 2.5)
    sweep.held_out(sweep.done(2, 2.5), (100, 1.7))
    page = told("lr_ladder")
    assert "not met: metric_below 1.8" in page
    assert json.loads(told("lr_ladder", "--json"))["best"] == sweep.point(1).run_id


def test_a_slurm_that_is_down_is_told(make_sweep: Make, told, slurm: FakeSlurm, slurm_config) -> None:
    sweep = make_sweep(2, slurm_config)
    sweep.submitted(1, "70_1")
    slurm.is_down()
    assert "SLURM can't be asked: 1 point as files tell" in told("lr_ladder")


def test_text_of_a_study_is_no_markup(make_sweep: Make, told) -> None:
    points = [replace(point(number), label={"x[red]": f"[bold]{number}"}) for number in (1, 2)]
    page = told(str(make_sweep(points=points, question="[red]why[/] \\[x]?").directory.path))
    assert "[red]why[/] \\[x]?" in page
    assert "x[red]" in page
    assert "[bold]1" in page


def test_the_json_object(make_sweep: Make, told) -> None:
    sweep = make_sweep(3)
    sweep.done(1, 2.5)
    sweep.held_out(sweep.frozen(2), (10, "NaN"))
    document = json.loads(told("lr_ladder", "--json"))
    assert document["counts"] == {"missing": 1, "done": 1, "gone": 1}
    assert document["best"] == sweep.point(1).run_id
    first, second, third = document["points"]
    assert (first["state"], first["step"], first["label"]) == ("done", 100, dict(sweep.point(1).label))
    assert (second["best"], second["last"], second["last_step"]) == (None, None, 10)
    assert third["loss"] is None
    assert document["active"] is False


def test_a_record_that_is_broken(make_sweep: Make, told) -> None:
    sweep = make_sweep(1)
    sweep.directory.record.write_text('{"schema_version": 9, "points": []}')
    assert "it has version 9, this code reads version 1" in told("lr_ladder", code=2)


# ---------------------------------------------------------------- watching


def test_watching_ends_when_nothing_is_at_work(make_sweep: Make, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = make_sweep(2)
    sweep.done(1, 2.5)
    assert status.main(["lr_ladder", "--watch"]) == 0
    assert capsys.readouterr().err == "nothing of the sweep is at work any more\n"


def test_watching_goes_on_while_somebody_submits(
    make_sweep: Make, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmhydra.sweep.show.watch.REFRESH_S", 0.05)
    small = point(1, stage="small")
    sweep = make_sweep(points=[small, point(2, stage="large", parent=parent(small), num_best=1)])
    owner = {"host": socket.gethostname(), "pid": os.getpid(), "attempt": None, "released": False}
    sweep.directory.lease.write_text(json.dumps(owner))

    def submits() -> None:
        time.sleep(0.3)
        sweep.frozen(1)
        sweep.directory.lease.write_text(json.dumps({**owner, "released": True}))

    thread = threading.Thread(target=submits)
    thread.start()
    assert status.main(["lr_ladder", "--watch"]) == 0
    thread.join()
    said = capsys.readouterr()
    assert "1 frozen, 1 unchosen" in said.out
    assert "1 point of later stages may follow, 1 of them once the best parents are known" in said.err


def test_a_watched_page_fits_the_screen(make_sweep: Make, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("LINES", "30")
    monkeypatch.setenv("COLUMNS", "90")
    sweep = make_sweep(300)
    for number in range(1, 41):
        sweep.held_out(sweep.done(number, 2.5), (100, 3 - number / 100))
    sweep.ended(sweep.frozen(200), "failed", 1, 10, "CUDA error")
    assert status.main(["lr_ladder", "--watch"]) == 0
    lines = capsys.readouterr().out.rstrip("\n").splitlines()
    assert len(lines) <= 30
    assert max(map(len, lines)) <= 90
    table = [line for line in lines if re.search(r" [0-9a-f]{12} ", line)]
    assert sweep.point(200).run_id in next(line for line in table if "│" not in line), "the failed one is first"
    assert any(re.fullmatch(r"and 2\d\d more: .*", line.rstrip()) for line in lines)


def test_a_pipe_gets_all_points_in_full(make_sweep: Make, told) -> None:
    points = [replace(point(number), label={f"{key * 30}": f"{number}" * 12 for key in "abcdef"}) for number in (1, 2)]
    page = told(str(make_sweep(points=points).directory.path))
    assert "…" not in page
