"""A sweep as a page for a person: what it asks, how it stands, a line a point, what to type next."""

from collections.abc import Callable, Sequence

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.measure import Measurement
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mmhydra.monitor.page import console, grid_of
from mmhydra.monitor.words import count, duration
from mmhydra.paths import short
from mmhydra.sweep.show.overview import Overview, commands
from mmhydra.sweep.state.best import best
from mmhydra.sweep.state.labels import evaluates, in_words, short_names
from mmhydra.sweep.state.states import LATER, STATES, PointState, State, counts_in_words

COLORS: dict[State, str] = {
    "running": "green",
    "starting": "green",
    "ending": "green",
    "done": "green",
    "pending": "yellow",
    "waiting": "yellow",
    "failed": "red",
    "stopped": "red",
    "gone": "red",
    "preempted": "yellow",
    "cancelled": "yellow",
}
# What a person looks for first where not all points fit.
_URGENCY: tuple[State, ...] = (
    "failed",
    "stopped",
    "gone",
    "preempted",
    "running",
    "ending",
    "starting",
    "waiting",
    "pending",
    "cancelled",
    "frozen",
    "missing",
    "done",
    "blocked",
    "unchosen",
)
_BAR_WIDTH = 30  # columns
_LEAST_ROWS = 3
_VALUE_WIDTH = 24  # columns of a label
_WIDEST = 400  # columns, on a pipe


def print_page(overview: Overview, wanted: Sequence[State] = STATES) -> None:
    """Prints the page with all points of the wanted states; on a pipe as wide as they need."""
    screen = console()
    head, table, foot = _panel(overview), _table(overview, _of(overview, wanted)), grid_of(commands(overview))
    screen.print(head, "")
    if not screen.is_terminal:
        wide = Measurement.get(screen, screen.options.update(max_width=_WIDEST), table).maximum
        Console(highlight=False, width=max(screen.width, wide)).print(table)
    else:
        screen.print(table)
    screen.print("", foot)


def page(overview: Overview, wanted: Sequence[State], screen: Console) -> RenderableType:
    """The page with as many of the points of the wanted states as fit the height of the screen."""
    head, foot, points = _panel(overview), grid_of(commands(overview)), _of(overview, wanted)
    height = screen.size.height - sum(len(screen.render_lines(part)) for part in (head, foot)) - 3
    if len(points) + 1 <= height:
        return Group(head, "", _table(overview, points), "", foot)
    points, rest = _most_urgent(overview, points, max(_LEAST_ROWS, height - 2))
    return Group(head, "", _table(overview, points), Text(_of_rest(rest), style="dim"), "", foot)


def _of(overview: Overview, wanted: Sequence[State]) -> list[PointState]:
    return [each for each in overview.states if each.state in wanted]


def _panel(overview: Overview) -> Panel:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in _rows(overview):
        grid.add_row(name, value)
    color = {"done": "green", "running": "green", "failed": "red"}.get(overview.state, "yellow")
    name = escape(overview.record.name)
    title = f"sweep [bold]{name}[/]  [bold {color}]{overview.state.upper()}[/]"
    return Panel(grid, title=title, title_align="left", border_style=color)


def _rows(overview: Overview) -> list[tuple[str, RenderableType]]:
    record = overview.record
    rows: list[tuple[str, RenderableType]] = []
    if record.question:
        rows.append(("question", Text(record.question)))
    if record.stop_rule:
        rows.append(("stop rule", Text(record.stop_rule)))
    if overview.stop:
        is_met = overview.stop_met is not None
        told = f"met: {overview.stop_met}; nothing more is submitted" if is_met else f"not met: {overview.stop_limits}"
        rows.append(("", Text(told, style="bold" if is_met else "")))
    rows += [("note", Text(problem, style="bold yellow")) for problem in overview.problems]
    rows.append(("points", _counts(overview)))
    rows.append(("steps", _progress(overview)))
    rows += [("evaluations", Text(told)) for told in _evaluations(overview)]
    rows.append(("cost", Text(_cost(overview))))
    rows.append(("best", Text(_best(overview))))
    if overview.driver is not None and overview.driver.is_active:
        rows.append(("driver", Text(f"job {overview.driver.job_id} {overview.driver.state}")))
    if overview.submitter is not None and overview.submitter.alive:
        rows.append(("submitter", Text(f"process {overview.submitter.pid} on {overview.submitter.host} is at work")))
    rows.append(("sweep", Text(short(overview.sweep.path))))
    return rows


def _counts(overview: Overview) -> Text:
    line = Text(f"{len(overview.points):,}: ")
    for number, (state, many) in enumerate(overview.counts.items()):
        line.append(", " if number else "")
        early = overview.is_search and state == "stopped"
        line.append(f"{many:,} {'ended early' if early else state}", style="" if early else COLORS.get(state, ""))
    if overview.dropped:
        line.append(f"; {len(overview.dropped):,} more that the study has not any more")
    return line


def _progress(overview: Overview) -> RenderableType:
    total, made = overview.steps_due, overview.steps_made
    if not total:
        return Text("none of its points takes a step")
    line = Table.grid(padding=(0, 2))
    share = f"{made / total:.0%}"
    bar = ProgressBar(total=total, completed=made, width=_BAR_WIDTH)
    line.add_row(Text(f"{made:,} of {total:,}  {share}"), bar)
    return line


def _evaluations(overview: Overview) -> list[str]:
    due = len(overview.evaluations)
    return [f"{overview.num_measured:,} of {due:,} have measured their {overview.record.metric}"] if due else []


def _cost(overview: Overview) -> str:
    used, planned = overview.used_gpu_hours, overview.planned_gpu_hours
    if used is None and planned is None:
        return f"{duration(overview.elapsed_s)} of run time; no cluster of it counts GPUs"
    words = f"{used or 0.0:,.1f} GPU-hours used"
    if planned is not None:
        words += f" of at most {planned:,.0f}"
    return f"{words}, {overview.usd:,.0f} USD" if overview.usd else words


def _best(overview: Overview) -> str:
    metric = overview.record.metric
    first = overview.leader
    if first is None or first.best is None:
        return f"no point has a {metric} yet"
    what = in_words(first.point, overview.axes)
    where = f" at step {first.best_step:,}" if first.best_step is not None else ""
    return "  ".join(filter(None, [f"{metric} {first.best:.4f}{where}", what, first.point.run_id]))


# ---------------------------------------------------------------- points

Cell = Callable[[PointState], RenderableType]


def _table(overview: Overview, points: Sequence[PointState]) -> RenderableType:
    if not points:
        return Text("no point is in such a state", style="dim")
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    columns = _columns(overview, points)
    for heading, is_number, gives_way, _ in columns:
        table.add_column(heading, justify="right" if is_number else "left", no_wrap=not gives_way, overflow="ellipsis")
    table.add_column("", overflow="ellipsis")
    for each in points:
        remark = (each.remark or "").partition("\n")[0] if each.state != "done" else ""
        style = "dim" if not each.point.in_study else ""
        table.add_row(*(cell(each) for *_, cell in columns), _line(remark, "dim"), style=style)
    return table


def _columns(overview: Overview, points: Sequence[PointState]) -> list[tuple[str, bool, bool, Cell]]:
    """Heading, whether it is a number, whether it is cut first on a narrow screen, and what a point has there."""
    leader = overview.leader

    def label(key: str) -> Cell:
        return lambda each: _line(_cut(each.point.label.get(key, "-")))

    columns: list[tuple[str, bool, bool, Cell]] = [("#", True, False, lambda each: str(each.point.number))]
    if any(each.point.stage for each in points):
        columns.append(("stage", False, True, lambda each: _line(each.point.stage or "-")))
    axes = overview.axes
    columns += [(escape(name), True, True, label(key)) for key, name in zip(axes, short_names(axes), strict=True)]
    columns += [
        ("run", False, False, lambda each: each.point.run_id),
        ("state", False, False, lambda each: Text(each.state, style=_color(overview, each))),
        ("step", True, False, _step),
        ("loss", True, False, lambda each: _number(each.loss)),
        (escape(overview.record.metric), True, False, lambda each: _rated(each, leader)),
    ]
    return columns


def _step(each: PointState) -> str:
    if evaluates(each.point):
        return "evaluation"
    return f"{each.step:,}/{each.num_steps:,}" if each.num_steps else "no steps"


def _color(overview: Overview, each: PointState) -> str:
    """A trial that its search ended needs nobody."""
    return "" if overview.is_search and each.state == "stopped" else COLORS.get(each.state, "dim")


def _line(text: str, style: str = "") -> Text:
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def _cut(value: str) -> str:
    return value if len(value) <= _VALUE_WIDTH else f"{value[: _VALUE_WIDTH - 1]}…"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _rated(each: PointState, leader: PointState | None) -> Text:
    if each.best is None and each.last is not None:
        return Text(f"{each.last}", style="red")  # NaN: a value there is, and it is none
    return Text(_number(each.best), style="bold green" if each is leader else "")


def _most_urgent(
    overview: Overview, points: Sequence[PointState], number: int
) -> tuple[list[PointState], list[PointState]]:
    """Those that a person looks for first, of each kind the best, and the rest."""
    ranks = {id(each): rank for rank, each in enumerate(best(points, overview.record))}
    order = sorted(points, key=lambda each: (_URGENCY.index(each.state), ranks.get(id(each), len(points))))
    return order[:number], order[number:]


def _of_rest(rest: Sequence[PointState]) -> str:
    return f"and {len(rest):,} more: {counts_in_words(rest, _URGENCY)}"


def ended(overview: Overview) -> str:
    """The last words of a watch: what is left to do, if anything is."""
    later = [each for each in overview.points if each.state in LATER]
    if not later:
        return "nothing of the sweep is at work any more"
    chosen_later = sum(each.state == "unchosen" for each in later)
    told = f"nothing of the sweep is at work; {count(len(later), 'point')} of later stages may follow"
    return f"{told}, {chosen_later} of them once the best parents are known" if chosen_later else told
