"""Hydra's habits: --help, --cfg, --info, -m and the rest work as people know them, and what can't work is refused."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from fake_run import FakeRun

from mmhydra import paths, train
from mmhydra.compose import compose
from mmhydra.config.frozen import from_yaml
from mmhydra.run.directory import RunDirectory
from mmhydra.run.identity import identify

GROUPS = {path.name: sorted(file.stem for file in path.glob("*.yaml")) for path in paths.config_dir().glob("*/")}
STARTED = 99


@pytest.fixture
def run(tmp_path_factory, default_config):
    """A frozen run with a checkpoint, beside the folder that has to stay empty."""
    identity = identify(default_config, {}, None)
    directory = RunDirectory(tmp_path_factory.mktemp("outputs") / default_config.name / identity.run_id)
    directory.create(identity)
    made = FakeRun(default_config, directory, {})
    made.save(made.start(), 100)
    return directory


# ---------------------------------------------------------------- --help


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_names_all_groups_with_their_choices(command, flag):
    code, out, err = command(flag)
    assert (code, err) == (0, "")
    for group, choices in GROUPS.items():
        assert f"\n{group}: {', '.join(choices)}\n" in out.decode()
    assert "$" not in out.decode()  # every part of the template was filled in


def test_each_example_of_the_help_composes(command, run):
    _, out, _ = command("--help")
    lines = re.findall(r"^  (python -m mmhydra\.train.*)$", out.decode(), re.MULTILINE)
    assert len(lines) >= 5
    for line in lines:
        arguments = [word.replace("outputs/debug/RUN_ID", str(run.path)) for word in shlex.split(line)[3:]]
        assert "RUN_ID" not in " ".join(arguments)
        code, _, err = command(*arguments)
        assert code == (0 if "dry_run=config" in arguments else STARTED), err


def test_help_of_hydra_and_its_version(command):
    code, out, _ = command("--hydra-help")
    assert code == 0
    assert "--multirun,-m" in out.decode()
    code, out, _ = command("--version")
    assert code in (0, None)
    assert out.decode().startswith("Hydra 1.3")


def test_help_is_no_excuse_for_a_typo(command):
    code, out, err = command("--help", "modle=debug")
    assert (code, out) == (2, b"")
    assert "did you mean model?" in err


# ---------------------------------------------------------------- --cfg and --info


def test_cfg_job_is_what_a_run_is_made_of(command):
    code, out, err = command("--cfg", "job", "--resolve", "model=100m", "parallel=fsdp", "tag=x")
    assert (code, err) == (0, "")
    tree = yaml.safe_load(out)
    config = compose(["model=100m", "parallel=fsdp", "tag=x"]).config.model_dump()
    assert {key: tree[key] for key in ("model", "parallel", "seed", "tag", "name")} == {
        key: config[key] for key in ("model", "parallel", "seed", "tag", "name")
    }
    assert "hydra" not in tree


def test_cfg_shows_interpolations_unless_they_are_resolved(command):
    assert b"name: ${model.name}" in command("--cfg", "job")[1]
    assert b"name: debug" in command("--cfg", "job", "--resolve")[1]


@pytest.mark.parametrize(
    ("kind", "there", "absent"), [("hydra", "hydra", "model"), ("all", "model", None), ("job", "model", "hydra")]
)
def test_the_kinds_of_cfg(command, kind, there, absent):
    code, out, err = command("--cfg", kind)
    assert (code, err) == (0, "")
    tree = yaml.safe_load(out)
    assert there in tree
    assert absent not in tree


@pytest.mark.parametrize("flag", ["-p", "--package"])
def test_cfg_of_one_package(command, flag):
    code, out, _ = command("--cfg", "job", flag, "model", "model=100m")
    assert code == 0
    assert yaml.safe_load(out) == compose(["model=100m"]).config.model.model_dump()
    code, out, err = command("--cfg", "job", flag, "nope")
    assert (code, out) == (2, b"")
    assert "'nope' not found" in err


@pytest.mark.parametrize("arguments", [["--resolve"], ["-p", "model"], ["--resolve", "tag=x"], ["-m", "--resolve"]])
def test_what_says_how_cfg_prints_needs_it(command, arguments):
    code, out, err = command(*arguments)
    assert (code, out) == (2, b"")
    assert "type --cfg job beside" in err


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        ([], ["Config search path", "Defaults List", "Installed Hydra Plugins"]),
        (["config"], ["Config search path", "Defaults List"]),
        (["defaults"], ["Defaults List", "model/debug"]),
        (["defaults-tree"], ["Defaults Tree", "model: debug"]),
        (["plugins"], ["Installed Hydra Plugins"]),
        (["searchpath"], ["Config search path", "conf"]),
    ],
)
def test_the_kinds_of_info(command, kind, texts):
    code, out, err = command("--info", *kind)
    assert (code, err) == (0, "")
    assert [text for text in texts if text not in out.decode()] == []


def test_info_follows_the_command_line(command):
    _, out, _ = command("--info", "defaults", "experiment=alpha_1b")
    assert "model/1b" in out.decode()
    assert "model/debug" not in out.decode()


@pytest.mark.parametrize(
    "flags", [["-m", "--cfg", "job"], ["-m", "--info"], ["--cfg", "job", "--info"], ["--run", "-m"]]
)
def test_flags_that_exclude_each_other(command, flags):
    code, out, err = command(*flags)
    if flags == ["--run", "-m"]:
        assert code == STARTED  # --run is what happens anyway
        return
    assert (code, out) == (2, b"")
    assert "Only one of" in err
    assert "Traceback" not in err


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--nope"], "unrecognized arguments: --nope"),
        (["tag=x", "--verbose"], "unrecognized arguments: --verbose"),
        (["-x"], "unrecognized arguments: -x"),
        (["--cfg", "nope"], "choose from"),
        (["--cfg"], "expected one argument"),
        (["--info", "nope"], "choose from"),
        (["--conf", "x"], "ambiguous option"),
        (["--config-name", "x"], "--config-name: the root of a run is conf/config.yaml"),
        (["--config-name=x"], "--config-name: the root of a run is conf/config.yaml"),
        (["-cn", "x", "-m"], "--config-name: the root of a run is conf/config.yaml"),
        (["--config-path", "x"], "--config-path: the root of a run is conf/config.yaml"),
        (["-cp", "x"], "--config-path: the root of a run is conf/config.yaml"),
        (["--experimental-rerun", "x.pickle"], "--experimental-rerun: the root"),
        (["--config-name", "x", "--config-path", "y"], "--config-name --config-path: the root"),
    ],
)
def test_flags_that_are_none_or_would_make_another_program(command, arguments, text):
    code, out, err = command(*arguments)
    assert (code, out) == (2, b"")
    assert text in err
    assert err.startswith("error: ")
    assert "Traceback" not in err
    assert "usage:" not in err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["hydra.run.dir=x"], "paths.outputs"),
        (["hydra.mode=MULTIRUN"], "type -m"),
        (["hydra/launcher=basic"], "cluster=NAME"),
        (["+hydra.callbacks.x={_target_: os.system}"], "hydra.callbacks.x: Hydra only composes here"),
        (["hydra.job.chdir=true"], "hydra.job.chdir: Hydra only composes here"),
        (["hydra.sweep.dir=x"], "paths.outputs"),
        (["~hydra.run"], "hydra.run: Hydra only composes here"),
        (["hydra={mode: MULTIRUN}"], "hydra: Hydra only composes here"),
        (["hydra/job_logging=default"], "hydra/job_logging: Hydra only composes here"),
    ],
)
@pytest.mark.parametrize("flags", [[], ["-m"]])
def test_settings_of_hydra_that_would_change_nothing(command, flags, arguments, text):
    code, out, err = command(*flags, *arguments)
    assert (code, out) == (2, b"")
    assert text in err


# ---------------------------------------------------------------- anywhere on the line


@pytest.mark.parametrize(
    "arguments",
    [
        ["--cfg", "job", "tag=x", "seed.data=7", "-p", "seed"],
        ["tag=x", "--cfg", "job", "-p", "seed", "seed.data=7"],
        ["tag=x", "seed.data=7", "--package=seed", "--cfg=job"],
        ["-p", "seed", "tag=x", "-c", "job", "seed.data=7"],
    ],
)
def test_flags_stand_before_between_and_after_overrides(command, arguments):
    code, out, err = command(*arguments)
    assert (code, err) == (0, "")
    assert out.decode() == "# @package seed\nmodel: 42\ndata: 7\n"


@pytest.mark.parametrize(
    "arguments", [["-m", "tag=a", "seed.data=7"], ["tag=a", "-m", "seed.data=7"], ["tag=a", "seed.data=7", "-m"]]
)
def test_a_sweep_flag_anywhere(command, arguments):
    assert command(*arguments)[0] == STARTED
    assert [(request.config.tag, request.config.seed.data) for request in command.started] == [("a", 7)]


def test_two_dashes_end_the_flags(command):
    assert command("--", "tag=x")[0] == STARTED
    assert command.started[0].config.tag == "x"


# ---------------------------------------------------------------- -m


def points(command, *arguments):
    code, _, err = command("-m", *arguments)
    assert code == STARTED, err
    return command.started


def test_several_points_start_in_order(command):
    found = points(command, "optim.lr=4e-3,2e-3", "tag=a,b", "seed.data=7")
    values = [(request.config.optim.lr, request.config.tag) for request in found]
    assert values == [(4e-3, "a"), (4e-3, "b"), (2e-3, "a"), (2e-3, "b")]
    assert {request.config.seed.data for request in found} == {7}


def test_a_point_is_what_the_same_line_without_a_sweep_is(command):
    swept = points(command, "model=debug,100m", "parallel=fsdp", "tag='a b'")
    for request, model in zip(swept, ["debug", "100m"], strict=True):
        plain = compose([f"model={model}", "parallel=fsdp", "tag='a b'"])
        assert request.config == plain.config
        assert request.overrides == plain.overrides
        assert request.origins.describe(["training.seq_len"]) == plain.origins.describe(["training.seq_len"])


@pytest.mark.parametrize(
    ("sweep", "values"),
    [
        ("seed.data=range(1,3)", [1, 2]),
        ("seed.data=sort(choice(5,9),reverse=true)", [9, 5]),
        ("seed.data=5", [5]),
    ],
)
def test_sweeps_of_numbers(command, sweep, values):
    assert [request.config.seed.data for request in points(command, sweep)] == values


def test_a_sweep_of_texts_with_commas_and_blanks(command):
    assert [request.config.tag for request in points(command, "tag='a,b',\"c d\"")] == ["a,b", "c d"]


@pytest.mark.parametrize(
    ("sweep", "choices"),
    [
        ("optim=glob([adamw_c*,adamw_w*])", ["adamw_cosine", "adamw_wsd"]),
        ("precision=glob(*,exclude=[float8*])", ["bf16", "fp32"]),
    ],
)
def test_a_pattern_chooses_files_of_a_group(command, sweep, choices):
    assert [request.overrides for request in points(command, sweep)] == [
        (f"{sweep.partition('=')[0]}={name}",) for name in choices
    ]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["model=glob(x*)"], "model=glob(x*) finds no choice; legal: 100m"),
        (["tag=glob(*)"], "tag=glob(*): glob() is for groups; type the values, as in tag=A,B"),
        (["model=debug,nope"], "model=nope: no such choice"),
        (["model=range(1,3)"], "model=1: no such choice"),
        (["model=interval(1,3)"], "a group has choices, not ranges"),
        (["training.stesp=1,2"], "training.stesp: no such key; did you mean training.steps"),
        (["modle=debug,1b"], "did you mean model?"),
        (["optim.lr=interval(0,1)"], "INTERVAL_SWEEP"),
        (["tag=tag(x,a,b)"], "not of the form KEY=VALUE"),
        (["hydra.sweep.dir=a,b"], "hydra.sweep.dir: Hydra only composes"),
        (["resume=a,b"], "error: "),
    ],
)
def test_a_wrong_sweep_starts_nothing(command, arguments, text):
    code, out, err = command("-m", *arguments)
    assert (code, out) == (2, b"")
    assert text in err
    assert "Traceback" not in err
    assert len(err) < 3000


@pytest.mark.parametrize("dry_run", [[], ["dry_run=config"]])
def test_wrong_points_are_told_and_none_is_started(command, dry_run):
    code, out, err = command("-m", "training.steps=abc,300,-1", *dry_run)
    assert (code, out) == (2, b"")
    assert err.startswith("error: 2 of 3 points can't run, so none is started\npoint 1 (training.steps=abc")
    assert "training.steps=abc (command line)" in err
    assert "\npoint 3 (training.steps=-1" in err


def test_a_sweep_may_go_on_from_a_run(command, run):
    found = points(command, f"extend={run.path}", "training.steps=300,400")
    assert [request.config.training.steps for request in found] == [300, 400]
    assert all(request.config.checkpoint.extend_from for request in found)
    (request,) = points(command, f"resume={run.path}")
    assert request.run == run


def test_a_sweep_leaves_the_environment_as_it_was(command, monkeypatch):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    points(command, "tag=a")
    assert sys.argv[1:] == ["-m", "tag=a"]
    assert os.environ["HYDRA_FULL_ERROR"] == "0"


# ---------------------------------------------------------------- HYDRA_FULL_ERROR, and what stays behind


@pytest.mark.parametrize(
    "arguments",
    [
        ["-m", "training.steps=abc"],
        ["--cfg", "job", "-p", "nope"],
        ["name=${nope}"],
        ["-m", "--info"],
    ],
)
def test_the_variable_for_stack_traces_changes_nothing(command, monkeypatch, arguments):
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    expected = command(*arguments)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    assert command(*arguments) == expected
    assert "Traceback" not in expected[2]


@pytest.mark.parametrize(
    "arguments", [["dry_run=config"], ["-m", "dry_run=config", "tag=a,b"], ["-m", "tag=a", "lr=1"]]
)
def test_nothing_of_hydra_stays_behind(tmp_path, arguments):
    line = [sys.executable, "-m", "mmhydra.train", *arguments]
    root = str(Path(train.__file__).parent.parent)
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": root, "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    environment |= {"MMHYDRA_DATA": str(tmp_path / "data"), "MMHYDRA_OUTPUTS": str(tmp_path / "outputs")}
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True)
    assert done.returncode == (2 if "lr=1" in arguments else 0), done.stderr
    if arguments == ["dry_run=config"]:
        assert from_yaml(done.stdout).name == "debug"
    assert list(tmp_path.iterdir()) == []
