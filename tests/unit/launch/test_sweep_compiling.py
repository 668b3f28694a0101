"""The points of a sweep: composed and named all or none, parents before children, each run once."""

from dataclasses import replace
from pathlib import Path

import pytest
from fitting_dataset import write_fitting
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given
from hypothesis import strategies as st

from mmhydra.compose import compose
from mmhydra.errors import UserError
from mmhydra.launch.sweeps.asked import Asked, planned_points
from mmhydra.launch.sweeps.compiling import compiled, name_of, without_start
from mmhydra.launch.sweeps.data import with_data
from mmhydra.launch.sweeps.recording import numbered
from mmhydra.launch.sweeps.replaying import planned_again
from mmhydra.launch.verify import verified
from mmhydra.sweep.planned import Parent, Planned
from mmhydra.sweep.record import RecordError
from mmhydra.sweep.study.values import quoted

BASE = ("data.builder=null", "training.steps=200")


@pytest.fixture
def data(tmp_path, monkeypatch) -> Path:
    """A dataset that is at hand, and an empty outputs folder."""
    monkeypatch.setenv("MMHYDRA_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MMHYDRA_OUTPUTS", str(tmp_path / "outputs"))
    write_fitting(compose(list(BASE)).config)
    return tmp_path


def planned(*texts: str, label: dict[str, str] | None = None, **more) -> Planned:
    return Planned((*BASE, *texts), label or dict(text.split("=", 1) for text in texts), **more)


def told(points, *config_dirs) -> tuple[list, list[str]]:
    lines: list[str] = []
    return compiled(points, config_dirs, say=lines.append), lines


def test_points_keep_their_order_and_are_named_as_alone(data):
    rates = ["3e-3", "1e-3", "2e-3"]
    points, lines = told([planned(f"optim.lr={rate}") for rate in rates])
    assert [point.config.optim.lr for point in points] == [3e-3, 1e-3, 2e-3]
    alone = [compiled([planned(f"optim.lr={rate}")])[0] for rate in rates]
    assert [point.run_id for point in points] == [point.run_id for point in alone]
    assert lines == []


def test_a_run_that_is_meant_twice_is_one_point_and_it_is_said(data):
    points, lines = told(
        [planned("seed.data=1"), planned("seed.data=2"), planned("seed.data=1", "track.log_interval=5")]
    )
    assert len(points) == 2
    assert lines == ["note: points that are one run are run once: seed.data=1 track.log_interval=5 is seed.data=1"]


def test_all_that_is_wrong_is_told_once_with_every_point(data):
    wrong = [planned(f"seed.data={seed}", "parallel.tp=3") for seed in (1, 2)]
    others = [planned("seed.data=1"), planned("optim.lr=x")]
    with pytest.raises(UserError) as raised:
        compiled([*wrong, *others])
    lines = str(raised.value).splitlines()
    assert lines[0] == "3 of 4 points can't run, so none is started"
    assert lines[1].startswith("point 1 (seed.data=1 parallel.tp=3): ")
    assert "point 2 (seed.data=2 parallel.tp=3): the same" in lines
    assert any(line.startswith("point 4 (optim.lr=x): optim.lr: ") for line in lines)
    assert str(raised.value).count("parallel.tp = 3") == 2, "of two problems"


def test_a_secret_among_the_values_of_an_axis_is_not_told_by_the_name_of_its_point(data):
    secret = "hf_" + "abcdefghijklmnopqrstuvwxyzABCDEFGH"
    points = [planned(f"tag={secret}"), planned("tag=a"), planned("optim.lr=x")]
    with pytest.raises(UserError) as raised:
        compiled(points)
    lines = str(raised.value).splitlines()
    assert secret not in str(raised.value)
    assert lines[1].startswith("point 1: a run is written down for ever")
    assert any(line.startswith("point 3 (optim.lr=x): ") for line in lines)
    with pytest.raises(UserError) as raised:
        verified([point.overrides for point in points], ())
    assert secret not in str(raised.value)


def test_a_note_of_all_points_is_said_once(data):
    points = [planned(f"seed.data={seed}", "checkpoint.interval=1000", label={"seed": str(seed)}) for seed in (1, 2, 3)]
    _, lines = told([*points, planned("seed.data=4")])
    assert len(lines) == 1
    assert lines[0].startswith("note: checkpoint.interval")
    assert lines[0].endswith("(3 of 4 points)")


@pytest.mark.parametrize(("start", "key"), [("extend", "extend_from"), ("init", "init_from")])
def test_a_child_starts_from_the_last_checkpoint_of_its_parent(data, start, key):
    parent = planned("seed.data=1", stage="stable")
    child = planned("training.seq_len=128", stage="decay", parent=Parent(0, start))
    child = Planned(("data.builder=null", "training.steps=300", "seed.data=1"), {}, "decay", Parent(0, start))
    first, second = compiled([parent, child], share=1)
    checkpoint = second.config.checkpoint
    assert getattr(checkpoint, key) == str(first.run.path / "checkpoints" / "step-00000200")
    assert checkpoint.awaits
    assert second.parent is first
    assert second.identity.document["extends" if start == "extend" else "init_from"] == {
        "run": first.run_id,
        "step": 200,
    }


def test_a_child_that_only_comes_later_takes_nothing_of_its_parent(data):
    first, second = compiled([planned("seed.data=1"), planned("seed.data=2", parent=Parent(0, "none"))])
    assert second.parent is first
    assert not second.config.checkpoint.awaits
    assert second.run_id == compiled([planned("seed.data=2")])[0].run_id


def test_children_of_what_is_wrong_are_counted_and_not_told_as_faults_of_their_own(data):
    points = [planned("optim.lr=x"), planned("seed.data=2", parent=Parent(0, "extend")), planned("seed.data=3")]
    with pytest.raises(UserError, match="1 of 3 points") as raised:
        compiled(points)
    assert str(raised.value).endswith("not looked at: 1 point that comes after these")


def test_a_child_that_does_not_fit_its_parent_is_refused_before_anything_starts(data):
    child = Planned(("data.builder=null", "training.steps=300", "model.dim=64"), {"dim": "64"}, "s", Parent(0, "init"))
    with pytest.raises(UserError, match=r"model\.dim"):
        compiled([planned("seed.data=1"), child])


def test_without_their_data_points_have_no_name_and_children_still_find_their_parents(tmp_path, monkeypatch):
    monkeypatch.setenv("MMHYDRA_DATA", str(tmp_path / "none"))
    monkeypatch.setenv("MMHYDRA_OUTPUTS", str(tmp_path / "outputs"))
    child = Planned(("training.steps=300",), {}, "s", Parent(0, "extend"))
    first, second = compiled([Planned(("training.steps=200",)), child])
    assert first.identity is second.identity is None
    assert second.config.checkpoint.extend_from == str(first.run.path / "checkpoints/step-00000200")


def test_data_is_prepared_once_for_all_and_named_points_stay(data, monkeypatch):
    calls = []
    monkeypatch.setattr("mmhydra.launch.sweeps.data.prepare", lambda *arguments, **more: calls.append(arguments))
    points = compiled([planned(f"seed.data={seed}") for seed in (1, 2, 3)] + [planned("training.seq_len=64")])
    assert with_data(points, lambda: pytest.fail("compiled again"), print) == points
    assert len(calls) == 2


def test_data_that_does_not_fit_is_refused(data, monkeypatch):
    def prepare(*arguments, **more):
        raise UserError("a shard is cut off")

    monkeypatch.setattr("mmhydra.launch.sweeps.data.prepare", prepare)
    with pytest.raises(UserError, match=r"^a shard is cut off$"):
        with_data(compiled([planned("seed.data=1"), planned("seed.data=2")]), list, print)


def test_a_record_is_composed_again_to_the_same_points(data):
    child = Planned(("data.builder=null", "training.steps=300"), {"a": "b"}, "decay", Parent(1, "extend"), 1)
    points = compiled([planned("seed.data=1"), planned("seed.data=42"), child])
    again = compiled(planned_again(numbered(points, [])))
    assert [point.key for point in again] == [point.key for point in points]
    assert [point.text for point in again] == [point.text for point in points]
    assert again[2].parent is again[1]
    assert again[2].planned.num_best == 1
    assert without_start(points[2].request.overrides, "extend") == child.overrides


def test_a_record_without_the_parent_of_a_point_says_so(data):
    child = Planned(("data.builder=null", "training.steps=300"), {"a": "b"}, "decay", Parent(0, "extend"))
    first, second = numbered(compiled([planned("seed.data=42"), child]), [])
    for there in ([second], [second, first]):
        with pytest.raises(RecordError, match=f"point 2 comes after the run {first.run_id}, .* move the file away"):
            planned_again(there)


@given(st.text(alphabet="ab \\'\"$={}[],:#\t", min_size=1))
@example("\\")
@example("a'b\\'c\\\\")
def test_a_place_of_any_name_is_read_as_it_is(text):
    if "${" in text:  # which no path of ours has: it would be an interpolation
        return
    override = OverridesParser.create().parse_override(f"key={quoted(text)}")
    assert override.value() == text


# ---------------------------------------------------------------- names


def asked(*typed: str, study: str | None = None) -> Asked:
    return Asked(study, typed, (typed,))


def test_a_sweep_is_named_by_what_was_typed_whatever_the_order_and_the_command_s_keys():
    name = asked("optim.lr=1,2", "model=100m").name
    assert name.startswith("multirun-")
    assert len(name) == len("multirun-") + 8
    assert asked("model=100m", "dry_run=config", "optim.lr=1,2", "confirm=true").name == name
    assert asked("model=1b", "optim.lr=1,2").name != name
    elsewhere = replace(asked("optim.lr=1,2", "model=100m"), config_dirs=(Path("lab"),))  # another meaning of the words
    assert elsewhere.name != name
    assert asked(study="lr_ladder").name == asked("confirm=true", study="lr_ladder").name == "lr_ladder"
    other = asked("tag=a", study="lr_ladder").name
    assert other.startswith("lr_ladder-")
    assert len(other) == len("lr_ladder-") + 6
    assert asked(study="some/where/mine.yaml").name == "mine"


def test_points_of_a_plain_sweep_are_labelled_by_what_differs():
    points = (("a=1", "b=x", "c=3"), ("a=2", "b=x", "c=3"))
    labels = [dict(one.label) for one in planned_points(Asked(None, (), points), None)]
    assert labels == [{"a": "1"}, {"a": "2"}]
    assert [name_of(one) for one in planned_points(Asked(None, (), points[:1]), None)] == ["a=1 b=x c=3"]


@pytest.mark.parametrize("dry_run", [(), ("dry_run=config",)])
def test_a_stage_of_the_best_whose_points_are_other_runs_again_is_refused(data, dry_run):
    first = [planned(f"optim.lr={rate}", *dry_run, stage="a") for rate in ("1e-3", "2e-3")]
    again = [
        planned(
            f"optim.lr={rate}", "checkpoint.interval=20", *dry_run, stage="b", parent=Parent(at, "none"), num_best=1
        )
        for at, rate in enumerate(("1e-3", "2e-3"))
    ]
    with pytest.raises(UserError, match=r"(?s)point 3 .*it is the run of a: optim.lr=1e-3.*tag=NAME.*point 4 "):
        told([*first, *again])
    other = [replace(one, overrides=(*one.overrides, "tag=b")) for one in again]
    assert len(told([*first, *other])[0]) == 4
