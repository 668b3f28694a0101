"""Which parents a stage goes on with, what waits for one, and what can come to run at most."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from fake_sweep import FakeSweep, parent, point

from mmhydra.sweep.record import RecordedPoint
from mmhydra.sweep.state.best import run_of
from mmhydra.sweep.state.labels import is_seed
from mmhydra.sweep.state.parents import at_most
from mmhydra.sweep.state.states import PointState, read_states

Make = Callable[..., FakeSweep]


def states(sweep: FakeSweep) -> list[PointState]:
    return read_states(sweep.directory, sweep.record)


def words(sweep: FakeSweep) -> list[str]:
    return [each.state for each in states(sweep)]


def test_children_wait_for_their_parent(make_sweep: Make) -> None:
    one = point(1, stage="stable")
    sweep = make_sweep(points=[one, point(2, stage="decay", parent=parent(one))])
    assert words(sweep) == ["missing", "blocked"]
    assert states(sweep)[1].remark == f"its parent {one.run_id} is missing"
    sweep.done(1, 2.0)
    assert words(sweep) == ["done", "missing"]


def ladder() -> list:
    small = [point(number, stage="small") for number in (1, 2, 3)]
    large = [
        point(number + 3, stage="large", parent=parent(of, "none"), num_best=2) for number, of in enumerate(small, 1)
    ]
    return [*small, *large]


def test_a_stage_goes_on_with_the_best_parents_once_all_have_ended(make_sweep: Make) -> None:
    sweep = make_sweep(points=ladder())
    sweep.done(1, 3.0)
    sweep.done(2, 1.0)
    found = states(sweep)
    assert [each.state for each in found] == ["done", "done", "missing", "unchosen", "unchosen", "unchosen"]
    assert found[3].remark == "known once all parents have ended: 2 of 3 have, the 2 best go on"
    sweep.done(3, 2.0)
    found = states(sweep)
    assert [each.state for each in found[3:]] == ["unchosen", "missing", "missing"]
    assert found[3].remark == "not chosen: its parent is not among the best 2"
    sweep.done(5, 1.0)
    assert words(sweep)[3:] == ["unchosen", "done", "missing"]


def test_parents_that_left_the_study_do_not_compete(make_sweep: Make) -> None:
    # As a submission chooses: the best of the study, even if one that left it was better or has not ended.
    first, second, third, *large = ladder()
    gone = [replace(each, in_study=False) for each in (third, large[2])]
    sweep = make_sweep(points=[first, second, gone[0], *large[:2], gone[1]])
    sweep.done(1, 3.0)
    sweep.done(2, 2.0)
    assert words(sweep)[3:5] == ["missing", "missing"]
    sweep.done(3, 0.1)
    assert words(sweep)[3:5] == ["missing", "missing"]


def test_a_parent_that_failed_is_not_chosen_however_good_it_was(make_sweep: Make) -> None:
    sweep = make_sweep(points=ladder())
    sweep.done(1, 3.0)
    sweep.done(2, 2.0)
    failed = sweep.frozen(3)
    sweep.held_out(failed, (10, 0.1))
    sweep.ended(failed, "failed", 1, 10)
    assert words(sweep)[3:] == ["missing", "missing", "unchosen"]


# ---------------------------------------------------------------- at most


def child_of(each: RecordedPoint, first: RecordedPoint, *others: RecordedPoint) -> RecordedPoint:
    return replace(each, parent=parent(first, "none"), more_parents=tuple(map(run_of, others)))


def test_what_comes_after_two_parents_counts_where_one_of_them_is_dropped() -> None:
    rates = [point(number, stage="a", label={"optim.lr": f"{number}"}) for number in (1, 2)]
    middle = [child_of(point(10 + rate.number, stage="b", num_best=1), rate) for rate in rates]
    last = child_of(point(20, stage="c"), *middle)
    hours = {run_of(each): 1.0 for each in (*rates, *middle)} | {run_of(last): 100.0}
    kept = at_most([*rates, *middle, last], hours)
    assert kept == {run_of(each) for each in (*rates, middle[0], last)}


def test_of_parents_with_seeds_all_of_a_family_go_on() -> None:
    labels = [{"optim.lr": rate, "seed": seed} for rate in ("1e-3", "2e-3") for seed in ("42", "43")]
    parents = [point(number, stage="a", label=label) for number, label in enumerate(labels, 1)]
    children = [child_of(point(10 + each.number, stage="b", num_best=1), each) for each in parents]
    assert len(at_most([*parents, *children], {})) == 4 + 2


@pytest.mark.parametrize(
    ("key", "expected"),
    [("seed", True), ("seed.model", True), ("+seed", True), ("warm.seed.data", True), ("optim.lr", False)],
)
def test_which_keys_of_a_label_are_seeds(key: str, expected: bool) -> None:
    assert is_seed(key) is expected
