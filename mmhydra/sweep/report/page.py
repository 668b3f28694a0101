"""The report of a sweep: one HTML page that needs nothing but itself, with plots that a reader can ask."""

import base64
import hashlib
import json
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from plotly.offline import get_plotlyjs

from mmhydra import __version__
from mmhydra.data.report import markup
from mmhydra.data.report.markup import Html, element, join, table
from mmhydra.files import write_atomic
from mmhydra.monitor.words import count
from mmhydra.sweep.record import SweepDirectory
from mmhydra.sweep.report.data import MOST_BEST, costs, page_data, verdict
from mmhydra.sweep.show.overview import Overview, read_overview
from mmhydra.sweep.state.curves import Curves
from mmhydra.sweep.state.labels import evaluates, in_words, short_names
from mmhydra.sweep.state.states import Memory, PointState

_HERE = Path(__file__)
_STYLE = Path(markup.__file__).with_name("page.css").read_text(encoding="utf-8") + _HERE.with_name(
    "report.css"
).read_text(encoding="utf-8")
_SCRIPT = _HERE.with_name("report.js").read_text(encoding="utf-8")
_TOP = 10  # points in the table of the best


def write_report(sweep: SweepDirectory, path: Path) -> None:
    """Writes the page of a sweep as it is now, also while its runs are under way. Raises RecordError, OSError."""
    memory = Memory(curves=Curves())
    overview = read_overview(sweep, memory)
    page = report(overview, memory.curves).encode("utf-8")
    if path.exists() and not path.is_file():  # a pipe or a device, which nothing may be put in the place of
        path.write_bytes(page)
    else:
        write_atomic(path, page)


def report(overview: Overview, curves: Curves) -> str:
    """The page as text. All that comes from YAML or from runs is escaped, and the page can load nothing."""
    data = page_data(overview, curves)
    sections = [
        ("findings", "Findings", _findings(overview, data)),
        ("parallel", "All points at once", _parallel(overview, data)),
        ("curves", "Curves", _curves(overview, data)),
        ("axes", "One axis at a time", _axes(overview, data)),
        ("seeds", "Spread between seeds", _seeds(data)),
        ("points", "Points", _points(data)),
        ("cost", "Cost", _cost(overview)),
        ("recipe", "How to repeat it", _recipe(overview, data)),
    ]
    shown = [(name, title, content) for name, title, content in sections if content is not None]
    plotly = Html(get_plotlyjs())
    scripts = [plotly, Html(_SCRIPT)]
    head = [
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_policy(scripts)),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", f"{overview.record.name}: sweep report"),
        element("style", Html(_STYLE)),
    ]
    body = [
        _header(overview),
        element("nav", element("div", join(element("a", title, href=f"#{name}") for name, title, _ in shown))),
        element(
            "main",
            element("noscript", element("p", "The plots and the table need JavaScript.", class_="warning")),
            *(element("section", element("h2", title), content, id=name) for name, title, content in shown),
        ),
        element("footer", f"Made by mmhydra {__version__} on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC from sweep.json "),
        element("script", _json(data), type="application/json", id="data"),
        *(element("script", script) for script in scripts),
    ]
    page = element("html", element("head", *head), element("body", *body), lang="en")
    return f"<!DOCTYPE html>\n{page}\n"


def _policy(scripts: Sequence[str]) -> str:
    """Nothing is loaded or sent, and no script runs but the page's two, which are known by their hashes."""
    hashes = [base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii") for script in scripts]
    allowed = " ".join(f"'sha256-{each}'" for each in hashes)
    # Plotly sets styles of its own, and makes pictures for who wants to save a plot.
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _json(data: dict[str, Any]) -> Html:
    """JSON that no text can break out of."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Html(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _header(overview: Overview) -> Html:
    record, counts = overview.record, overview.counts
    leader = overview.leader
    done, total = counts.get("done", 0), len(overview.points)
    others = [f"of {total:,}", *(f"{many:,} {state}" for state, many in counts.items() if state != "done")]
    used, planned = overview.used_gpu_hours, overview.planned_gpu_hours
    steps_due, steps_made = overview.steps_due, overview.steps_made
    tiles = [
        ("points done", f"{done:,}", ", ".join(others)),
        (f"best {record.metric}", _number(leader), _of(overview, leader)),
    ]
    if steps_due:
        tiles.append(("steps made", markup.short(steps_made), f"{steps_made:,} of {steps_due:,}"))
    if evaluations := overview.evaluations:
        tiles.append(("evaluations made", f"{overview.num_measured:,}", f"of {len(evaluations):,}"))
    if used is not None or planned is not None:
        tiles.append(("GPU-hours used", f"{used or 0.0:,.1f}", "" if planned is None else f"at most {planned:,.0f}"))
    if overview.usd:
        tiles.append(("price so far", f"{overview.usd:,.0f}", "USD"))
    warnings = [*overview.problems]
    if overview.is_active:
        active = sum(each.is_active for each in overview.states)
        warnings.insert(0, f"{count(active, 'point')} at work when this page was made; make it anew when they are done")
    return element(
        "header",
        element("p", "Sweep report", class_="kind"),
        element("h1", record.name),
        element("p", record.question, class_="question") if record.question else None,
        *(element("p", warning, class_="warning", role="alert") for warning in warnings),
        element(
            "dl",
            *(
                element("div", element("dt", name), element("dd", value, element("small", more)), class_="tile")
                for name, value, more in tiles
            ),
            class_="tiles",
        ),
    )


def _number(each: PointState | None) -> str:
    return markup.NOTHING if each is None or each.best is None else f"{each.best:.4f}"


def _of(overview: Overview, each: PointState | None) -> str:
    return "no point has one yet" if each is None else in_words(each.point, overview.axes) or each.point.run_id


def _findings(overview: Overview, data: dict[str, Any]) -> Html:
    record, axes = overview.record, overview.axes
    rule = []
    if record.stop_rule:
        rule.append(element("p", element("strong", "Stop rule. "), record.stop_rule))
    if overview.stop:
        told = overview.stop_met
        badge = element("span", "met" if told else "not met", class_="badge good" if told else "badge")
        rule.append(element("p", badge, f" {told or overview.stop_limits}"))
    rows = [
        [
            *([each.point.stage or markup.NOTHING] if data["stages"] else []),
            *(each.point.label.get(key, markup.NOTHING) for key in axes),
            f"{each.best:.4f}",
            "evaluation" if evaluates(each.point) else f"{each.best_step:,}",
            each.state,
            each.point.run_id,
        ]
        for each in overview.ranked[:_TOP]
        if each.best is not None and each.best_step is not None
    ]
    names = [*(["stage"] if data["stages"] else []), *short_names(axes)]
    headings = [*names, record.metric, "at step", "state", "run"]
    return join(
        [
            element("ul", *(element("li", sentence) for sentence in verdict(overview, data["seeds"]))),
            *rule,
            element("h3", f"The best {len(rows)}") if rows else None,
            table(headings, rows, numbers_from=len(headings)) if rows else None,
        ]
    )


def _parallel(overview: Overview, data: dict[str, Any]) -> Html | None:
    if not data["axes"]:
        return None
    lower = "lower" if overview.record.direction == "minimize" else "higher"
    return join(
        [
            element(
                "p",
                f"A line is a point, its colour the {overview.record.metric} ({lower} is better). Drag along an axis "
                "to keep the lines that pass there, in all plots and in the table; click an axis to let go.",
                class_="lead",
            ),
            element("div", class_="ramp", id="ramp"),
            element("div", class_="scroll-x", id="parallel-plot"),
            element("p", class_="soft", id="kept", aria_live="polite"),
        ]
    )


def _curves(overview: Overview, data: dict[str, Any]) -> Html | None:
    if not data["curves"]["loss"] and not data["curves"]["metric"]:
        return None
    rest = data["envelopes"]["loss"] or data["envelopes"]["metric"]
    told = (
        f"The best {MOST_BEST} points; the grey band is the middle 80% of the other {rest['count']:,}, the grey line "
        "their median. Colours are by rank."
        if rest
        else "A curve is a point. Colours are by rank, from the best to the worst as above."
    )
    switches = [
        element("label", element("input", type="checkbox", id=f"log-{axis}"), f" logarithmic {name}")
        for axis, name in (("x", "steps"), ("y", "values"))
    ]
    return join(
        [
            element("p", told, class_="lead"),
            element("p", *switches, class_="switches"),
            element(
                "div",
                *(
                    element("div", element("h3", title), element("div", id=f"curve-{name}", class_="plotly"))
                    for name, title in (("loss", "Training loss"), ("metric", overview.record.metric))
                ),
                class_="pair even",
            ),
        ]
    )


def _axes(overview: Overview, data: dict[str, Any]) -> Html | None:
    shown = [i for i, axis in enumerate(data["axes"]) if axis["alone"]]
    if not shown:
        return None
    return join(
        [
            element(
                "p",
                f"The best {overview.record.metric} of each point over each axis; the line joins the medians.",
                class_="lead",
            ),
            element(
                "div",
                *(element("div", id=f"axis-{i}", class_="plotly small") for i in shown),
                class_="multiples",
            ),
        ]
    )


def _seeds(data: dict[str, Any]) -> Html | None:
    groups = data["seeds"]
    if not any(group["sd"] is not None for group in groups):
        return None
    rows = [
        [
            group["words"],
            f"{group['mean']:.4f}",
            markup.NOTHING if group["sd"] is None else f"{group['sd']:.2g}",
            str(len(group["values"])),
        ]
        for group in groups
    ]
    return join(
        [
            element("p", "Points that differ in seeds alone, the best mean first: mean, and one standard deviation.")
            if rows
            else None,
            element(
                "div",
                element("div", id="seed-plot", class_="plotly"),
                table(["point", "mean", "deviation", "seeds"], rows),
                class_="pair",
            ),
        ]
    )


def _points(data: dict[str, Any]) -> Html:
    return join(
        [
            element(
                "p",
                "Click a heading to sort, a line for the run's directory, its commit and what repeats it.",
                class_="lead",
            ),
            element("p", element("input", type="search", id="search", placeholder="search", aria_label="search")),
            element("div", element("table", id="table"), class_="scroll tall", tabindex="0"),
        ]
    )


def _cost(overview: Overview) -> Html:
    headings = ["cluster", "points", "hours", "GPU-hours", "of them in points that ended early", "USD"]
    return join(
        [
            element(
                "p",
                "Hours are those of all attempts, each from its begin to its end; GPU-hours are these times the GPUs.",
                class_="lead",
            ),
            table(headings, costs(overview)),
        ]
    )


def _recipe(overview: Overview, data: dict[str, Any]) -> Html:
    record = overview.record
    commit = record.code.get("commit")
    lines = [f"git checkout {commit}"] if commit else []
    lines.append(f"python -m mmhydra.train {shlex.join(record.command)}")
    return join(
        [
            element("p", "The whole sweep; of a single point see its line in the table above.", class_="lead"),
            element("pre", "\n".join(lines)),
            element("p", "The code had changes that are not in this commit: code.patch of each attempt has them.")
            if any(point["dirty"] for point in data["points"])
            else None,
            element("p", f"First submitted {record.created[:16]}, last {record.updated[:16]} (UTC).", class_="soft"),
            element("details", element("summary", "the study"), element("pre", _study(overview)))
            if overview.sweep.study.is_file()
            else None,
        ]
    )


def _study(overview: Overview) -> str:
    try:
        return overview.sweep.study.read_text(encoding="utf-8", errors="replace")[:100_000]
    except OSError as error:
        return f"it can't be read: {error.strerror}"
