"""The studies of sweeps/ and the examples of docs/sweeps.md are legal, and small enough to be tried."""

import re
from pathlib import Path

import pytest
import yaml

from mmhydra.compose import compose
from mmhydra.launch.preview import preview
from mmhydra.sweep.planned import Planned
from mmhydra.sweep.study.expand import expand, trial
from mmhydra.sweep.study.files import Study, find_study, known_studies, read_study
from mmhydra.sweep.study.space import corners, override_value
from mmhydra.testing import assert_legal

ROOT = Path(__file__).resolve().parents[3]
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PLACE = "/outputs/debug/0123456789ab/checkpoints/step-00000001"
TYPED = {"lr_ladder": ["cluster=slurm_dev"], "stable_decay": ["cluster=slurm_dev"]}  # also legal there


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MMHYDRA_CLUSTER", raising=False)


def points(study: Study, overrides: tuple[str, ...] = ()) -> list[Planned]:
    if study.search is None:
        return expand(study, [overrides])
    return [
        trial(study, {key: override_value(value) for key, value in corner.items()}, overrides)
        for corner in corners(study.search)
    ]


def with_parent(point: Planned) -> list[str]:
    """Its overrides, with a checkpoint that another run will write where it takes one."""
    start = point.parent.start if point.parent is not None else "none"
    taken = [] if start == "none" else [f"checkpoint.{start}_from={PLACE}", "checkpoint.awaits=true"]
    return [*point.overrides, *taken]


@pytest.mark.parametrize("name", known_studies())
def test_every_point_is_legal(name: str) -> None:
    study = read_study(find_study(name))
    found = [point for typed in ((), TYPED.get(name, ())) for point in points(study, tuple(typed))]
    assert found
    for point in found:
        assert_legal(*with_parent(point))


@pytest.mark.parametrize("name", known_studies())
def test_no_study_needs_a_confirmation(name: str) -> None:
    """What can be chosen of the points of a stage counts, at the time limit."""
    study = read_study(find_study(name))
    hours: dict[str | None, list[float]] = {}
    most: dict[str | None, int] = {}
    for point in points(study):
        config = compose(point.overrides).config
        hours.setdefault(point.stage, []).append(preview(config).gpu_hours or 0.0)
        most[point.stage] = point.num_best or 10**9
    total = sum(sum(sorted(values)[-most[stage] :]) for stage, values in hours.items())
    assert total <= 1000


@pytest.mark.parametrize("name", known_studies())
def test_a_header_says_how_it_is_started(name: str) -> None:
    assert f"python -m mmhydra.train -m sweep={name}\n" in find_study(name).read_text()


def test_the_demo_is_six_runs_over_two_axes() -> None:
    study = read_study(find_study("demo"))
    assert len(study.axes) == 2
    assert len(expand(study)) == 6


def test_the_ladder_goes_on_with_the_best_two() -> None:
    planned = expand(read_study(find_study("lr_ladder")))
    large = [point for point in planned if point.stage == "large"]
    assert {point.num_best for point in large} == {2}
    assert [planned[point.parent.index].label for point in large if point.parent] == [point.label for point in large]
    assert {override for point in planned for override in point.overrides if override.startswith("cluster=")} == {
        "cluster=h100_64",
        "cluster=h100_256",
    }


def test_decays_begin_where_the_stable_run_ends() -> None:
    planned = expand(read_study(find_study("stable_decay")))
    configs = [compose(point.overrides).config for point in planned]
    (stable,) = [config for config, point in zip(configs, planned, strict=True) if point.stage == "stable"]
    decays = [config for config, point in zip(configs, planned, strict=True) if point.stage == "decay"]
    assert stable.optim.decay_fraction == 0.0
    assert len(decays) == 3
    for decay in decays:
        assert decay.training.steps * (1 - decay.optim.decay_fraction) == stable.training.steps


def examples() -> list[str]:
    """The YAML blocks of docs/sweeps.md."""
    return re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "sweeps.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("number", range(len(examples())))
def test_examples_of_the_documents_are_legal(number: int, tmp_path: Path) -> None:
    text = examples()[number]
    head = "" if "question" in yaml.safe_load(text) else "question: Which?\nstop_rule: When it is known.\n"
    path = tmp_path / "example.yaml"
    path.write_text(head + text)
    for point in points(read_study(path)):
        assert_legal(*with_parent(point))


def test_studies_that_documents_name_are_there() -> None:
    named = {name for path in DOCS for name in re.findall(r"\bsweep=([a-z]\w*)", path.read_text())}
    assert named
    assert named <= {*known_studies()}
