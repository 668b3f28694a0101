"""A study of six real runs, from its command to its table and to its page in a real browser."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from browser import Browser
from workplace import Finished, Workplace

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(demo_sweep: tuple[Workplace, Finished]) -> Workplace:
    place, done = demo_sweep
    assert done.code == 0, done.text + place.logs()
    return place


@pytest.fixture(scope="module")
def document(finished: Workplace) -> dict:
    done = finished.run("demo", "--json", module="mmhydra.status")
    assert done.code == 0, done.text
    return json.loads(done.out)


def test_all_six_are_done(document: dict) -> None:
    assert document["counts"] == {"done": 6}
    assert document["state"] == "done"
    assert document["active"] is False
    assert len({point["run_id"] for point in document["points"]}) == 6
    for point in document["points"]:
        assert point["step"] == point["num_steps"] > 0
        assert point["checkpoint"] == point["num_steps"]
        assert point["loss"] is not None


def test_the_best_is_the_least_of_what_the_runs_wrote(document: dict) -> None:
    least = {}
    for point in document["points"]:
        files = sorted(Path(point["path"]).glob("attempts/*/metrics.jsonl"))
        records = [json.loads(line) for file in files for line in file.read_text().splitlines()]
        held_out = {record["step"]: record["val_loss"] for record in records if "val_loss" in record}
        least[point["run_id"]] = min(held_out.values())
    assert {point["run_id"]: point["best"] for point in document["points"]} == least
    assert document["best"] == min(least, key=lambda run: least[run])


def test_the_table_names_what_varies(finished: Workplace) -> None:
    done = finished.run("demo", module="mmhydra.status")
    assert done.code == 0, done.text
    assert "sweep demo  DONE" in done.out
    header = next(line for line in done.out.splitlines() if re.search(r" run +state ", line))
    assert header.split() == ["#", "lr", "num_layers", "run", "state", "step", "loss", "val_loss"]
    assert len(re.findall(r" [0-9a-f]{12}  done ", done.out)) == 6


def test_the_page(finished: Workplace, document: dict, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    done = finished.run("demo", "--out", str(page), module="mmhydra.report")
    assert done.code == 0, done.text
    found = shutil.which("chromium")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("no chromium on the PATH")
        pytest.skip("no chromium on the PATH")
    visit = Browser(found, tmp_path).open(page, "--virtual-time-budget=10000")
    assert visit.console == []
    assert visit.requests == []
    parallel = visit.dom.split('id="parallel-plot"')[1].split("</section>")[0]
    assert len(re.findall(r'<path class="line"', parallel)) == 6
    assert re.findall(r'class="name"[^>]*>([^<]*)<', parallel) == ["lr", "num_layers", "val_loss"]
    for name in ("curve-loss", "curve-metric"):
        plot = visit.dom.split(f'id="{name}"')[1].split("</section>")[0].split('id="curve-')[0]
        assert len(re.findall(r'class="trace scatter', plot)) == 6
    table = visit.dom.split('id="table"')[1].split("</table>")[0]
    assert all(point["run_id"] in table for point in document["points"])


def test_each_point_can_be_repeated_from_the_page(finished: Workplace, document: dict, tmp_path: Path) -> None:
    # What the page says repeats a run leads to the same run: nothing is left to do in it.
    page = tmp_path / "report.html"
    assert finished.run("demo", "--out", str(page), module="mmhydra.report").code == 0
    data = json.loads(re.search(r'id="data">(.*?)</script>', page.read_text())[1])
    point = data["points"][3]
    words = point["command"].split()
    assert words[:3] == ["python", "-m", "mmhydra.train"]
    done = finished.run(*words[3:])
    assert done.code == 0, done.text
    assert point["run"] in done.text
    attempts = list(Path(document["points"][3]["path"], "attempts").iterdir())
    assert len(attempts) <= 2


def test_cancel_has_nothing_to_do(finished: Workplace) -> None:
    done = finished.run("demo", module="mmhydra.cancel")
    assert done.code == 0, done.text
    assert done.out == "nothing to cancel: nothing of this sweep is at work\n"
