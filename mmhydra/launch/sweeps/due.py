"""Which points of a sweep a command starts now, and what the others wait for."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mmhydra.launch.points import Point
from mmhydra.launch.sweeps.recording import Key, key_of
from mmhydra.sweep.state.states import ACTIVE, LATER, PointState, needs_submission

States = Mapping[Key, PointState]


@dataclass(frozen=True)
class Due:
    """`jobs` are the SLURM jobs of parents that points of `now` have to wait for. `later` may start afterwards."""

    now: list[Point] = field(default_factory=list)
    later: list[Point] = field(default_factory=list)
    jobs: dict[Key, str] = field(default_factory=dict)


def by_key(states: Iterable[PointState]) -> dict[Key, PointState]:
    """States by the run."""
    return {key_of(state.point): state for state in states}


def is_slurm(point: Point) -> bool:
    """Whether a point becomes a SLURM job."""
    return point.config.cluster.kind == "slurm"


def without_later(points: Sequence[Point]) -> list[Point]:
    """The points but for those that go on from the best of their parents, and what comes after them."""
    later: set[Key] = set()
    for point in points:
        is_after = point.parent is not None and key_of(point.parent) in later
        if point.planned.num_best is not None or is_after:
            later.add(key_of(point))
    return [point for point in points if key_of(point) not in later]


def due(points: Sequence[Point], states: States, *, again: bool = True, tried: Collection[Key] = ()) -> Due:
    """What to start, parents before their children. Without `again` nothing that was started before.

    `tried` has been started by this command already, and whatever became of it, is not started again.
    Of points on SLURM also the children of those that are started with them or under way: their jobs wait for the jobs
    of their parents. Points on this machine start one after another, so children do once their parents are done.
    """
    found = Due()
    starting: set[Key] = set()
    coming: set[Key] = set()  # what may start later
    rivals = _rivals(points)
    is_waiting: dict[tuple[str | None, int | None], bool] = {}  # whether a stage can't choose yet

    def is_open(key: Key) -> bool:
        return key in starting or key in coming or states[key].state in ACTIVE

    def when_of(point: Point, parent: Point) -> str:
        if point.planned.num_best is not None:
            stage = _stage(point)
            if stage not in is_waiting:
                is_waiting[stage] = any(map(is_open, rivals[stage]))
            if is_waiting[stage]:
                return "later"
            if states[key_of(point)].state == "unchosen":
                return "never"
            if any(states[key].state == "done" for key in map(key_of, point.parents)):
                return "now"
        key = key_of(parent)
        there = states[key]
        if there.state == "done" and key not in starting:
            return "now"
        if not is_open(key):
            return "never"  # its parent failed, and nobody starts it now
        if key in coming or not _can_follow(point, parent):
            return "later"
        if key not in starting:
            if there.job_id is None:
                return "later"
            found.jobs[key] = there.job_id
        return "now"

    for point in _by_stages(points):
        key, state = key_of(point), states[key_of(point)]
        if state.state in LATER:
            wants = True
        else:
            wants = needs_submission(state.state) and (again or state.state in ("missing", "frozen"))
        if not wants or key in tried:
            continue
        when = "now" if point.parent is None else when_of(point, point.parent)
        if when == "now":
            found.now.append(point)
            starting.add(key)
        elif when == "later":
            found.later.append(point)
            coming.add(key)
    return found


def _can_follow(point: Point, parent: Point) -> bool:
    """Whether SLURM itself can make a job wait for that of its parent.

    Not beside a dependency of which any part will do: SLURM knows no mixture of these.
    """
    own = point.config.cluster.slurm.dependency if point.config.cluster.slurm else None
    if own is not None and "?" in own:
        return False
    conf = [one.config.cluster.slurm.slurm_conf if one.config.cluster.slurm else None for one in (point, parent)]
    return is_slurm(point) and is_slurm(parent) and conf[0] == conf[1]


def _by_stages(points: Sequence[Point]) -> list[Point]:
    """The points, all of a stage before any of a later one: what a stage chooses from is looked at before it."""
    levels: dict[str | None, int] = {}
    for point in points:
        after = max((levels.get(parent.planned.stage, 0) + 1 for parent in point.parents), default=0)
        levels[point.planned.stage] = max(after, levels.get(point.planned.stage, 0))
    return sorted(points, key=lambda point: levels[point.planned.stage])


def _stage(point: Point) -> tuple[str | None, int | None]:
    return point.planned.stage, point.planned.num_best


def _rivals(points: Sequence[Point]) -> dict[tuple[str | None, int | None], set[Key]]:
    """The parents that compete, by the stage that takes the best of them."""
    found: dict[tuple[str | None, int | None], set[Key]] = {}
    for point in points:
        if point.planned.num_best is not None:
            found.setdefault(_stage(point), set()).update(map(key_of, point.parents))
    return found
