"""What the report's page shows, as plain data of a size that does not grow without bounds."""

import math
import os
import shlex
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmhydra.errors import UserError
from mmhydra.monitor.reading import integer, number
from mmhydra.monitor.words import count
from mmhydra.paths import short
from mmhydra.run.directory import Attempt
from mmhydra.sweep.show.overview import Overview
from mmhydra.sweep.state.best import best_families
from mmhydra.sweep.state.curves import Curves
from mmhydra.sweep.state.labels import evaluates, in_words, is_logarithmic, is_seed, numbers_of, short_names
from mmhydra.sweep.state.states import PointState
from mmhydra.track.jsonl import decode

MOST_CURVES = 200  # of all points up to so many; of more the best MOST_BEST, and an envelope of the rest
MOST_BEST = 50
_MOST_STEPS = 1000  # of a curve
_MOST_NUMBERS = 60_000  # of all curves of one plot together
_ENVELOPE_STEPS = 100
_WHOLE_FILE = 2 * 1024 * 1024  # bytes; of a larger file lines are read here and there
_LINE = 8 * 1024  # bytes; longer than a record
_MOST_SEED_GROUPS = 40
_DIGITS = 6  # of a number on the page

Curve = Mapping[int, float]


def page_data(overview: Overview, curves: Curves) -> dict[str, Any]:
    """All that the page's script draws. `curves` knows the metric already from reading the states."""
    axes = overview.axes
    points = overview.states
    shown, rest = _split(overview)
    metric = {id(each): _metric(overview, each, curves) for each in (*shown, *rest)}
    loss = {id(each): _training(overview, each, _limit(len(shown))) for each in shown}
    loss |= {id(each): _training(overview, each, _ENVELOPE_STEPS) for each in rest}
    return {
        "metric": overview.record.metric,
        "direction": overview.record.direction,
        "axes": [_axis(overview, key, name) for key, name in zip(axes, short_names(axes), strict=True)],
        "stages": any(each.point.stage for each in points),
        "points": [_point(overview, each, axes) for each in points],
        "curves": {
            "loss": _drawn(overview, shown, loss),
            "metric": _drawn(overview, shown, metric),
        },
        "envelopes": {
            "loss": envelope([loss[id(each)] for each in rest]),
            "metric": envelope([metric[id(each)] for each in rest]),
        },
        "seeds": _seed_groups(overview),
    }


def _split(overview: Overview) -> tuple[list[PointState], list[PointState]]:
    """Points whose curves are drawn, and those that only the envelope is made of; one without steps has no curve."""
    started = [each for each in overview.states if each.attempt is not None and each.num_steps]
    if len(started) <= MOST_CURVES:
        return started, []
    shown = [each for each in overview.ranked if each.num_steps][:MOST_BEST]
    chosen = {id(each) for each in shown}
    return shown, [each for each in started if id(each) not in chosen]


def _limit(curves: int) -> int:
    """Steps of each of so many curves."""
    return max(50, min(_MOST_STEPS, _MOST_NUMBERS // max(1, curves)))


def _axis(overview: Overview, key: str, name: str) -> dict[str, Any]:
    values = [each.point.label.get(key) for each in overview.states]
    numbers = numbers_of(values)
    # Whether a plot over this axis alone says anything.
    alone = len({each.point.label[key] for each in overview.ranked if key in each.point.label}) > 1
    if numbers is None:
        kinds = list(dict.fromkeys(value for value in values if value is not None))
        return {"key": key, "name": name, "kind": "category", "values": kinds, "alone": alone}
    return {"key": key, "name": name, "kind": "number", "log": is_logarithmic(numbers), "alone": alone}


def _point(overview: Overview, each: PointState, axes: Sequence[str]) -> dict[str, Any]:
    point = each.point
    git = _git(each.attempt)
    return {
        "n": point.number,
        "stage": point.stage,
        "label": [point.label.get(key) for key in axes],
        "words": in_words(point, axes) or point.run_id,
        "run": point.run_id,
        "state": each.state,
        "remark": (each.remark or "")[:300] if each.state != "done" else "",
        "step": each.step,
        "steps": each.num_steps,
        "evaluation": evaluates(point),
        "loss": _rounded(each.loss),
        "best": _rounded(each.best),
        "at": each.best_step,
        "hours": _rounded(each.gpu_hours),
        "dir": short(overview.sweep.run(point).path),
        "job": each.job_id,
        "commit": git.get("commit"),
        "dirty": git.get("dirty") is True,
        "parent": point.parent.run_id if point.parent is not None else None,
        "command": _command_of(each),
        "dropped": not point.in_study,
    }


def _command_of(each: PointState) -> str:
    """What starts the run of a point alone."""
    return f"python -m mmhydra.train {shlex.join(each.point.overrides)}".rstrip()


def _git(attempt: Attempt | None) -> dict[str, Any]:
    try:
        git = attempt.provenance().get("git") if attempt is not None else None
    except UserError:
        return {}
    return git if isinstance(git, dict) else {}


# ---------------------------------------------------------------- curves


def _metric(overview: Overview, each: PointState, curves: Curves) -> Curve:
    if each.attempt is None:
        return {}
    files = [attempt.metrics for attempt in overview.sweep.run(each.point).attempts]
    return _finite(curves.read(files, overview.record.metric))


def _training(overview: Overview, each: PointState, most: int) -> Curve:
    if each.attempt is None:
        return {}
    merged: dict[int, float] = {}
    for attempt in overview.sweep.run(each.point).attempts:
        merged.update(sampled(attempt.metrics, "loss", most))
    return _finite(dict(sorted(merged.items())))


def sampled(path: Path, name: str, most: int) -> dict[int, float]:
    """About `most` values of a training record's number by step, evenly over the file, its first and last with them."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size <= _WHOLE_FILE:
                lines = [line for line in file.read().split(b"\n") if b'"train"' in line]
                picked = [lines[i] for i in _evenly(len(lines), most)]
            else:
                picked = []
                for i in range(most):
                    file.seek(max(0, (size - _LINE) * i // max(1, most - 1) - 1))
                    picked += [line for line in file.read(_LINE).split(b"\n")[1:] if b'"train"' in line][:1]
                file.seek(size - _LINE)
                picked += [line for line in file.read(_LINE).split(b"\n")[1:] if b'"train"' in line][-1:]
    except OSError:
        return {}
    found: dict[int, float] = {}
    for record in map(decode, picked):
        step, value = integer((record or {}).get("step")), number((record or {}).get(name))
        if step is not None and value is not None:
            found[step] = value
    return found


def _evenly(length: int, most: int) -> list[int]:
    """At most `most` places in a list, its ends among them."""
    if length <= most:
        return list(range(length))
    return sorted({round(i * (length - 1) / (most - 1)) for i in range(most)})


def _drawn(overview: Overview, shown: Sequence[PointState], found: Mapping[int, Curve]) -> list[Any]:
    """Curves as [place of the point, steps, values], the worst first so that the best are drawn above them."""
    places = {id(each): i for i, each in enumerate(overview.states)}
    ranks = {id(each): rank for rank, each in enumerate(overview.ranked)}
    most = _limit(len(shown))
    drawn = []
    for each in sorted(shown, key=lambda each: -ranks.get(id(each), len(ranks))):
        curve = found[id(each)]
        steps = list(curve)
        picked = [steps[i] for i in _evenly(len(steps), most)]
        if picked:
            drawn.append([places[id(each)], picked, [_rounded(curve[step]) for step in picked]])
    return drawn


def envelope(curves: Sequence[Curve]) -> dict[str, Any] | None:
    """The middle 80% of many curves at the same steps, and their median; None for none."""
    filled = [curve for curve in curves if curve]
    if not filled:
        return None
    last = max(max(curve) for curve in filled)
    first = min(min(curve) for curve in filled)
    grid = sorted({round(first + (last - first) * i / (_ENVELOPE_STEPS - 1)) for i in range(_ENVELOPE_STEPS)})
    columns: list[list[float]] = [[] for _ in grid]
    for curve in filled:
        steps = list(curve)
        place = 0
        for column, step in zip(columns, grid, strict=True):
            if not steps[0] <= step <= steps[-1]:
                continue
            while steps[place] < step:
                place += 1
            column.append(_between(curve, steps, place, step))
    full = [(step, sorted(column)) for step, column in zip(grid, columns, strict=True) if column]
    return {
        "count": len(filled),
        "x": [step for step, _ in full],
        "low": [_rounded(_quantile(column, 0.1)) for _, column in full],
        "median": [_rounded(_quantile(column, 0.5)) for _, column in full],
        "high": [_rounded(_quantile(column, 0.9)) for _, column in full],
    }


def _between(curve: Curve, steps: Sequence[int], place: int, step: int) -> float:
    """The value at a step, on the line between its neighbours; `place` is of the first step that is not before it."""
    after = steps[place]
    if after == step:
        return curve[step]
    before = steps[place - 1]
    share = (step - before) / (after - before)
    return curve[before] * (1 - share) + curve[after] * share


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[round(share * (len(ordered) - 1))]


def _finite(curve: Curve) -> Curve:
    return {step: value for step, value in curve.items() if math.isfinite(value)}


def _rounded(value: float | None) -> float | None:
    return float(f"{value:.{_DIGITS}g}") if value is not None and math.isfinite(value) else None


# ---------------------------------------------------------------- seeds and cost


def _seed_groups(overview: Overview) -> list[dict[str, Any]]:
    """Points that differ in seeds alone, with mean and standard deviation of the metric, the best mean first."""
    seeds = [key for key in overview.axes if is_seed(key)]
    others = [key for key in overview.axes if not is_seed(key)]
    if not seeds:
        return []
    found: list[dict[str, Any]] = []
    for group in best_families(overview.points, overview.record, _MOST_SEED_GROUPS):
        values = [each.best for each in group if each.best is not None]
        found.append(
            {
                "words": in_words(group[0].point, others) or "all",
                "stage": group[0].point.stage,
                "mean": _rounded(statistics.fmean(values)),
                "sd": _rounded(statistics.stdev(values)) if len(values) > 1 else None,
                "values": [_rounded(value) for value in values],
            }
        )
    return found


def verdict(overview: Overview, seeds: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the numbers say by now, in sentences."""
    metric, ranked = overview.record.metric, overview.ranked
    if not ranked or ranked[0].best is None:
        return [f"No point has a {metric} yet."]
    first = ranked[0]
    lower = "lowest" if overview.record.direction == "minimize" else "highest"
    said = [f"The {lower} {metric} is {first.best:.4f}: {in_words(first.point, overview.axes) or first.point.run_id}."]
    if len(ranked) > 1 and first.best is not None and ranked[1].best is not None:
        gap = abs(ranked[1].best - first.best)
        said.append(f"The next point is {gap:.2g} behind: {in_words(ranked[1].point, overview.axes)}.")
    said += [f"{told}; the best value may lie beyond it." for told in _at_the_edge(overview, first)]
    spreads = [group["sd"] for group in seeds if group["sd"] is not None]
    if spreads and len(seeds) > 1:
        typical = statistics.median(spreads)
        ahead = abs((seeds[1]["mean"] or 0.0) - (seeds[0]["mean"] or 0.0))
        compared = "less than" if ahead < typical else "more than"
        said.append(
            f"By the mean over seeds {seeds[0]['words']} is best, {ahead:.2g} ahead of the next; that is {compared} "
            f"the usual spread between seeds, {typical:.2g}."
        )
    if len(ranked) > 1 and not any(is_seed(key) for key in overview.axes):
        said.append("Every point has one seed: how far apart seeds alone would put them is not known.")
    due = overview.due
    left = sum(each.best is None for each in due)
    if left:
        said.append(f"{left:,} of {count(len(due), 'point')} {'has' if left == 1 else 'have'} no {metric} yet.")
    return said


def _at_the_edge(overview: Overview, first: PointState) -> list[str]:
    """Axes of three or more numbers at whose first or last the best point stands."""
    told = []
    for key in overview.axes:
        numbers = numbers_of([each.point.label.get(key) for each in overview.ranked])
        known = sorted({value for value in numbers or [] if value is not None})
        own = numbers_of([first.point.label.get(key)])
        if len(known) < 3 or is_seed(key) or own is None or own[0] not in (known[0], known[-1]):
            continue
        side = "lowest" if own[0] == known[0] else "highest"
        told.append(f"{key}={first.point.label[key]} is the {side} of the {len(known)} that have a value")
    return told


def costs(overview: Overview) -> list[list[str]]:
    """Rows of cluster, points, hours, GPU-hours, of them in points that did not get to their end, and price."""
    rows = []
    for cluster in dict.fromkeys(each.point.cluster for each in overview.states):
        those = [each for each in overview.states if each.point.cluster == cluster]
        hours = sum(each.gpu_hours or 0.0 for each in those)
        ended = [each for each in those if each.state != "done" and not each.is_active]
        lost = sum(each.gpu_hours or 0.0 for each in ended)
        usd = sum((each.gpu_hours or 0.0) * each.usd_per_gpu_hour for each in those)
        counts_gpus = any(each.num_gpus for each in those)
        rows.append(
            [
                cluster,
                f"{len(those):,}",
                f"{sum(each.elapsed_s or 0.0 for each in those) / 3600:,.2f}",
                f"{hours:,.1f}" if counts_gpus else "—",
                f"{lost:,.1f}" if counts_gpus else "—",
                f"{usd:,.0f}" if usd else "—",
            ]
        )
    return rows
