"""The report of a sweep: what its page says, that no text breaks out of it, and that its size is bounded."""

import itertools
import json
import math
import os
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_slurm import FakeSlurm
from fake_sweep import FakeSweep, parent, point

from mmhydra import report
from mmhydra.sweep.report import data as report_data
from mmhydra.sweep.report.data import envelope, page_data, sampled
from mmhydra.sweep.report.page import write_report
from mmhydra.sweep.show.overview import read_overview
from mmhydra.sweep.state.curves import Curves
from mmhydra.sweep.state.states import Memory

Make = Callable[..., FakeSweep]
EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(1)>&amp;\u202e"


def data_of(sweep: FakeSweep) -> dict[str, Any]:
    memory = Memory()
    return page_data(read_overview(sweep.directory, memory), memory.curves)


def written(sweep: FakeSweep, path: Path) -> str:
    write_report(sweep.directory, path)
    return path.read_text()


def of_page(text: str) -> dict[str, Any]:
    """The data that stands in a page."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text)
    assert found is not None
    return json.loads(found[1])


def without_plotly(text: str) -> str:
    return re.sub(r"<script>/\*\*\n\* plotly\.js.*?</script>", "", text, flags=re.DOTALL)


# ---------------------------------------------------------------- the verb


def test_the_verb_writes_where_the_sweep_is(make_sweep: Make, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = make_sweep(2)
    sweep.done(1, 2.0)
    assert report.main(["lr_ladder"]) == 0
    assert capsys.readouterr().out == "outputs/sweeps/lr_ladder/report.html\n"
    assert sweep.directory.report.stat().st_size > 1_000_000, "the library of its plots stands in it"
    assert report.main(["lr_ladder", "--out", "x.html"]) == 0
    assert Path("x.html").is_file()


def test_what_can_not_be_done_is_told(make_sweep: Make, capsys: pytest.CaptureFixture[str]) -> None:
    make_sweep(1)
    assert report.main(["lr_lader"]) == 2
    assert "did you mean lr_ladder?" in capsys.readouterr().err
    assert report.main(["lr_ladder", "--out", "no/such/folder/x.html"]) == 2
    assert "no/such/folder/x.html can't be written: No such file or directory" in capsys.readouterr().err


# ---------------------------------------------------------------- what it says


def test_the_page_says_what_was_asked_and_what_came_out(make_sweep: Make, tmp_path: Path, slurm_config) -> None:
    points = [
        replace(
            point(number), label={"model": "1b" if number > 2 else "100m", "optim.lr": str(rate)}, cluster="h100_64"
        )
        for number, rate in ((1, 1e-4), (2, 1e-3), (3, 1e-4), (4, 1e-3))
    ]
    sweep = make_sweep(points=points, config=slurm_config, stop_rule="Stop at 1.2.")
    sweep.directory.study.write_text("stop: {metric_below: 1.2}\n")
    for number, value in ((1, 3.0), (2, 2.0), (3, 2.5)):
        attempt = sweep.began(number, f"70_{number}", seconds_ago=3600)
        sweep.trained(attempt, 100, value)
        sweep.ended(attempt, "done" if number < 3 else "failed", 0 if number < 3 else 1, 100, requeue=False)
    text = without_plotly(written(sweep, tmp_path / "x.html"))
    assert "Which learning rate is best for the debug model?" in text
    assert re.search(r"The lowest val_loss is 2\.0\d+: model=100m optim\.lr=0\.001\.", text)
    assert re.search(r"The next point is 0\.\d+ behind: model=1b optim\.lr=0\.0001\.", text)
    assert "1 of 4 points has no val_loss yet." in text
    assert '<span class="badge">not met</span> metric_below 1.2' in text
    price = slurm_config.cluster.usd_per_gpu_hour
    row = re.search(r"<tr><td>h100_64</td>(.*?)</tr>", text)
    assert row is not None
    assert re.findall(r">([^<]+)<", row[1])[:4] == ["4", "3.00", "192.0", "64.0"]
    assert f'<td class="n">{192 * price:,.0f}</td>' in text
    assert f"git checkout {'c' * 40}\npython -m mmhydra.train -m sweep=lr_ladder" in text
    data = of_page(text)
    assert [axis["name"] for axis in data["axes"]] == ["model", "lr"]
    assert data["axes"][0]["values"] == ["100m", "1b"]
    first = data["points"][0]
    assert first["command"] == "python -m mmhydra.train optim.lr=0.0002 seed=1"
    assert first["dir"] == f"outputs/debug/{sweep.point(1).run_id}"
    assert (first["commit"], first["dirty"]) == ("c" * 40, False)


def test_rates_are_logarithmic_and_choices_are_names(make_sweep: Make) -> None:
    points = [
        replace(point(number), label={"lr": f"1e-{number}", "dim": str(64 + number), "model": f"m{number}"})
        for number in (1, 2, 3)
    ]
    kinds = {axis["name"]: (axis["kind"], axis.get("log")) for axis in data_of(make_sweep(points=points))["axes"]}
    assert kinds == {"lr": ("number", True), "dim": ("number", False), "model": ("category", None)}


def test_a_sweep_under_way_says_so(make_sweep: Make, tmp_path: Path, slurm: FakeSlurm, slurm_config) -> None:
    sweep = make_sweep(2, slurm_config)
    sweep.submitted(1, "70_1")
    slurm.is_down()
    text = written(sweep, tmp_path / "x.html")
    assert "1 point at work when this page was made" in text
    assert "SLURM can&#x27;t be asked: 1 point as files tell" in text
    assert "No point has a val_loss yet." in text


def test_an_empty_sweep_has_a_page(make_sweep: Make, tmp_path: Path) -> None:
    data = of_page(written(make_sweep(points=[point(1)]), tmp_path / "x.html"))
    assert data["axes"] == []
    assert data["curves"] == {"loss": [], "metric": []}


def test_what_comes_from_yaml_stays_text(make_sweep: Make, tmp_path: Path) -> None:
    points = [
        replace(point(n), label={f"key{EVIL}": f"{EVIL}{n}"}, stage=EVIL, overrides=(f"tag={EVIL}",), cluster=EVIL)
        for n in (1, 2)
    ]
    sweep = make_sweep(points=points, question=EVIL, stop_rule=EVIL, metric=f"val{EVIL}")
    sweep.directory.study.write_text(f"stop: {{gpu_hours: 3}}\nquestion: '{EVIL}'\n")
    attempt = sweep.frozen(1)
    attempt.metrics.write_text(json.dumps({"kind": "validation", "step": 1, f"val{EVIL}": 2.0}) + "\n")
    sweep.ended(attempt, "failed", 1, 5, EVIL)
    text = without_plotly(written(sweep, tmp_path / "x.html"))
    assert "<script>alert" not in text
    assert "<img" not in text
    assert text.count("<script") == 2, "the data and our own"
    assert of_page(text)["points"][0]["label"] == [f"{EVIL}1"]


def test_the_page_can_load_nothing(make_sweep: Make, tmp_path: Path) -> None:
    text = written(make_sweep(2), tmp_path / "x.html")
    policy = re.search(r'http-equiv="Content-Security-Policy" content="(.*?)"', text)
    assert policy is not None
    assert policy[1].startswith("default-src &#x27;none&#x27;; script-src &#x27;sha256-")
    assert "unsafe-eval" not in policy[1]
    assert not re.search(r'<(script|link|img|iframe)[^>]* (src|href)="', without_plotly(text))


# ---------------------------------------------------------------- curves


def test_curves_are_thinned_and_keep_their_ends(make_sweep: Make) -> None:
    sweep = make_sweep(2)
    sweep.trained(sweep.frozen(1), 5000, 2.0)
    ((place, steps, values),) = data_of(sweep)["curves"]["loss"]
    assert place == 0
    assert len(steps) == len(values) <= 1000
    assert (steps[0], steps[-1]) == (1, 5000)


def test_of_a_large_file_lines_are_read_here_and_there(make_sweep: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_data, "_WHOLE_FILE", 50_000)
    sweep = make_sweep(1)
    attempt = sweep.frozen(1)
    sweep.trained(attempt, 3000, 2.0)
    steps = list(sampled(attempt.metrics, "loss", 60))
    assert 50 <= len(steps) <= 61
    assert steps[0] < 10
    assert steps[-1] == 3000
    gaps = [after - before for before, after in itertools.pairwise(steps)]
    assert max(gaps) < 120


def test_a_step_that_was_made_twice_counts_once(make_sweep: Make) -> None:
    sweep = make_sweep(1)
    first = sweep.frozen(1)
    sweep.trained(first, 60, 5.0)
    sweep.ended(first, "failed", 1, 60)
    second = sweep.frozen(1)
    sweep.trained(second, 100, 2.0, first=41)
    ((_, steps, values),) = data_of(sweep)["curves"]["loss"]
    assert steps == list(range(1, 101))
    newest = json.loads(second.metrics.read_text().splitlines()[0])
    assert values[40] == pytest.approx(newest["loss"], rel=1e-4)


def test_nan_is_not_drawn(make_sweep: Make, tmp_path: Path) -> None:
    sweep = make_sweep(2)
    sweep.held_out(sweep.frozen(1), (10, 2.0), (20, "NaN"), (30, "Infinity"))
    text = written(sweep, tmp_path / "x.html")
    assert of_page(text)["curves"]["metric"] == [[0, [10], [2.0]]]


def test_an_envelope_is_the_middle_of_what_there_is() -> None:
    band = envelope([{0: float(n), 100: float(n) + 100} for n in range(11)] + [{50: 1000.0, 60: 1000.0}])
    assert band is not None
    assert band["count"] == 12
    places = dict(zip(band["x"], zip(band["low"], band["median"], band["high"], strict=True), strict=True))
    assert places[0] == (1.0, 5.0, 9.0)
    assert places[100] == (101.0, 105.0, 109.0)
    middle = min(places, key=lambda step: abs(step - 20))
    assert places[middle][1] == pytest.approx(5 + middle)
    assert envelope([{}, {}]) is None


def test_the_best_are_drawn_and_the_others_are_a_band(make_sweep: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_data, "MOST_CURVES", 10)
    monkeypatch.setattr(report_data, "MOST_BEST", 3)
    sweep = make_sweep(12)
    for number in range(1, 13):
        sweep.held_out(sweep.frozen(number), (10, 5.0), (20, 5.0 - number / 10))
    data = data_of(sweep)
    assert [place for place, _, _ in data["curves"]["metric"]] == [9, 10, 11], "the best is drawn last"
    assert data["envelopes"]["metric"]["count"] == 9
    assert data["envelopes"]["loss"] is None


# ---------------------------------------------------------------- seeds


def test_seeds_are_taken_together(make_sweep: Make) -> None:
    points, values = [], {}
    for number in range(1, 9):
        rate, seed = ("0.1", "0.2")[(number - 1) // 4], str(number % 4)
        points.append(replace(point(number), label={"lr": rate, "seed": seed}))
        values[number] = (2.0 if rate == "0.1" else 3.0) + number % 4 / 10
    sweep = make_sweep(points=points)
    for number, value in values.items():
        if number != 8:
            sweep.held_out(sweep.frozen(number), (10, value))
    first, second = data_of(sweep)["seeds"]
    assert (first["words"], len(first["values"]), len(second["values"])) == ("lr=0.1", 4, 3)
    assert first["mean"] == pytest.approx(2.15)
    assert first["sd"] == pytest.approx(math.sqrt(0.05 / 3), rel=1e-4)


def test_stages_are_not_mixed(make_sweep: Make) -> None:
    one = [replace(point(n), label={"seed": str(n)}, stage="stable") for n in (1, 2)]
    two = [replace(point(n + 2), label={"seed": str(n)}, stage="decay", parent=parent(one[n - 1])) for n in (1, 2)]
    sweep = make_sweep(points=[*one, *two])
    for number in (1, 2, 3, 4):
        sweep.held_out(sweep.frozen(number), (10, float(number)))
    assert [group["stage"] for group in data_of(sweep)["seeds"]] == ["stable", "decay"]


# ---------------------------------------------------------------- size


def test_two_thousand_points_make_a_page_of_bounded_size(make_sweep: Make, tmp_path: Path) -> None:
    points = [
        replace(point(n), label={"lr": f"{1e-4 * (1 + n % 40):g}", "wd": str(n % 5), "seed": str(n % 10)})
        for n in range(1, 2001)
    ]
    sweep = make_sweep(points=points)
    for number in range(1, 2001):
        attempt = sweep.frozen(number)
        sweep.trained(attempt, 1500, 2.0 + number / 1000, every=15 if number > 60 else 1)
        sweep.ended(attempt, "done", 0, 1500)
    text = written(sweep, tmp_path / "x.html")
    data = of_page(text)
    assert len(data["points"]) == 2000
    assert len(data["curves"]["loss"]) == 50
    assert sum(len(steps) for _, steps, _ in data["curves"]["loss"]) <= 60_000
    assert data["envelopes"]["loss"]["count"] == 1950
    assert len(text) < 8_000_000
    assert len(without_plotly(text)) < 3_000_000


def test_curves_know_what_the_states_have_read(make_sweep: Make, tmp_path: Path) -> None:
    sweep = make_sweep(1)
    attempt = sweep.frozen(1)
    sweep.held_out(attempt, (10, 2.0))
    curves = Curves()
    read_overview(sweep.directory, Memory(curves=curves))
    attempt.metrics.write_text(attempt.metrics.read_text().replace("2.0", "9.0"))
    assert curves.read([attempt.metrics], "val_loss") == {10: 2.0}


# ---------------------------------------------------------------- what a reader would ask next


def test_a_best_point_at_the_end_of_an_axis_is_told(make_sweep: Make, tmp_path: Path) -> None:
    def said(best: int) -> str:
        rates = enumerate(("1e-4", "1e-3", "1e-2"), 1)
        points = [point(n, name=f"best{best}", label={"optim.lr": rate}) for n, rate in rates]
        sweep = make_sweep(points=points)
        for number in (1, 2, 3):
            sweep.done(number, 2.0 if number == best else 3.0)
        return without_plotly(written(sweep, tmp_path / "x.html"))

    beyond = "of the 3 that have a value; the best value may lie beyond it."
    assert f"optim.lr=1e-4 is the lowest {beyond}" in said(1)
    assert beyond not in said(2)
    assert f"optim.lr=1e-2 is the highest {beyond}" in said(3)


def test_one_seed_is_told(make_sweep: Make, tmp_path: Path) -> None:
    told = "Every point has one seed: how far apart seeds alone would put them is not known."
    points = [point(number, label={"optim.lr": f"1e-{number}"}) for number in (1, 2)]
    for label, is_told in (({}, True), ({"seed": "1"}, False)):
        first = replace(points[0], name=f"a{len(label)}", label={**points[0].label, **label})
        second = replace(points[1], name=f"a{len(label)}", label={**points[1].label, **dict.fromkeys(label, "2")})
        sweep = make_sweep(points=[first, second])
        sweep.done(1, 2.0)
        sweep.done(2, 3.0)
        assert (told in without_plotly(written(sweep, tmp_path / "x.html"))) is is_told


def test_an_evaluation_has_a_value_and_no_curve(make_sweep: Make, tmp_path: Path) -> None:
    one = point(1, stage="stable")
    sweep = make_sweep(points=[one, point(2, stage="check", num_steps=0, parent=parent(one, "init"))])
    sweep.done(1, 2.5)
    measured = sweep.frozen(2)
    sweep.held_out(measured, (0, 2.25))
    sweep.ended(measured, "done", 0, 0)
    text = without_plotly(written(sweep, tmp_path / "x.html"))
    data = of_page(text)
    assert [each["evaluation"] for each in data["points"]] == [False, True]
    assert [place for place, _, _ in data["curves"]["metric"]] == [0]
    row = re.search(r"<tr><td>check</td>(.*?)</tr>", text)
    assert row is not None
    assert re.findall(r">([^<]+)<", row[1])[-4:-1] == ["2.2500", "evaluation", "done"]
    assert "<dt>evaluations made</dt><dd>1<small>of 1</small>" in text
    assert "100 of 100" in text


def test_what_is_no_file_is_written_to_and_not_replaced(make_sweep: Make, tmp_path: Path) -> None:
    sweep = make_sweep(1)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    write_report(sweep.directory, pipe)
    reader.join(30)
    assert read[0].startswith(b"<!DOCTYPE html>") or read[0].startswith(b"<!doctype html>")
    assert pipe.is_fifo()
