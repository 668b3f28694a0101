"""Points that the same command makes other runs of, because what they are composed from has changed since."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rich.console import Console

from mmhydra.config.frozen import flatten
from mmhydra.errors import UserError
from mmhydra.launch.points import Point
from mmhydra.launch.sweeps.asked import is_of_command
from mmhydra.launch.sweeps.compiling import without_start
from mmhydra.launch.sweeps.recording import Key, key_of
from mmhydra.monitor.words import count, python_module
from mmhydra.paths import short
from mmhydra.run.directory import RunDirectoryError
from mmhydra.sweep.record import Record, RecordedPoint, SweepDirectory
from mmhydra.sweep.state.states import ACTIVE, Memory, PointState, read_states

_NAMED = 3  # keys that are told
_ABSENT = "nothing"


@dataclass(frozen=True)
class Anew:
    """A point that was done or under way as another run, by overrides that are still the same."""

    before: PointState
    point: Point


def anew(sweep: SweepDirectory, before: Record | None, points: Sequence[Point], memory: Memory) -> list[Anew]:
    """The points whose overrides are those of a recorded run that is done or under way, and which are another run."""
    if before is None:
        return []
    there = {key_of(point) for point in points}
    gone = [point for point in before.points if point.in_study and key_of(point) not in there]
    by_overrides = {_planned(point): point for point in gone}
    pairs = [(old, point) for point in points if (old := by_overrides.get(_composed(point))) is not None]
    states = read_states(sweep, replace(before, points=tuple(old for old, _ in pairs)), memory) if pairs else []
    return [
        Anew(state, point)
        for state, (_, point) in zip(states, pairs, strict=True)
        if state.state == "done" or state.state in ACTIVE
    ]


def tell_anew(console: Console, sweep: SweepDirectory, found: Sequence[Anew], points: Sequence[Point]) -> None:
    """Says how many there are and what has changed. Raises UserError where the best of them would be chosen again."""
    if not found:
        return
    told = f"{count(len(found), 'point')} {'is another run' if len(found) == 1 else 'are other runs'} now"
    told = f"{told}, because what conf/, its data or the environment say has changed: {_difference(sweep, found[0])}"
    runs = f"{found[0].before.point.run_id} is {found[0].before.state}, {found[0].point.run_id} is new"
    chosen_from = _before_a_choice(points)
    again = [each for each in found if key_of(each.point) in chosen_from]
    if again and not all(point.request.confirm for point in points):
        raise UserError(
            f"{told} ({runs}). A later stage goes on from the best, and {len(again)} of those that it chooses from "
            "would run again. To go on with the runs that are there type\n"
            f"  {python_module('drive', shlex.quote(short(sweep.path)))}\n"
            "which composes all as it was; to run them again add confirm=true to this command"
        )
    console.print(f"note: {told} ({runs})", markup=False)


def _planned(point: RecordedPoint) -> tuple[str | None, tuple[str, ...]]:
    start = "none" if point.parent is None else point.parent.start
    return point.stage, without_start(point.overrides, start)


def _composed(point: Point) -> tuple[str | None, tuple[str, ...]]:
    overrides = tuple(text for text in point.request.overrides if not is_of_command(text))
    parent = point.planned.parent
    return point.planned.stage, without_start(overrides, "none" if parent is None else parent.start)


def _before_a_choice(points: Sequence[Point]) -> set[Key]:
    """Points that a stage of the best chooses among, and those that come before them."""
    by_key = {key_of(point): point for point in points}
    found: set[Key] = set()
    left = [parent for point in points if point.planned.num_best is not None for parent in point.parents]
    while left:
        key = key_of(left.pop())
        if key not in found:
            found.add(key)
            left += by_key[key].parents
    return found


def _difference(sweep: SweepDirectory, one: Anew) -> str:
    """The first keys in which a run was another one."""
    try:
        was = sweep.run(one.before.point).read_identity().document
    except RunDirectoryError as error:
        return f"what it was can't be read ({error})"
    now = one.point.identity.document if one.point.identity is not None else {}
    here, there = flatten(now), flatten(was)
    keys = [key for key in {**there, **here} if here.get(key, _ABSENT) != there.get(key, _ABSENT)]
    shown = [f"{key.removeprefix('config.')} is {_value(here, key)}, was {_value(there, key)}" for key in keys[:_NAMED]]
    return "; ".join(shown) + (f"; and {len(keys) - _NAMED} more" if len(keys) > _NAMED else "")


def _value(leaves: Mapping[str, object], key: str) -> object:
    return leaves.get(key, _ABSENT)
