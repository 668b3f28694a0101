"""One number by step, and the newest records, in a file of metrics that others are writing.

What was read once is not read again.
"""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmhydra.monitor.reading import integer
from mmhydra.track.jsonl import decode
from mmhydra.track.sink import numeric_fields

_BLOCK = 8 * 1024 * 1024  # bytes
_TAIL = 8 * 1024  # bytes, ten records or more


@dataclass
class Trail:
    """What a file has told so far: `values` of one number by step, and of its records the newest."""

    values: dict[int, float] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)  # the newest of any kind
    trained: dict[str, Any] = field(default_factory=dict)  # the newest of training
    offset: int = 0  # bytes of whole lines
    inode: int = 0

    @property
    def records(self) -> list[dict[str, Any]]:
        """The newest of training and the newest of all, the oldest first; one if they are the same."""
        found = [self.trained] if self.trained else []
        return [*found, self.record] if self.record and self.record is not self.trained else found


class Curves:
    """Reads metrics.jsonl of many attempts, again and again: each call reads what a file has got since the last.

    Several threads may ask, not for the same file.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[Path, str], Trail] = {}

    def read(self, files: Sequence[Path], metric: str) -> Mapping[int, float]:
        """`metric` by step, in ascending order; of files in the order of attempts the later one wins.

        A nested metric is named as sinks name it: `val_loss_by_modality/text`. Files that can't be read say nothing.
        """
        return merged([self.trail(path, metric).values for path in files])

    def known(self, path: Path, metric: str) -> Trail:
        """What a file has told of `metric` when it was read last."""
        return self._known.get((path, metric), Trail())

    def trail(self, path: Path, metric: str) -> Trail:
        """What a file tells of `metric` by now."""
        known = self._known.setdefault((path, metric), Trail())
        try:
            with open(path, "rb", buffering=0) as file:
                stat = os.fstat(file.fileno())
                if stat.st_size < known.offset or stat.st_ino != known.inode:  # it is another file
                    known = self._known[path, metric] = Trail(inode=stat.st_ino)
                if stat.st_size == known.offset:
                    return known
                file.seek(known.offset)
                rest = b""
                while block := file.read(_BLOCK):
                    whole, newline, rest = (rest + block).rpartition(b"\n")
                    known.offset += len(whole) + len(newline)
                    _collect(whole, metric, known.values)
                    _keep_newest(whole, known)
                _collect(rest, metric, known.values)  # the last line of a run that was killed may be whole all the same
                _keep_newest(rest, known)
        except OSError:
            pass
        return known


def merged(curves: Sequence[Mapping[int, float]]) -> Mapping[int, float]:
    """One curve of those of all attempts, in their order: of a step the later one counts."""
    if len(curves) == 1:
        return curves[0]
    found: dict[int, float] = {}
    for curve in curves:
        found.update(curve)
    return dict(sorted(found.items()))


def _keep_newest(text: bytes, known: Trail) -> None:
    found: dict[str, Any] = {}
    for line in reversed(text[-_TAIL:].split(b"\n")):  # the first of them may begin in the middle
        record = decode(line) if line else None
        if record is None:
            continue
        found = found or record
        if record.get("kind") == "train":
            known.trained = record
            break
    known.record = found or known.record


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
