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
from mmhydra.monitor.words import count
from mmhydra.sweep.planned import Planned, Start
from mmhydra.sweep.study.overrides import label_in_words
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
    first_of: dict[tuple[str, ...], Point] = {}
    more: dict[tuple[str, ...], list[Point]] = {}  # further parents
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
        first = first_of.setdefault(point.key, point)
        if first is not point:
            twice.append(f"{name_of(one)} is {name_of(first.planned)}")
            if (fault := _no_choice(point, first)) is not None:
                faults.append((f"point {index + 1} ({name_of(one)})", fault))
        more.setdefault(point.key, []).extend(parent for at in one.more_parents if (parent := made.get(at)) is not None)
        if one.num_best is not None and point.parent is not None:
            more[point.key].append(point.parent)
        is_printed = point.request.dry_run == "config"  # as Hydra would: each config, whatever runs they are
        made[index] = of_run.setdefault((*point.key, str(index) if is_printed else ""), point)
    told.say(say, len(planned))
    try:
        refuse_points(faults, len(planned))
    except UserError as error:
        if not num_orphans:
            raise
        after = f"{count(num_orphans, 'point')} that {'comes' if num_orphans == 1 else 'come'} after these"
        raise UserError(f"{error}\nnot looked at: {after}") from error
    if twice:
        others = f", and {len(twice) - 1} more" if len(twice) > 1 else ""
        say(f"note: points that are one run are run once: {twice[0]}{others}")
    points = [_with_parents(point, more[point.key]) for point in of_run.values()]
    compiler.recheck(points, share=share)
    return points


def name_of(planned: Planned) -> str:
    """What tells a point from the others."""
    label = label_in_words(planned.label) or " ".join(planned.overrides)
    return f"{planned.stage}: {label}" if planned.stage is not None else label


def _no_choice(point: Point, first: Point) -> UserError | None:
    """A stage of the best whose point is a run of another stage: that one would be run whether it is chosen or not."""
    stages = [(each.planned.stage, each.planned.num_best) for each in (first, point)]
    num_best = point.planned.num_best or first.planned.num_best
    if stages[0] == stages[1] or num_best is None:
        return None
    return UserError(
        f"it is the run of {name_of(first.planned)}, and of two stages that share runs none can go on with the best: "
        "give the later one something that makes another run, tag=NAME for example"
    )


def _with_parents(point: Point, parents: Sequence[Point]) -> Point:
    """A point with all whose child it is; those that are one run once."""
    further = {parent.key: parent for parent in parents if point.parent is not None and parent.key != point.parent.key}
    return replace(point, more_parents=tuple(further.values())) if further else point


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
