"""What a command starts, what waits for what, and what it may cost. States are made up; points are composed."""

from dataclasses import replace

import pytest
from fitting_dataset import write_fitting

from mmhydra.compose import compose
from mmhydra.errors import UserError
from mmhydra.launch.sweeps.arrays import Grouping, batch_job, placeholder
from mmhydra.launch.sweeps.compiling import compiled
from mmhydra.launch.sweeps.cost import costs, limits, lines, most, require_confirmed
from mmhydra.launch.sweeps.due import due, without_later
from mmhydra.launch.sweeps.recording import key_of, numbered
from mmhydra.run.snapshot import Snapshot
from mmhydra.sweep.planned import Parent, Planned
from mmhydra.sweep.state.states import PointState

SLURM = ("cluster=slurm_dev", "parallel=single", "cluster.nodes=1", "cluster.gpus_per_node=1")


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Composes points; "2<0" is one after the first, with the label and seed 2. `best` is of all children."""
    monkeypatch.setenv("MMHYDRA_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MMHYDRA_OUTPUTS", str(tmp_path / "outputs"))
    write_fitting(compose(["data.builder=null"]).config)

    def points(*names: str, cluster=SLURM, best=None, size=1001):
        planned = []
        for name in names:
            seed, _, parent = name.partition("<")
            limit = f"cluster.time_limit_min={5 if seed.isdigit() else 6}"
            own = f"seed.data={sum(map(ord, seed))}"
            overrides = ["data.builder=null", "training.steps=200", own, *cluster]
            if cluster is SLURM:
                overrides += [limit, f"cluster.slurm.max_array_size={size}"]
            after = Parent(int(parent), "none") if parent else None
            stage = "later" if parent else "first"
            planned.append(Planned(tuple(overrides), {"n": name}, stage, after, best if parent else None))
        return compiled(planned)

    return points


def states(points, *words: str):
    found = {}
    for recorded, word in zip(numbered(points, []), words, strict=True):
        name, _, job_id = word.partition(":")
        found[recorded.name, recorded.run_id] = PointState(recorded, name, job_id=job_id or None)
    return found


def names(points) -> list[str]:
    return [point.planned.label["n"] for point in points]


def test_what_is_missing_or_failed_is_started_and_nothing_else(make):
    words = ["missing", "frozen", "failed", "preempted", "gone", "cancelled", "done", "stopped", "pending", "running"]
    points = make(*(str(number) for number in range(10)))
    found = due(points, states(points, *words))
    assert names(found.now) == list("012345")
    assert found.later == []
    assert names(due(points, states(points, *words), again=False).now) == list("01")
    tried = {key_of(points[2])}
    assert names(due(points, states(points, *words), tried=tried).now) == list("01345")


def test_children_are_submitted_with_their_parents_or_behind_those_under_way(make):
    points = make("0", "1<0", "2", "3<2", "4", "5<4")
    found = due(points, states(points, "missing", "blocked", "running:77_3", "blocked", "stopped", "blocked"))
    assert names(found.now) == ["0", "1<0", "2<".replace("2<", "3<2")]
    assert found.jobs == {key_of(points[2]): "77_3"}
    assert found.later == [], "whose parent was stopped waits for a person"


def test_on_this_machine_children_come_once_their_parents_are_done(make):
    points = make("0", "1<0", cluster=())
    found = due(points, states(points, "missing", "blocked"))
    assert (names(found.now), names(found.later)) == (["0"], ["1<0"])
    assert names(due(points, states(points, "done", "missing")).now) == ["1<0"]
    after_failure = due(points, states(points, "failed", "blocked"), tried={key_of(points[0])})
    assert (after_failure.now, after_failure.later) == ([], [])


def test_a_stage_of_the_best_waits_until_all_its_parents_have_ended(make):
    points = make("0", "1", "2<0", "3<1", best=1)
    waiting = due(points, states(points, "done", "running:5", "unchosen", "unchosen"))
    assert (waiting.now, names(waiting.later)) == ([], ["2<0", "3<1"])
    # A parent that failed runs again, so it is not known yet which are best.
    again = due(points, states(points, "done", "failed", "missing", "unchosen"))
    assert (names(again.now), names(again.later)) == (["1"], ["2<0", "3<1"])
    decided = due(points, states(points, "done", "failed", "missing", "unchosen"), again=False)
    assert (names(decided.now), decided.later) == (["2<0"], [])


def test_what_comes_after_the_best_is_left_out_where_all_is_planned_at_once(make):
    assert names(without_later(make("0", "1<0"))) == ["0", "1<0"]
    assert names(without_later(make("0", "1<0", best=1))) == ["0"]


# ---------------------------------------------------------------- arrays


@pytest.fixture
def groups(tmp_path):
    """Sorts points into arrays; those get the ids 100, 101, ..."""

    def sort(points, **jobs: str):
        grouping = Grouping(lambda point: batch_job(point, tmp_path, Snapshot(tmp_path, "0" * 64)), dict(jobs))
        found, number = [], 100
        for wave in grouping.waves(points):
            for group in wave:
                found.append(group)
                for index, point in zip(group.indices, group.points, strict=True):
                    grouping.jobs[key_of(point)] = f"{number}_{index}"
                number += 1
        return found

    return sort


def test_points_of_two_classes_are_two_arrays_and_no_array_is_too_large(make, groups):
    two = groups(make("0", "a", "1", "b"))
    assert [(names(group.points), group.indices, group.dependency) for group in two] == [
        (["0", "1"], (0, 1), None),
        (["a", "b"], (0, 1), None),
    ]
    chunks = groups(make(*"0123456", size=3))
    assert [len(group.points) for group in chunks] == [3, 3, 1]
    assert all(max(group.indices) < 3 for group in chunks)


def test_a_child_of_each_task_waits_for_the_task_of_its_number(make, groups):
    first, second, third = groups(make("0", "1", "2", "3<0", "4<1", "5<2", "6<1", "7<2"))
    assert (second.dependency, second.indices, names(second.points)) == (
        "aftercorr:100",
        (0, 1, 2),
        ["3<0", "4<1", "5<2"],
    )
    assert (third.dependency, third.indices, names(third.points)) == ("aftercorr:100", (1, 2), ["6<1", "7<2"])
    assert first.dependency is None


def test_many_children_of_one_task_are_one_array(make, groups):
    _, second = groups(make("0", "1", "2<1", "3<1", "4<1"))
    assert (second.dependency, second.indices) == ("afterok:100_1", (0, 1, 2))


def test_no_task_of_the_children_has_a_number_that_their_cluster_does_not_take(make, groups):
    parents = make("0", "1", "2", "3")
    children = [
        replace(point, parent=parent) for point, parent in zip(make("4", "5", "6", "7", size=2), parents, strict=True)
    ]
    found = groups([*parents, *children])[1:]
    assert {(group.dependency, group.indices, tuple(names(group.points))) for group in found} == {
        ("aftercorr:100", (0, 1), ("4", "5")),
        ("afterok:100_2", (0,), ("6",)),
        ("afterok:100_3", (0,), ("7",)),
    }


def test_grandchildren_wait_for_children(make, groups):
    assert [group.dependency for group in groups(make("0", "1<0", "2<1"))] == [None, "afterok:100_0", "afterok:101_0"]


def test_children_of_jobs_of_earlier_commands_wait_for_those(make, groups, tmp_path):
    points = make("0", "1<0")
    grouping = Grouping(
        lambda point: batch_job(point, tmp_path, Snapshot(tmp_path, "0" * 64)), {key_of(points[0]): "77"}
    )
    ((group,),) = grouping.waves(points[1:])
    assert group.dependency == "afterok:77"
    grouping.jobs[key_of(points[0])] = f"{placeholder('0003')}_4"
    ((group,),) = grouping.waves(points[1:])
    assert group.dependency == "afterok:${ARRAY_0003}_4"


# ---------------------------------------------------------------- cost


def dear(points, **fields):
    """The same points on a cluster with a price."""
    priced = []
    for point in points:
        cluster = point.config.cluster.model_copy(update={"usd_per_gpu_hour": 2.0, "confirm_gpu_hours": 0.2, **fields})
        config = point.config.model_copy(update={"cluster": cluster})
        priced.append(replace(point, request=replace(point.request, config=config)))
    return priced


def test_costs_are_summed_by_cluster_and_more_than_its_limit_needs_a_word(make):
    points = dear(make("0", "1"))  # 5 minutes of one GPU each
    (cost,) = costs(points)
    assert cost.num_points == 2
    assert cost.gpu_hours == pytest.approx(1 / 6)
    assert cost.usd == pytest.approx(1 / 3)
    require_confirmed([cost])
    more = costs(dear(make("0", "1", "2")))
    with pytest.raises(UserError, match=r"(?s)slurm_dev: 3 points, at most 0.25 GPU-hours, 0.5 USD.*confirm=true: "):
        require_confirmed(more)
    assert limits(costs(dear(make("0", "1", "2")))) == [
        "above these GPU-hours (cluster.confirm_gpu_hours) a start needs confirm=true: slurm_dev 0.2"
    ]
    assert limits([cost]) == []
    confirmed = [replace(point, request=replace(point.request, confirm=True)) for point in dear(make("0", "1", "2"))]
    require_confirmed(costs(confirmed))


def test_each_cluster_has_a_line_and_there_is_a_sum(make):
    mixed = [*dear(make("0"), name="one"), *dear(make("1"), name="two"), *make("2", cluster=())]
    told = lines(costs(mixed))
    assert [line.partition(":")[0] for line in told[:3]] == ["one", "two", "local"]
    assert "no price is known" in told[2]
    assert told[3].startswith("in all at most 0.166667 GPU-hours")


def test_of_a_stage_of_the_best_the_dearest_count(make):
    points = make("0", "a", "1<0", "2<0", "b<1", best=1)
    keys = {key_of(point) for point in points}
    assert names(most(points, keys)) == ["0", "a", "1<0", "2<0"], "10 minutes are more than 6"
    assert names(most(points, keys - {key_of(points[2])})) == ["0", "a", "b<1"], "what is there costs nothing"


def test_a_stage_of_the_best_waits_for_a_rival_that_stands_behind_it(make):
    """As where values are typed beside a study: the stages come anew for each combination of them."""
    points = make("0", "1<0", "2", "3<2", best=1)
    found = due(points, states(points, "done", "missing", "failed", "unchosen"))
    assert (names(found.now), names(found.later)) == (["2"], ["1<0", "3<2"])
