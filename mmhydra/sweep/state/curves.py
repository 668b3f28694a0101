"""One number by step in a file of metrics that others are writing. What was read once is not read again."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmhydra.monitor.reading import integer
from mmhydra.track.jsonl import decode
from mmhydra.track.sink import numeric_fields

_BLOCK = 8 * 1024 * 1024  # bytes


@dataclass
class _Known:
    """What a file has told so far."""

    offset: int = 0  # bytes of whole lines
    inode: int = 0
    values: dict[int, float] = field(default_factory=dict)


class Curves:
    """Reads metrics.jsonl of many attempts, again and again: each call reads what a file has got since the last."""

    def __init__(self) -> None:
        self._known: dict[tuple[Path, str], _Known] = {}

    def read(self, files: Sequence[Path], metric: str) -> Mapping[int, float]:
        """`metric` by step, in ascending order; of files in the order of attempts the later one wins.

        A nested metric is named as sinks name it: `val_loss_by_modality/text`. Files that can't be read say nothing.
        """
        curves = [self._of_file(path, metric) for path in files]
        if len(curves) == 1:
            return curves[0]
        merged: dict[int, float] = {}
        for curve in curves:
            merged.update(curve)
        return dict(sorted(merged.items()))

    def _of_file(self, path: Path, metric: str) -> Mapping[int, float]:
        known = self._known.setdefault((path, metric), _Known())
        try:
            with open(path, "rb") as file:
                stat = os.fstat(file.fileno())
                if stat.st_size < known.offset or stat.st_ino != known.inode:  # it is another file
                    known.offset, known.inode, known.values = 0, stat.st_ino, {}
                if stat.st_size == known.offset:
                    return known.values
                file.seek(known.offset)
                rest = b""
                while block := file.read(_BLOCK):
                    whole, newline, rest = (rest + block).rpartition(b"\n")
                    known.offset += len(whole) + len(newline)
                    _collect(whole, metric, known.values)
                _collect(rest, metric, known.values)  # the last line of a run that was killed may be whole all the same
        except OSError:
            pass
        return known.values


def _collect(text: bytes, metric: str, values: dict[int, float]) -> None:
    """Only lines that name the metric are decoded: a file of a long run has a million others."""
    name = b'"' + metric.split("/")[0].encode() + b'"'
    found = text.find(name)
    while found >= 0:
        begin, end = text.rfind(b"\n", 0, found) + 1, text.find(b"\n", found)
        line = text[begin:] if end < 0 else text[begin:end]
        record = decode(line) or {}
        step, value = integer(record.get("step")), numeric_fields(record).get(metric)
        if step is not None and value is not None:
            values[step] = value
        found = -1 if end < 0 else text.find(name, end)


def best_step(curve: Mapping[int, float], direction: str) -> int | None:
    """The step with the best value, the first of equal ones; NaN and the infinities never win."""
    finite = {step: value for step, value in curve.items() if math.isfinite(value)}
    if not finite:
        return None
    return (min if direction == "minimize" else max)(finite, key=lambda step: finite[step])
