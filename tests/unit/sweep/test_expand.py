"""From studies to points: factors, filters, resources, stages, and what is typed beside them."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from mmhydra.errors import UserError
from mmhydra.sweep.planned import Parent, Planned
from mmhydra.sweep.study.expand import expand, trial
from mmhydra.sweep.study.files import Study, read_study

Read = Callable[..., Study]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read(text: str, typed: Collection[str] = ()) -> Study:
        path = tmp_path / "mine.yaml"
        path.write_text(f"question: Which?\nstop_rule: When it is known.\n{text}")
        return read_study(path, typed)

    return read


def texts(planned: Sequence[Planned]) -> list[str]:
    return [" ".join(point.overrides) for point in planned]


def labels(planned: Sequence[Planned]) -> list[str]:
    return [" ".join(f"{key}={value}" for key, value in point.label.items()) for point in planned]


def test_a_study_without_axes_is_one_point(read: Read) -> None:
    assert expand(read("overrides: [model=100m]")) == [Planned(("model=100m",))]


def test_product_zip_list_and_seeds_multiply_the_last_one_fastest(read: Read) -> None:
    study = read(
        "axes: {model: [100m, 1b]}\n"
        "zip: [{optim.lr: [1e-4, 2e-4], optim.min_lr: [1e-5, 2e-5]}]\n"
        "points: [{}, {optim.weight_decay: 0.0, +cluster.slurm.environment.A: 'b c'}]\n"
        "seeds: [42, 7]\n"
    )
    planned = expand(study)
    assert len(planned) == 2 * 2 * 2 * 2
    assert texts(planned)[:3] == [
        "model=100m optim.lr=1e-4 optim.min_lr=1e-5 seed.model=42 seed.data=42",
        "model=100m optim.lr=1e-4 optim.min_lr=1e-5 seed.model=7 seed.data=7",
        "model=100m optim.lr=1e-4 optim.min_lr=1e-5 optim.weight_decay=0.0 +cluster.slurm.environment.A='b c' "
        "seed.model=42 seed.data=42",
    ]
    assert planned[2].label == {
        "model": "100m",
        "optim.lr": "1e-4",
        "optim.min_lr": "1e-5",
        "optim.weight_decay": "0.0",
        "cluster.slurm.environment.A": "b c",
        "seed": "42",
    }


def test_axes_are_what_hydra_makes_of_the_same_values(read: Read) -> None:
    planned = expand(read("overrides: [data=demo]\naxes: {model: [100m, 1b], optim.lr: [1e-4, 2e-4], tag: [x, 'y z']}"))
    typed = ["data=demo", "model=100m,1b", "optim.lr=1e-4,2e-4", "tag=x,'y z'"]
    (batch,) = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(typed), None)
    assert [parsed(point.overrides) for point in planned] == [parsed(point) for point in batch]


def parsed(overrides: Sequence[str]) -> list[tuple[str, object]]:
    return [(one.key_or_group, one.value()) for one in OverridesParser.create().parse_overrides(list(overrides))]


def test_filters(read: Read) -> None:
    study = read(
        "overrides: [parallel=fsdp]\n"
        "axes: {model: [100m, 1b], optim.lr: [1e-4, 1e-3]}\nseeds: 2\n"
        "only: [seed == 42 or model == '1b', parallel == 'fsdp']\n"
        "exclude: [model == '1b' and optim.lr > 5e-4]\n"
    )
    assert labels(expand(study)) == [
        "model=100m optim.lr=1e-4 seed=42",
        "model=100m optim.lr=1e-3 seed=42",
        "model=1b optim.lr=1e-4 seed=42",
        "model=1b optim.lr=1e-4 seed=43",
    ]


def test_filters_that_leave_nothing(read: Read) -> None:
    with pytest.raises(UserError, match=r"mine\.yaml: no point is left, only and exclude leave out all 2$"):
        expand(read("axes: {optim.lr: [1e-4, 1e-3]}\nonly: optim.lr > 1"))
    with pytest.raises(UserError, match=r"mine\.yaml: stages\.a: no point is left"):
        expand(read("stages: {a: {axes: {optim.lr: [1e-4, 1e-3]}, only: optim.lr > 1}}"))


def test_filters_without_an_answer_name_the_points(read: Read) -> None:
    with pytest.raises(UserError) as caught:
        expand(read("points: [{model: 1b}, {optim.lr: 1}]\nonly: optim.lr > 0"))
    (head, line) = str(caught.value).splitlines()
    assert head.endswith("mine.yaml: filters have no answer")
    assert line == "model=1b: 'optim.lr > 0' has no answer: no value for optim.lr; Names there are: model"
    with pytest.raises(UserError, match="and 290 more"):
        expand(read(f"axes: {{tag: [{','.join(map(str, range(300)))}]}}\nonly: tag / 0 > 1"))


def test_the_first_rule_of_resources_that_holds(read: Read) -> None:
    study = read(
        "overrides: [parallel=single, data=demo]\naxes: {model: [debug, 100m, 1b]}\n"
        "resources:\n"
        "  - {when: model == '1b', overrides: [cluster=h100_256, parallel=tp4pp8]}\n"
        "  - {when: model != 'debug', overrides: [cluster=h100_64, parallel=fsdp]}\n"
    )
    assert texts(expand(study)) == [
        "parallel=single data=demo model=debug",
        "data=demo cluster=h100_64 parallel=fsdp model=100m",
        "data=demo cluster=h100_256 parallel=tp4pp8 model=1b",
    ]


LADDER = """
overrides: [data=demo]
resources: [{when: model == '1b', overrides: [cluster=h100_256]}, {overrides: [cluster=h100_64]}]
stages:
  small: {overrides: [model=100m], axes: {optim.lr: [1e-4, 2e-4]}}
  large: {after: small, best: 1, overrides: [model=1b]}
  decay: {after: large, start: extend, axes: {training.steps: [10, 20]}}
  check: {after: decay, start: init, overrides: [training.steps=0], resources: [{overrides: [cluster=local]}]}
"""


def test_stages(read: Read) -> None:
    planned = expand(read(LADDER))
    assert [point.stage for point in planned] == ["small"] * 2 + ["large"] * 2 + ["decay"] * 4 + ["check"] * 4
    assert planned[:2] == [
        Planned(
            ("data=demo", "model=100m", "cluster=h100_64", f"optim.lr={rate}"), {"optim.lr": rate}, "small", None, None
        )
        for rate in ("1e-4", "2e-4")
    ]
    assert planned[3] == Planned(
        ("data=demo", "optim.lr=2e-4", "model=1b", "cluster=h100_256"),
        {"optim.lr": "2e-4"},
        "large",
        Parent(1, "none"),
        1,
    )
    assert [point.parent for point in planned[4:8]] == [Parent(parent, "extend") for parent in (2, 2, 3, 3)]
    assert planned[7].overrides == ("data=demo", "optim.lr=2e-4", "model=1b", "cluster=h100_256", "training.steps=20")
    # What the parent has as another value goes by the name of its stage.
    assert planned[11] == Planned(
        ("data=demo", "optim.lr=2e-4", "model=1b", "training.steps=0", "cluster=local"),
        {"optim.lr": "2e-4", "decay.training.steps": "20"},
        "check",
        Parent(7, "init"),
    )


def test_a_child_has_the_resources_of_its_parent_unless_a_rule_of_its_own_holds(read: Read) -> None:
    study = read(
        "stages:\n"
        "  a: {overrides: [model=1b], resources: [{overrides: [cluster=h100_64, parallel=fsdp, parallel.dp=auto]}]}\n"
        "  b: {after: a, start: init, overrides: [parallel=hsdp]}\n"
        "  c: {after: b, start: init, resources: [{overrides: [cluster=local]}]}\n"
    )
    assert texts(expand(study)) == [
        "model=1b cluster=h100_64 parallel=fsdp parallel.dp=auto",
        "model=1b cluster=h100_64 parallel.dp=auto parallel=hsdp",
        "model=1b parallel=hsdp cluster=local",
    ]


def test_axes_of_a_stage_win_over_rules_of_the_study(read: Read) -> None:
    study = read("resources: [{overrides: [cluster=local]}]\nstages: {a: {axes: {cluster: [h100_64, h100_256]}}}")
    assert texts(expand(study)) == ["cluster=h100_64", "cluster=h100_256"]


def test_stages_without_a_parent_stand_alone(read: Read) -> None:
    planned = expand(read("stages: {a: {axes: {optim.lr: [1, 2]}}, b: {overrides: [model=1b]}}"))
    assert [(point.stage, point.parent) for point in planned] == [("a", None), ("a", None), ("b", None)]


def test_filters_of_a_stage_see_the_values_of_its_parents(read: Read) -> None:
    study = read(
        "stages:\n"
        "  a: {axes: {optim.lr: [1, 2]}, seeds: 2}\n"
        "  b: {after: a, start: init, only: optim.lr == 2 and seed == 43, axes: {tag: [x]}}\n"
    )
    assert [(point.parent, point.label["tag"]) for point in expand(study) if point.stage == "b"] == [
        (Parent(3, "init"), "x")
    ]


def test_the_same_child_of_two_parents_is_one_unless_it_takes_their_checkpoints(
    read: Read, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "stages: {{a: {{axes: {{optim.lr: [1, 2]}}}}, b: {{after: a, start: {}, axes: {{optim.lr: [3]}}}}}}"
    once = expand(read(text.format("none")))
    assert [(point.label, point.parent) for point in once[2:]] == [({"optim.lr": "3"}, Parent(0, "none"))]
    assert "note: 1 point is left out, the same as others of" in capsys.readouterr().err
    both = expand(read(text.format("init")))
    assert [(dict(point.label), point.parent) for point in both[2:]] == [
        ({"a.optim.lr": "1", "optim.lr": "3"}, Parent(0, "init")),
        ({"a.optim.lr": "2", "optim.lr": "3"}, Parent(1, "init")),
    ]
    assert capsys.readouterr().err == ""


def test_values_that_come_twice_make_one_point(read: Read, capsys: pytest.CaptureFixture[str]) -> None:
    planned = expand(read("axes: {optim.lr: [1, 2, 1], tag: [x, x]}"))
    assert labels(planned) == ["optim.lr=1 tag=x", "optim.lr=2 tag=x"]
    assert "note: 4 points are left out, the same as others of" in capsys.readouterr().err


def test_what_is_typed_wins_in_all_stages_and_multiplies(read: Read, capsys: pytest.CaptureFixture[str]) -> None:
    study = read(LADDER)
    typed = [["cluster=slurm_dev", f"optim.weight_decay={decay}", "optim.lr=5e-4"] for decay in ("0.0", "0.1")]
    planned = expand(study, typed)
    assert [point.stage for point in planned] == ["small", "large", "decay", "decay", "check", "check"] * 2
    assert planned[6].label == {"optim.lr": "5e-4", "optim.weight_decay": "0.1"}
    assert planned[10].parent == Parent(8, "init")
    for point in planned:
        assert {"cluster=slurm_dev", "optim.lr=5e-4"} <= {*point.overrides}
        assert len({text.partition("=")[0] for text in point.overrides}) == len(point.overrides)
    assert capsys.readouterr().err == ""  # an axis that is typed has one value, nothing is left out


def test_filters_see_what_is_typed(read: Read) -> None:
    study = read("axes: {optim.lr: [1e-4, 1e-3]}\nonly: optim.lr < 1e-2\nexclude: optim.lr == 2e-4")
    assert labels(expand(study, [["optim.lr=3e-4"]])) == ["optim.lr=3e-4"]
    with pytest.raises(UserError, match="no point is left"):
        expand(study, [["optim.lr=2e-4"]])


def test_a_seed_that_is_typed_wins(read: Read) -> None:
    planned = expand(read("seeds: 2"), [["seed.model=7"]])
    assert texts(planned) == ["seed.data=42 seed.model=7", "seed.data=43 seed.model=7"]
    assert labels(planned) == ["seed=42", "seed=43"]


@pytest.mark.parametrize(
    ("first", "then", "left"),
    [
        ("optim.lr=1", "optim.lr=2", "optim.lr=2"),
        ("model=100m", "model=1b", "model=1b"),
        ("+cluster.slurm.environment.A=b", "cluster.slurm.environment.A=c", "++cluster.slurm.environment.A=c"),
        ("+cluster.slurm.environment.A=b", "+cluster.slurm.environment.A=c", "+cluster.slurm.environment.A=c"),
        ("+cluster.slurm.environment.A=b", "~cluster.slurm.environment.A", ""),
        ("~data.builder", "data.builder=null", "data.builder=null"),
        ("data.builder=null", "~data.builder", "~data.builder"),
        ("+lab/size@model=small", "+lab/size=small", "+lab/size@model=small +lab/size=small"),
    ],
)
def test_a_later_override_replaces_one_of_the_same_key(read: Read, first: str, then: str, left: str) -> None:
    study = read(f"overrides: ['{first}']\nstages: {{a: {{overrides: ['{then}']}}}}")
    assert texts(expand(study)) == [left]
    assert texts(expand(read(f"overrides: ['{first}']"), [[then]])) == [left]


def test_too_many_points(read: Read) -> None:
    values = ",".join(map(str, range(300)))
    study = read(
        f"stages: {{a: {{axes: {{tag: [{values}]}}}}, b: {{after: a, start: init, axes: {{optim.lr: [{values}]}}}}}}"
    )
    assert len(expand(study)) == 300 + 300 * 300
    with pytest.raises(UserError, match=r"stages\.b: that makes 180,600 points, at most 100,000 are legal"):
        expand(study, [["model=1b"], ["model=10b"]])


def test_a_search_has_no_points_but_trials(read: Read) -> None:
    study = read(
        "overrides: [model=1b, cluster=local]\n"
        "resources: [{when: optim.lr > 1e-3, overrides: [cluster=h100_64]}]\n"
        "search: {space: {optim.lr: {low: 1e-4, high: 1e-2, log: true}}, num_trials: 4}\n"
    )
    assert expand(study) == []
    assert trial(study, {"optim.lr": "0.0001"}) == Planned(
        ("model=1b", "cluster=local", "optim.lr=0.0001"), {"optim.lr": "0.0001"}
    )
    assert trial(study, {"optim.lr": "0.01"}, ["model=100m"]).overrides == (
        "cluster=h100_64",
        "optim.lr=0.01",
        "model=100m",
    )


GROUP = """
stages:
  a: {axes: {model: [debug], model.num_layers: [2, 4]}, overrides: [optim.min_lr=1e-5]}
  b: {after: a, overrides: [%s]}
"""


def test_a_value_of_an_axis_below_a_group_that_is_chosen_anew_is_told(
    read: Read, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = expand(read(GROUP % "model=100m"))
    assert kept[2].overrides == ("optim.min_lr=1e-5", "model.num_layers=2", "model=100m")
    told = capsys.readouterr().err
    assert "stages.b chooses model anew, and has model.num_layers of a still; type ~model.num_layers among" in told


def test_a_stage_deletes_an_axis_of_its_parents(read: Read, capsys: pytest.CaptureFixture[str]) -> None:
    planned = expand(read(GROUP % "model=100m, ~model.num_layers"))
    assert [point.overrides for point in planned[2:]] == [("optim.min_lr=1e-5", "model=100m")]
    assert "chooses model anew" not in capsys.readouterr().err


def test_filters_name_what_is_typed_and_nothing_that_is_not_known_yet(read: Read, tmp_path: Path) -> None:
    text = "axes: {optim.lr: [1, 2]}\nonly: optim.beta2 > 0.95\n"
    with pytest.raises(UserError, match=r"only: 'optim.beta2 > 0.95': no value for optim.beta2"):
        read(text)
    typed = [["optim.beta2=0.96"], ["optim.beta2=0.99"]]
    assert len(expand(read(text, {"optim.beta2"}), typed)) == 4
    with pytest.raises(UserError, match=r"optim.lr is \$\{optim.min_lr\}, known once a point is composed"):
        expand(read("axes: {optim.lr: [1, '${optim.min_lr}']}\nonly: optim.lr == 1\n"))
