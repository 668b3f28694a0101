"""The points of a sweep: composed, checked and named, all of them or none."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from mmhydra.checkpoint.stamp import step_folder
from mmhydra.config.secrets import SecretError
from mmhydra.errors import UserError
from mmhydra.launch.points import Point, PointCompiler
from mmhydra.launch.verify import refuse_points, say_on_stderr
from mmhydra.sweep.planned import Planned, Start
from mmhydra.sweep.study.values import quoted

_STARTS = {"init": "checkpoint.init_from", "extend": "checkpoint.extend_from"}


def compiled(
    planned: Sequence[Planned],
    config_dirs: Sequence[Path] = (),
    *,
    share: float = 0.01,
    say: Callable[[str], None] = say_on_stderr,
) -> list[Point]:
    """The points in their order, parents before their children, each run once but where configs are only printed.

    A random share of them, another one each time, is composed the stock way too. Raises UserError with all problems of
    all points, and NotStock for a mistake of ours.
    """
    told = _Told()
    compiler = PointCompiler(config_dirs, told.add)
    made: dict[int, Point] = {}  # by the place in `planned`; points that are one run are one object
    of_run: dict[tuple[str, ...], Point] = {}
    faults: list[tuple[str, UserError]] = []
    twice: list[str] = []
    num_orphans = 0
    for index, one in enumerate(planned):
        if one.parent is not None and one.parent.index not in made:
            num_orphans += 1
            continue
        try:
            point = _point(compiler, one, made)
        except UserError as error:
            # What tells it from the others may be what must not be told.
            name = "" if isinstance(error, SecretError) else f" ({name_of(one)})"
            faults.append((f"point {index + 1}{name}", error))
            continue
        is_printed = point.request.dry_run == "config"  # as Hydra would: each config, whatever runs they are
        first = of_run.setdefault((*point.key, str(index) if is_printed else ""), point)
        if first is not point:
            twice.append(f"{name_of(one)} is {name_of(first.planned)}")
        made[index] = first
    told.say(say, len(planned))
    try:
        refuse_points(faults, len(planned))
    except UserError as error:
        if not num_orphans:
            raise
        raise UserError(f"{error}\nnot looked at: {num_orphans} points that come after these") from error
    if twice:
        more = f", and {len(twice) - 1} more" if len(twice) > 1 else ""
        say(f"note: points that are one run are run once: {twice[0]}{more}")
    points = list(of_run.values())
    compiler.recheck(points, share=share)
    return points


def name_of(planned: Planned) -> str:
    """What tells a point from the others."""
    label = " ".join(f"{key}={value}" for key, value in planned.label.items()) or " ".join(planned.overrides)
    return f"{planned.stage}: {label}" if planned.stage is not None else label


def _point(compiler: PointCompiler, planned: Planned, made: dict[int, Point]) -> Point:
    if planned.parent is None:
        return replace(compiler.point(planned.overrides), planned=planned)
    parent, key = made[planned.parent.index], _STARTS.get(planned.parent.start)
    if key is None:  # it only comes later
        return replace(compiler.point(planned.overrides), planned=planned, parent=parent)
    place = str(step_folder(parent.run.checkpoints, parent.config.training.num_steps))
    start = [f"{key}={quoted(place)}", "checkpoint.awaits=true"]
    return replace(compiler.point([*planned.overrides, *start], parent), planned=planned)


def without_start(overrides: Sequence[str], start: Start) -> tuple[str, ...]:
    """The overrides of a composed child without those that name its parent's checkpoint."""
    ours = (_STARTS[start], "checkpoint.awaits") if start in _STARTS else ()
    return tuple(text for text in overrides if text.partition("=")[0] not in ours)


class _Told:
    """Notes of points: each once, with how many points it is of."""

    def __init__(self) -> None:
        self._texts: Counter[str] = Counter()

    def add(self, text: str) -> None:
        self._texts[text] += 1

    def say(self, say: Callable[[str], None], num_points: int) -> None:
        for text, number in self._texts.items():
            say(text if num_points == 1 or number == num_points else f"{text} ({number} of {num_points} points)")
