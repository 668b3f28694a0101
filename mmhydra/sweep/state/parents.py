"""What becomes of points that go on from others: which parents a stage goes on with, and what waits for one."""

from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Literal, Protocol

from mmhydra.monitor.facts import FINAL
from mmhydra.sweep.record import Record, RecordedPoint
from mmhydra.sweep.state.best import Rated, Run, best_families, run_of
from mmhydra.sweep.state.labels import family_of

NOT_CHOSEN = "not chosen"  # begins the remark of a point whose stage has chosen others, or had nothing to choose from
Waits = tuple[Literal["blocked", "unchosen"], str]  # a state, and what makes it plain


class Standing(Rated, Protocol):
    """A point, its best value, and how it is by its own files alone."""

    @property
    def state(self) -> str:
        """A state of a point."""


def rivals_of(points: Collection[RecordedPoint], child: RecordedPoint) -> list[Run]:
    """The runs that a point's parents compete with: the parents of all points of its stage that the study has now."""
    stage = [each for each in points if each.in_study and each.stage == child.stage and each.num_best == child.num_best]
    return list(dict.fromkeys(run for each in stage for run in each.parents))


def waiting(states: Sequence[Standing], record: Record) -> dict[Run, Waits]:
    """The points that were not submitted because of their parents. A submission chooses among the same ones."""
    by_run = {run_of(each.point): each for each in states}
    choices: dict[tuple[str | None, int], tuple[list[Run] | None, str]] = {}
    found: dict[Run, Waits] = {}
    for each in states:
        point = each.point
        if each.state not in ("missing", "frozen") or not point.parents:
            continue
        if point.num_best is not None:
            key = (point.stage, point.num_best)
            if key not in choices:
                choices[key] = _choice(by_run, record, point, point.num_best)
            chosen, why = choices[key]
            if chosen is None or not any(one in chosen for one in point.parents):
                found[run_of(point)] = "unchosen", why
            continue  # what is chosen is done
        parent = by_run.get(point.parents[0])
        if parent is not None and parent.state != "done":
            found[run_of(point)] = "blocked", f"its parent {parent.point.run_id} is {_word(parent, found)}"
    return found


def at_most(points: Sequence[RecordedPoint], hours: Mapping[Run, float]) -> set[Run]:
    """The runs that can come to be at most: a stage of the best goes on with its dearest so many families of parents.

    `points` are all of the sweep, parents before their children, and `hours` what the runs of them cost.
    """
    by_run = {run_of(point): point for point in points}
    children: dict[Run, list[Run]] = {}
    stages: dict[tuple[str | None, int], dict[Hashable, set[Run]]] = {}
    for run, point in by_run.items():
        for parent in point.parents:
            children.setdefault(parent, []).append(run)
            if point.num_best is not None and parent in by_run:
                families = stages.setdefault((point.stage, point.num_best), {})
                families.setdefault(family_of(by_run[parent].stage, by_run[parent].label), set()).add(run)
    dropped: set[Run] = set()

    def drop(run: Run) -> None:
        dropped.add(run)
        for child in children.get(run, ()):
            if child not in dropped and all(parent in dropped for parent in by_run[child].parents):
                drop(child)

    for (_, num_best), families in stages.items():
        left = [_with_what_follows(family - dropped, children) for family in families.values()]
        kept: set[Run] = set()
        for _ in range(min(num_best, len(left))):  # the one that costs most beside those that are kept
            dearest = max(left, key=lambda runs: sum(hours.get(run, 0.0) for run in runs - kept))
            left.remove(dearest)
            kept |= dearest
        for run in set().union(*families.values()) - kept - dropped:
            drop(run)
    return by_run.keys() - dropped


def _with_what_follows(runs: Collection[Run], children: Mapping[Run, Sequence[Run]]) -> set[Run]:
    found, left = set(runs), list(runs)
    while left:
        new = [child for child in children.get(left.pop(), ()) if child not in found]
        found |= {*new}
        left += new
    return found


def _word(parent: Standing, found: Mapping[Run, Waits]) -> str:
    """How a parent is, which may be waiting itself."""
    waits = found.get(run_of(parent.point))
    return waits[0] if waits is not None else parent.state


def _choice(
    by_run: Mapping[Run, Standing], record: Record, point: RecordedPoint, num_best: int
) -> tuple[list[Run] | None, str]:
    """The parents that a stage goes on with, or None and why that is not known yet.

    Parents that differ in seeds alone are one choice, by their mean.
    """
    known = [by_run[run] for run in rivals_of(record.points, point) if run in by_run]
    ended = [each for each in known if each.state in FINAL]
    if len(ended) < len(known):
        some = "the best" if num_best == 1 else f"the {num_best} best"
        return None, f"known once all parents have ended: {len(ended)} of {len(known)} have, {some} go on"
    done = [each for each in known if each.state == "done"]
    if not done:
        return [], f"{NOT_CHOSEN}: none of {len(known)} parents is done"
    chosen = [run_of(each.point) for family in best_families(done, record, num_best) for each in family]
    return chosen, f"{NOT_CHOSEN}: its parent is not among the best {num_best}"
