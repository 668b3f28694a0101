"""Captions in WebVTT and SubRip files, as far as text and time go."""

import html
import re

from mmhydra.data.records.reasons import BadRecord
from mmhydra.data.records.record import Caption

_TIME = r"(?:(\d{1,4}):)?([0-5]?\d):([0-5]?\d)[.,](\d{1,3})"
_CUE = re.compile(rf"^\s*{_TIME}\s*-->\s*{_TIME}(?:\s.*)?$")
_TAG = re.compile(r"</?[a-zA-Z0-9:.][^<>]*>")  # voices, classes, the word timing of automatic captions
_POSITION = re.compile(r"\{\\[^}]*\}")  # {\an8}


def parse_captions(text: str, name: str) -> tuple[Caption, ...]:
    """The cues of a .vtt or .srt file in the order of their starts, without markup and empty ones.

    Raises BadRecord (corrupt_captions) for text without any cue, or with one that ends before it starts.
    """
    captions = []
    lines = text.removeprefix("\ufeff").splitlines()
    index = num_cues = 0
    while index < len(lines):
        times = _CUE.match(lines[index])
        index += 1
        if not times:
            if "-->" in lines[index - 1]:
                raise BadRecord("corrupt_captions", f"{name}:{index}: {lines[index - 1][:80]!r} is no timing")
            continue
        num_cues += 1
        start_s, end_s = _seconds(times.groups()[:4]), _seconds(times.groups()[4:])
        if end_s < start_s:
            raise BadRecord("corrupt_captions", f"{name}:{index}: the cue ends before it starts")
        body = []
        while index < len(lines) and lines[index].strip():
            body.append(lines[index])
            index += 1
        if words := _plain(" ".join(body)):
            captions.append(Caption(start_s=start_s, end_s=end_s, text=words))
    if not num_cues:
        raise BadRecord("corrupt_captions", f"{name}: no cue (00:01.000 --> 00:02.000) in it")
    return tuple(sorted(captions, key=lambda caption: caption.start_s))


def _seconds(parts: tuple[str | None, ...]) -> float:
    hours, minutes, seconds, fraction = (part or "0" for part in parts)
    return int(hours) * 3600 + int(minutes) * 60 + int(seconds) + int(fraction.ljust(3, "0")) / 1000


def _plain(text: str) -> str:
    return " ".join(html.unescape(_TAG.sub("", _POSITION.sub("", text))).split())
