"""Hydra's -m through our sweeper plugin: the points that Hydra makes, studies, and other applications."""

import os
import subprocess
import sys
import zipfile

import pytest
import yaml
from hatchling.builders.wheel import WheelBuilder
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper

from mmhydra import paths

STUDY = """
question: Does it work?
stop_rule: When all have ended.
overrides: [seed.data=7]
axes:
  optim.lr: [1e-3, 2e-3]
  training.steps: [200, 300]
"""


@pytest.fixture
def studies(lab) -> list[str]:
    """The flag for a folder with the study `mine`, and one with a point that can't run."""
    wrong = STUDY.replace("[200, 300]", "[200, -1]")
    return ["--config-dir", str(lab({"sweeps/mine.yaml": STUDY, "sweeps/wrong.yaml": wrong}))]


def test_hydra_finds_it_and_it_is_chosen_once(command):
    found = [each for each in Plugins.instance().discover(Sweeper) if "mmhydra" in each.__module__]
    assert [each.__module__ for each in found] == ["hydra_plugins.mmhydra_sweeper.sweeper"]
    code, out, _ = command("--cfg", "hydra", "-p", "hydra.sweeper")
    assert code == 0
    assert b"_target_: hydra_plugins.mmhydra_sweeper.sweeper.MmhydraSweeper" in out
    config_dir = paths.config_dir()
    assert [path for path in config_dir.rglob("*.yaml") if "hydra/sweeper" in path.read_text()] == [
        config_dir / "config.yaml"
    ]


def test_it_imports_nothing_but_hydra(tmp_path):
    code = (
        "import sys, hydra.core.plugins, hydra._internal.core_plugins.basic_sweeper; before = set(sys.modules)\n"
        "import hydra_plugins.mmhydra_sweeper.sweeper\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    names = ["hydra_plugins", "hydra_plugins.mmhydra_sweeper", "hydra_plugins.mmhydra_sweeper.sweeper"]
    assert set(done.stdout.split()) <= set(names)


@pytest.mark.parametrize(
    "swept",
    [
        ["tag=a,b", "seed.data=3,1,2"],
        ["seed.data=range(1,7,2)", "optim.lr=1e-3"],
        ["seed.data=choice(5,4)", "tag=choice(x,y)"],
        ["model=glob(*,exclude=1*)", "seed.data=1,2"],
        ["seed.data=sort(3,1,2)", "tag='a,b',c"],
    ],
)
def test_the_points_are_those_of_hydras_own_sweeper(command, swept):
    assert command("-m", *swept)[0] == 99
    ours = [(request.overrides, request.config) for request in command.started]
    assert command("-m", *swept, "hydra/sweeper=basic")[0] == 99
    assert ours == [(request.overrides, request.config) for request in command.started]
    assert len(ours) > 1


@pytest.mark.parametrize("params", ["+hydra.sweeper.params.tag='b,a'", "++hydra.sweeper.params={tag: 'b,a'}"])
def test_parameters_of_the_sweeper_come_first_as_in_hydra(command, params):
    assert command("-m", params, "seed.data=1,2")[0] == 99
    assert [(one.config.tag, one.config.seed.data) for one in command.started] == [
        ("b", 1),
        ("b", 2),
        ("a", 1),
        ("a", 2),
    ]


def test_a_study_s_points_are_combined_with_what_is_typed_and_that_wins(command, studies):
    assert command("-m", *studies, "sweep=mine", "optim.lr=5e-4", "tag=a,b")[0] == 99
    found = [(one.config.training.num_steps, one.config.optim.lr, one.config.tag) for one in command.started]
    assert sorted(found) == [(200, 5e-4, "a"), (200, 5e-4, "b"), (300, 5e-4, "a"), (300, 5e-4, "b")]
    assert {one.config.seed.data for one in command.started} == {7}
    assert not any("sweep" in text for one in command.started for text in one.overrides)


def test_one_wrong_point_of_a_study_starts_none_and_is_named_by_its_label(command, studies):
    code, out, err = command("-m", *studies, "sweep=wrong")
    assert (code, out, command.started) == (2, b"", [])
    assert "2 of 4 points can't run, so none is started\npoint 2 (optim.lr=1e-3 training.steps=-1): " in err
    assert "point 4 (optim.lr=2e-3 training.steps=-1): " in err


def test_a_dry_run_prints_a_document_for_each_point(command, studies):
    code, out, err = command("-m", *studies, "sweep=mine", "dry_run=config")
    assert code == 0
    documents = list(yaml.safe_load_all(out))
    assert [document["training"]["steps"] for document in documents] == [200, 300, 200, 300]
    assert err.count("run id: pending (demo-v2 is not in ") == 4
    assert "cost: local: 4 points; the cluster has no time limit, so no price is known" in err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["sweep=mine"], "sweep: a study is many runs; type -m beside it: -m sweep=mine"),
        (["resume=x", "sweep=mine"], "sweep: a study is many runs; type -m beside it"),
        (["-m", "sweep=mine,wrong"], "sweep=mine,wrong: a sweep is made of one study; type sweep=NAME"),
        (["-m", "sweep=[mine]"], "a sweep is made of one study"),
        (["-m", "sweep=mien"], "sweep=mien: no such study; did you mean sweep=mine?"),
        (["-m", "sweep=mine", "hydra/sweeper=basic"], "hydra/sweeper=basic knows no studies; leave it out"),
        (["-m", "sweep=mine", "dry_run=config,null"], "dry_run= is for all points of a study or for none"),
        (["--prune", "tag=a"], "type -m beside it"),
    ],
)
def test_what_is_refused(command, studies, arguments, text):
    code, out, err = command(*studies, *arguments)
    assert (code, out, command.started) == (2, b"", [])
    assert text in err
    assert "Traceback" not in err


def test_an_installed_wheel_has_its_own_copy_of_the_studies(tmp_path):
    root = paths.checkout()
    if root is None:
        pytest.skip("an installed wheel has no sources")
    (wheel,) = WheelBuilder(str(root)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(wheel) as file:
        file.extractall(tmp_path / "installed")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MMHYDRA_")}
    environment = {**kept, "PYTHONPATH": str(tmp_path / "installed")}
    line = [sys.executable, "-m", "mmhydra.train", "-m", "sweep=demo", "dry_run=config"]
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    studies = tmp_path / "installed" / "mmhydra" / "studies"
    assert {path.name for path in studies.iterdir()} == {path.name for path in (root / "sweeps").glob("*.yaml")}
    rates = [document["optim"]["lr"] for document in yaml.safe_load_all(done.stdout)]
    assert rates == [1e-3, 1e-3, 3e-3, 3e-3, 1e-2, 1e-2]
    (studies / "demo.yaml").unlink()
    gone = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert "sweep=demo: no such study" in gone.stderr, "nothing else was read"


OTHER = """
import hydra
@hydra.main(version_base="1.3", config_path=None)
def main(config): ...
main()
"""


def test_another_application_that_chooses_it_is_told_what_to_type(tmp_path):
    file = tmp_path / "other.py"
    file.write_text(OTHER)
    done = subprocess.run(
        [sys.executable, str(file), "-m", "hydra/sweeper=mmhydra", "+a=1,2"],
        cwd=tmp_path,
        env={**os.environ, "HYDRA_FULL_ERROR": "0"},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "hydra/sweeper=mmhydra runs sweeps of mmhydra alone" in done.stderr
    assert "Traceback" not in done.stderr
