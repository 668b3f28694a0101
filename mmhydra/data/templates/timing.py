"""Captions between the units of a signal: at which place, and how their time is written."""

import math
from collections.abc import Sequence

from mmhydra.data.templates.media import Caption, Unrenderable

_SLIP = 1e-6  # of a unit: a caption at 0.6 s and units of 0.2 s meet, though 0.6 / 0.2 is less than 3


def stamp(time_s: float) -> str:
    """`00:01.5`, or `01:02:03.5` from one hour on: to a tenth of a second."""
    tenths = max(0, math.floor(time_s * 10 + 0.5))
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    clock = f"{minutes:02d}:{rest // 10:02d}.{rest % 10}"
    return f"{hours:02d}:{clock}" if hours else clock


def line(caption: Caption) -> str:
    """`[00:01.5] what is said`."""
    return f"[{stamp(caption.start_s)}] {caption.text}"


def lines(captions: Sequence[Caption]) -> list[str]:
    """All captions in the order of their times. Raises Unrenderable for a time that is no number."""
    for caption in captions:
        if not math.isfinite(caption.start_s):
            raise Unrenderable("bad_caption_time", f"caption {caption.text!r} begins at {caption.start_s} s")
    return [line(caption) for caption in in_order(captions)]


def in_order(captions: Sequence[Caption]) -> list[Caption]:
    """By time; those that begin together stay as they are."""
    return sorted(captions, key=lambda caption: caption.start_s)


def place(captions: Sequence[Caption], num_units: int, step_s: float) -> list[tuple[int, str]]:
    """(unit, text) in order: the text goes before that unit, the one during which its captions begin.

    Captions that begin during one unit are lines of one text; those behind the signal come after the last unit.
    """
    texts: dict[int, list[str]] = {}
    for caption, text in zip(in_order(captions), lines(captions), strict=True):
        unit = min(num_units, max(0, math.floor(caption.start_s / step_s + _SLIP)))
        texts.setdefault(unit, []).append(text)
    return [(unit, "\n".join(rows)) for unit, rows in texts.items()]
