"""Captions in WebVTT and SubRip files, as far as text and time go."""

import html
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from mmhydra.data.records.reasons import BadRecord
from mmhydra.data.records.record import Caption

_TIME = r"(?:(\d{1,4}):)?([0-5]?\d):([0-5]?\d)[.,](\d{1,3})"
_CUE = re.compile(rf"^\s*{_TIME}\s*-->\s*{_TIME}(?:\s.*)?$")
_TAG = re.compile(r"</?[a-zA-Z0-9:.][^<>]*>")  # voices, classes, the word timing of automatic captions
_WORD_TIME = re.compile(r"<(?:\d+:)?\d\d:\d\d\.\d{3}>")
_POSITION = re.compile(r"\{\\[^}]*\}")  # {\an8}
_NO_GAP_S = 0.02
_LEAST_REPEATS = 3  # of cues in a file without word timing: people do say the same thing twice


class _Cue(NamedTuple):
    start_s: float
    end_s: float
    lines: list[str]  # without markup and empty ones


def parse_captions(text: str, name: str) -> tuple[Caption, ...]:
    """The cues of a .vtt or .srt file in the order of their starts, without markup and empty ones.

    Automatic captions roll: each cue shows the line before once more. What was shown is left out, so that each line is
    there once. Raises BadRecord (corrupt_captions) for text without any cue, or with one that ends before it starts.
    """
    cues = sorted(_cues(text.removeprefix("\ufeff").splitlines(), name), key=lambda cue: cue.start_s)
    if not cues:
        raise BadRecord("corrupt_captions", f"{name}: no cue (00:01.000 --> 00:02.000) in it")
    cues = [cue for cue in cues if cue.lines]
    if _rolls(text, cues):
        cues = _unrolled(cues)
    return tuple(Caption(start_s=cue.start_s, end_s=cue.end_s, text=" ".join(cue.lines)) for cue in cues)


def _cues(lines: Sequence[str], name: str) -> Iterator[_Cue]:
    index = 0
    while index < len(lines):
        times = _CUE.match(lines[index])
        index += 1
        if not times:
            if "-->" in lines[index - 1]:
                raise BadRecord("corrupt_captions", f"{name}:{index}: {lines[index - 1][:80]!r} is no timing")
            continue
        start_s, end_s = _seconds(times.groups()[:4]), _seconds(times.groups()[4:])
        if end_s < start_s:
            raise BadRecord("corrupt_captions", f"{name}:{index}: the cue ends before it starts")
        body: list[str] = []
        # A line of spaces belongs to the cue: automatic captions begin with one.
        while index < len(lines) and lines[index] and not _CUE.match(lines[index]):
            body.append(lines[index])
            index += 1
        if index < len(lines) and lines[index] and len(body) > 1 and not body[-2].strip():
            body.pop()  # the number of the next cue, where a line of spaces stands for the empty one
        yield _Cue(start_s, end_s, [words for line in body if (words := _plain(line))])


def _rolls(text: str, cues: Sequence[_Cue]) -> bool:
    repeats = sum(_repeated(one, other) > 0 for one, other in pairwise(cues))
    return bool(_WORD_TIME.search(text)) or (repeats >= _LEAST_REPEATS and 2 * repeats >= len(cues) - 1)


def _repeated(before: _Cue, cue: _Cue) -> int:
    """How many lines a cue begins with that the one before it, without a gap in time, ended with."""
    if cue.start_s > before.end_s + _NO_GAP_S:
        return 0
    longest = min(len(before.lines), len(cue.lines))
    return next((size for size in range(longest, 0, -1) if before.lines[-size:] == cue.lines[:size]), 0)


def _unrolled(cues: Sequence[_Cue]) -> list[_Cue]:
    new = [cue._replace(lines=cue.lines[_repeated(before, cue) :]) for before, cue in pairwise(cues)]
    return [*cues[:1], *(cue for cue in new if cue.lines)]


def _seconds(parts: tuple[str | None, ...]) -> float:
    hours, minutes, seconds, fraction = (part or "0" for part in parts)
    return int(hours) * 3600 + int(minutes) * 60 + int(seconds) + int(fraction.ljust(3, "0")) / 1000


def _plain(text: str) -> str:
    return " ".join(html.unescape(_TAG.sub("", _POSITION.sub("", text))).split())
