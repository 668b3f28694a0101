"""The report of a sweep in a real Chromium: it draws, answers to a reader, asks for nothing, and runs nothing else."""

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from browser import Browser, Visit
from fake_sweep import FakeSweep, point

from mmhydra.sweep.report.page import write_report

pytestmark = pytest.mark.slow
Make = Callable[..., FakeSweep]
EVIL = "<img src=x onerror=document.title='owned'><script>document.title='owned'</script><b>bold</b>"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Browser:
    found = shutil.which("chromium")
    if found is None:
        why = "no chromium on the PATH: apt-get install --no-install-recommends chromium"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    return Browser(found, tmp_path_factory.mktemp("browser"))


def ladder(make_sweep: Make, **record) -> FakeSweep:
    points = [
        replace(
            point(n),
            label={"model": ("100m", "1b")[n % 2], "optim.lr": f"{10.0 ** -(2 + n % 3):g}", "seed": str(n % 4)},
        )
        for n in range(1, 13)
    ]
    sweep = make_sweep(points=points, **record)
    for number in range(1, 12):
        sweep.done(number, 2.0 + number / 10)
    return sweep


def opened(browser: Browser, sweep: FakeSweep, path: Path, script: str = "") -> Visit:
    """The page after `script` has been run in it. Its policy does not know such a script, so it is taken away."""
    write_report(sweep.directory, path)
    if script:
        page = re.sub('<meta http-equiv="Content-Security-Policy"[^>]*>', "", path.read_text())
        path.write_text(page.replace("</body>", f"<script>{script}</script></body>"))
    return browser.open(path, "--virtual-time-budget=10000")


def rows(dom: str) -> list[str]:
    table = dom.split('id="table"')[1].split("</table>")[0]
    return re.findall(r"<tr(?: title=\"[^\"]*\")?><td.*?</tr>", table)


def test_all_plots_are_drawn_and_nothing_is_asked_for(browser: Browser, make_sweep: Make, tmp_path: Path) -> None:
    visit = opened(browser, ladder(make_sweep), tmp_path / "report.html")
    assert visit.console == []
    assert visit.requests == []
    parallel = visit.dom.split('id="parallel-plot"')[1].split("</section>")[0]
    assert len(re.findall(r'<path class="line"', parallel)) == 11
    assert len(re.findall(r'<path class="line none"', parallel)) == 1, "a point without a value"
    assert re.findall(r'class="name"[^>]*>([^<]*)<', parallel) == ["model", "lr", "seed", "val_loss"]
    for name, traces in (("curve-loss", 11), ("curve-metric", 11)):
        plot = visit.dom.split(f'id="{name}"')[1].split("</section>")[0]
        assert len(re.findall(r'class="trace scatter', plot.split('id="curve-')[0])) == traces
    plots = re.findall(r'<div id="[^"]*" class="[^"]*js-plotly-plot', visit.dom)
    assert len(plots) == 2 + 3 + 1, "curves, one for each axis, seeds"
    assert len(rows(visit.dom)) == 12


def test_the_table_is_sorted_by_the_metric_and_by_what_is_clicked(browser, make_sweep: Make, tmp_path: Path) -> None:
    sweep = ladder(make_sweep)
    first = opened(browser, sweep, tmp_path / "a.html")
    assert [int(re.search(r">(\d+)<", row)[1]) for row in rows(first.dom)] == list(range(1, 13))
    click = "document.querySelector('#table th').click();document.querySelector('#table th').click()"
    again = opened(browser, sweep, tmp_path / "b.html", click)
    assert [int(re.search(r">(\d+)<", row)[1]) for row in rows(again.dom)] == list(range(12, 0, -1))


def test_a_line_of_the_table_opens(browser: Browser, make_sweep: Make, tmp_path: Path) -> None:
    sweep = ladder(make_sweep)
    visit = opened(browser, sweep, tmp_path / "a.html", "document.querySelector('#table tbody tr').click()")
    (detail,) = re.findall(r'<tr class="detail">.*?</tr>', visit.dom)
    assert f"outputs/debug/{sweep.point(1).run_id}" in detail
    assert "python -m mmhydra.train optim.lr=0.0002 seed=1" in detail
    assert "c" * 40 in detail


def test_a_drag_along_an_axis_keeps_what_passes_there(browser: Browser, make_sweep: Make, tmp_path: Path) -> None:
    # The axis of models, from its foot to a third of its height: those of the first choice alone.
    drag = """
      const reach = document.querySelectorAll("#parallel-plot .reach")[0], box = reach.getBoundingClientRect();
      reach.setPointerCapture = () => {};
      const at = (share) => ({ clientX: box.x + 5, clientY: box.bottom - share * box.height, pointerId: 1 });
      reach.dispatchEvent(new PointerEvent("pointerdown", at(0)));
      reach.dispatchEvent(new PointerEvent("pointermove", at(0.3)));
      reach.dispatchEvent(new PointerEvent("pointerup", at(0.3)));
    """
    visit = opened(browser, ladder(make_sweep), tmp_path / "a.html", drag)
    assert visit.console == []
    assert "6 of 12 points kept" in visit.dom
    models = [re.findall(r"<td[^>]*>([^<]*)</td>", row)[1] for row in rows(visit.dom)]
    assert len(models) == 6
    assert len(set(models)) == 1
    assert len(re.findall(r'<path class="line[^"]* off"', visit.dom)) == 6
    plot = visit.dom.split('id="curve-loss"')[1].split('id="curve-metric"')[0]
    assert len(re.findall(r'class="trace scatter', plot)) < 11, "curves of the others are gone"


def test_what_comes_from_yaml_stays_text(browser: Browser, make_sweep: Make, tmp_path: Path) -> None:
    points = [
        replace(point(n), label={f"k{EVIL}": f"{EVIL}{n}", "seed": str(n)}, stage=EVIL, overrides=(f"tag={EVIL}",))
        for n in (1, 2, 3)
    ]
    sweep = make_sweep(points=points, question=EVIL, stop_rule=EVIL)
    for number in (1, 2):
        sweep.done(number, 2.0)
    sweep.ended(sweep.frozen(3), "failed", 1, 5, EVIL)
    visit = opened(browser, sweep, tmp_path / "report.html")
    assert visit.console == [], "the policy has nothing to refuse"
    assert visit.requests == []
    assert "<title>lr_ladder: sweep report</title>" in visit.dom
    assert '<img src="x"' not in visit.dom
    assert "<b>bold</b>" not in visit.dom
    assert "&lt;b&gt;bold&lt;/b&gt;" in visit.dom


def test_a_page_that_does_wrong_is_seen(browser: Browser, make_sweep: Make, tmp_path: Path) -> None:
    # The same browser and questions, and a page with what must never be: the checks above can fail.
    write_report(ladder(make_sweep).directory, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    wrong = '<img src="http://127.0.0.1:9/x.png"><script>document.title="owned"</script>'
    (tmp_path / "refused.html").write_text(page.replace("<main>", f"<main>{wrong}"))
    refused = browser.open(tmp_path / "refused.html")
    assert len(refused.console) == 2, "the policy refuses the script and the picture"
    assert refused.requests == []
    assert "<title>lr_ladder: sweep report</title>" in refused.dom
    without_policy = re.sub('<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    (tmp_path / "allowed.html").write_text(without_policy.replace("<main>", f"<main>{wrong}"))
    allowed = browser.open(tmp_path / "allowed.html")
    assert allowed.requests == ["http://127.0.0.1:9/x.png"]
    assert "<title>owned</title>" in allowed.dom


def test_it_draws_in_the_dark_and_on_a_small_screen(browser: Browser, make_sweep: Make, tmp_path: Path) -> None:
    sweep = ladder(make_sweep)
    write_report(sweep.directory, tmp_path / "report.html")
    dark = browser.open(
        tmp_path / "report.html",
        "--virtual-time-budget=10000",
        "--blink-settings=preferredColorScheme=0",
        "--window-size=420,900",
    )
    assert dark.console == []
    strokes = set(re.findall(r'<path class="line"[^>]*style="stroke: ([^;"]*)', dark.dom))
    light = opened(browser, sweep, tmp_path / "light.html")
    assert strokes
    assert strokes.isdisjoint(re.findall(r'<path class="line"[^>]*style="stroke: ([^;"]*)', light.dom))
