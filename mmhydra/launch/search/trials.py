"""Trials as points of a sweep: composed from the overrides of the study and the values that were proposed."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mmhydra.errors import UserError
from mmhydra.launch.points import Point, PointCompiler
from mmhydra.launch.sweeps.recording import Key, key_of, recorded
from mmhydra.sweep.record import RecordedPoint
from mmhydra.sweep.study.expand import trial
from mmhydra.sweep.study.files import Study
from mmhydra.sweep.study.space import Choice, texts


@dataclass(frozen=True)
class Candidate:
    """A trial that may start: what is recorded of it, and what is submitted."""

    recorded: RecordedPoint
    point: Point

    @property
    def run(self) -> Key:
        """What names its run; trials of equal values share one."""
        return key_of(self.recorded)


class Composer:
    """Makes candidates of one search. `typed` are the overrides that were typed beside its study.

    The first one and a random `share` of the others are composed by Hydra itself too, as of the points of any sweep.
    """

    def __init__(self, study: Study, typed: Sequence[str], config_dirs: Sequence[Path], *, share: float = 0.01) -> None:
        self._study, self._typed = study, tuple(typed)
        self._share, self._is_first = share, True
        self._compiler = PointCompiler(config_dirs, lambda text: None)  # its notes were said at the start

    def __call__(self, number: int, values: Mapping[str, Choice]) -> Candidate:
        """The candidate of trial `number`. Raises UserError, as for a run of its own, and NotStock for our mistake."""
        planned = trial(self._study, texts(values), self._typed)
        point = replace(self._compiler.point(planned.overrides), planned=planned)
        if self._is_first or random.random() < self._share:
            self._compiler.recheck([point], share=1.0)
            self._is_first = False
        if point.identity is None:
            raise UserError(f"data that it needs is not at hand any more: {', '.join(point.missing)}")
        return Candidate(recorded(point, number), point)
