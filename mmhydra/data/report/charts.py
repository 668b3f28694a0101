"""Plots as SVG: no script, so they show wherever the page does, under any policy and without a network."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mmhydra.data.report.markup import Html, count, element, join, percent, short
from mmhydra.data.report.totals import SHOWN_MODALITIES

WIDTH = 640
_LABEL_WIDTH, _VALUE_WIDTH = 150, 76
_ROW, _BAR = 28, 16
_LABEL_CHARACTERS = 21
_WIDEST_COLUMN = 64
_CHARACTER_WIDTH = 6.4  # of the 12 px font, about
_SERIES = (*SHOWN_MODALITIES, "train", "heldout", "kept", "lost", "main")


@dataclass(frozen=True)
class Bar:
    """A row of a bar chart: its parts are drawn one after another."""

    label: str
    parts: Mapping[str, float]  # by series
    value: str | None = None  # beside the bar; the sum if None
    hint: str = ""  # shown under the pointer, after label and series


def bars(title: str, rows: Sequence[Bar], *, whole: float | None = None) -> Html:
    """Horizontal stacked bars. A bar of `whole` is as long as the chart is wide; the longest one is if None."""
    longest = whole or max((sum(row.parts.values()) for row in rows), default=0) or 1
    room = WIDTH - _LABEL_WIDTH - _VALUE_WIDTH
    drawn: list[Html] = []
    for index, row in enumerate(rows):
        y = index * _ROW
        drawn.append(_text(_cut(row.label), _LABEL_WIDTH - 10, y + 18, anchor="end", title=row.label))
        drawn.append(element("rect", x=_LABEL_WIDTH, y=y + 6, width=room, height=_BAR, rx=3, class_="track"))
        x = float(_LABEL_WIDTH)
        for series, value in row.parts.items():
            if value <= 0:
                continue
            # A share that is too small to see still shows that it is there.
            width = max(1.5, room * min(1.0, value / longest))
            hint = element("title", f"{row.label} · {series}: {_exact(value)} {row.hint}".rstrip())
            drawn.append(
                element("rect", hint, x=x, y=y + 6, width=width, height=_BAR, class_=f"bar s-{series_class(series)}")
            )
            x += width
        total = short(sum(row.parts.values())) if row.value is None else row.value
        drawn.append(_text(total, WIDTH, y + 18, anchor="end", class_="value"))
    return _svg(title, len(rows) * _ROW + 4, drawn)


def columns(
    title: str,
    edges: Sequence[float],
    stacks: Mapping[str, Sequence[int]],
    unit: str,
    *,
    target: tuple[float, float] | None = None,
) -> Html:
    """A histogram of bins of equal width, whatever they span, stacked by series; `target` is a stretch to mark."""
    left, right, top, height, bottom = 48, 26, 14, 190, 40
    bins = len(edges) - 1
    sums = [sum(stack[i] for stack in stacks.values()) for i in range(bins)]
    step = (WIDTH - left - right) / bins
    ticks = nice_ticks(max(sums, default=0))
    scale = height / ticks[-1]
    drawn: list[Html] = []
    if target:
        x0, x1 = (left + step * edges.index(edge) for edge in target)
        drawn.append(element("rect", x=x0, y=top, width=x1 - x0, height=height, class_="target"))
    for tick in ticks:
        y = top + height - tick * scale
        drawn.append(element("line", x1=left, x2=WIDTH - right, y1=y, y2=y, class_="grid"))
        drawn.append(_text(short(tick), left - 8, y + 4, anchor="end"))
    for i in range(bins):
        y = float(top + height)
        for series, stack in stacks.items():
            if stack[i] > 0:
                tall = max(1.5, stack[i] * scale)
                y -= tall
                place = bin_name(edges, i)
                hint = element(
                    "title", f"{place} {unit} · {series}: {count(stack[i])} ({percent(stack[i], sum(sums))})"
                )
                width = min(_WIDEST_COLUMN, step * 0.84)
                x = left + (i + 0.5) * step - width / 2
                drawn.append(
                    element("rect", hint, x=x, y=y, width=width, height=tall, class_=f"bar s-{series_class(series)}")
                )
    widest = max(len(edge_name(edge)) for edge in edges) * _CHARACTER_WIDTH + 8
    every = math.ceil(widest / step)
    for i in range(0, bins + 1, every):
        drawn.append(_text(edge_name(edges[i]), left + i * step, top + height + 16, anchor="middle"))
    drawn.append(_text(unit, WIDTH - right, top + height + 34, anchor="end", class_="unit"))
    return _svg(title, top + height + bottom, drawn)


def legend(series: Sequence[str]) -> Html:
    """What the colors mean."""
    return element(
        "p",
        join(element("span", element("i", class_=f"key k-{series_class(name)}"), name) for name in series),
        class_="legend",
    )


def bin_name(edges: Sequence[float], index: int) -> str:
    """The values of a bin; the first and the last one also hold what lies outside."""
    low, high = edge_name(edges[index]), edge_name(edges[index + 1])
    name = f"{low} or more" if index == len(edges) - 2 else f"{low} to {high}"
    return (name if index else f"below {high}").replace(" ", "\u00a0")  # stays on one line


def edge_name(edge: float) -> str:
    """An edge of a bin; powers of two from 1024 on in Ki and Mi, which is exact."""
    whole = int(edge)
    if edge == whole and whole >= 1024 and whole & (whole - 1) == 0:
        return f"{whole >> 20}Mi" if whole >= 1 << 20 else f"{whole >> 10}Ki"
    return short(edge)


def nice_ticks(largest: float) -> list[float]:
    """0 and up to five more round numbers, the last one not below `largest`; at least 0 and 1."""
    if largest <= 1:
        return [0, 1]
    power = 10.0 ** math.floor(math.log10(largest))
    steps = (power * factor for factor in (0.1, 0.2, 0.25, 0.5, 1, 2, 5))
    step = next(step for step in steps if step >= 1 and step == int(step) and math.ceil(largest / step) <= 5)
    return [step * i for i in range(math.ceil(largest / step) + 1)]


def series_class(series: str) -> str:
    """The part of a class name that gives a series its color: `image_text` has that of `image`."""
    return next((name for name in (series, series.partition("_")[0]) if name in _SERIES), "other")


def _svg(title: str, height: float, drawn: Sequence[Html]) -> Html:
    return element("svg", element("title", title), *drawn, viewBox=f"0 0 {WIDTH} {height:g}", role="img", class_="plot")


def _text(text: str, x: float, y: float, *, anchor: str, title: str | None = None, class_: str | None = None) -> Html:
    hint = element("title", title) if title and title != text else None
    return element("text", hint, text, x=x, y=y, text_anchor=anchor, class_=class_)


def _cut(label: str) -> str:
    # Chinese and its neighbours are twice as wide.
    width, kept = 0, ""
    for character in label:
        width += 2 if ord(character) > 0x2E80 else 1
        if width > _LABEL_CHARACTERS:
            return kept[:-1] + "…"
        kept += character
    return label


def _exact(value: float) -> str:
    return count(int(value)) if value == int(value) else f"{value:.4g}"
