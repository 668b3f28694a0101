"""What becomes of points that go on from others: which parents a stage goes on with, and what waits for one."""

from collections.abc import Collection, Mapping, Sequence
from typing import Literal, Protocol

from mmhydra.monitor.facts import FINAL
from mmhydra.sweep.record import Record, RecordedPoint
from mmhydra.sweep.state.best import Rated, Run, best_families, run_of

NOT_CHOSEN = "not chosen"  # begins the remark of a point whose stage has chosen others, or had nothing to choose from
Waits = tuple[Literal["blocked", "unchosen"], str]  # a state, and what makes it plain


class Standing(Rated, Protocol):
    """A point, its best value, and how it is by its own files alone."""

    @property
    def state(self) -> str:
        """A state of a point."""


def _parent_of(point: RecordedPoint) -> Run | None:
    """What names the run of a point's parent."""
    return None if point.parent is None else (point.parent.name, point.parent.run_id)


def _parents_of(point: RecordedPoint) -> list[Run]:
    """The runs of all parents."""
    first = _parent_of(point)
    return [*([] if first is None else [first]), *point.more_parents]


def rivals_of(points: Collection[RecordedPoint], child: RecordedPoint) -> list[Run]:
    """The runs that a point's parents compete with: the parents of all points of its stage that the study has now."""
    stage = [each for each in points if each.in_study and each.stage == child.stage and each.num_best == child.num_best]
    return list(dict.fromkeys(run for each in stage for run in _parents_of(each)))


def waiting(states: Sequence[Standing], record: Record) -> dict[Run, Waits]:
    """The points that were not submitted because of their parents. A submission chooses among the same ones."""
    by_run = {run_of(each.point): each for each in states}
    choices: dict[tuple[str | None, int], tuple[list[Run] | None, str]] = {}
    found: dict[Run, Waits] = {}
    for each in states:
        point, run = each.point, _parent_of(each.point)
        if each.state not in ("missing", "frozen") or run is None:
            continue
        if point.num_best is not None:
            key = (point.stage, point.num_best)
            if key not in choices:
                choices[key] = _choice(by_run, record, point, point.num_best)
            chosen, why = choices[key]
            if chosen is None or not any(one in chosen for one in _parents_of(point)):
                found[run_of(point)] = "unchosen", why
            continue  # what is chosen is done
        parent = by_run.get(run)
        if parent is not None and parent.state != "done":
            found[run_of(point)] = "blocked", f"its parent {run[1]} is {_word(parent, found)}"
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
