"""`python -m mmhydra.train`: what it prints, what it returns, what it imports, what it leaves behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmhydra import train
from mmhydra.compose import compose
from mmhydra.config.frozen import from_yaml, to_yaml

MISSION = ["model=10b", "parallel=tp4pp8", "data=mix_v0.2"]
NEED = "parallel=tp4pp8 needs a multiple of 32 GPUs (tp 4 x pp 8), cluster=local has at most 8 processes"
ROOT = str(Path(train.__file__).parent.parent)
FIT = "clusters that fit: h100_64 (64), h100_256 (256); type cluster=NAME"


def test_the_mission_line_prints_the_config_and_says_which_clusters_fit(command):
    code, out, err = command(*MISSION, "dry_run=config")
    assert code == 0
    assert out == to_yaml(compose([*MISSION, "dry_run=config"]).config)
    assert from_yaml(out).model.name == "10b"
    assert f"note: parallel.dp, parallel.tp, parallel.pp, cluster.max_processes: {NEED}; {FIT}" in err
    assert "run id: pending (dataset-v0.1 is not in " in err
    assert "size: 32 processes, 1,192,093 steps, 10,000,000,876,544 tokens" in err
    assert "error" not in err


def test_without_a_dry_run_the_same_text_is_an_error(command):
    code, out, err = command(*MISSION)
    assert (code, out) == (2, b"")
    assert err.startswith("error: ")
    assert f"{NEED}; {FIT}" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("dry_run", [["dry_run=config"], []])
def test_a_cluster_that_is_asked_for_must_fit(command, dry_run):
    code, out, err = command(*MISSION, "cluster=local", *dry_run)
    assert (code, out) == (2, b"")
    assert f"{NEED}; {FIT}" in err


def test_the_cluster_of_the_environment_fits_without_a_note(command, monkeypatch):
    monkeypatch.setenv("MMHYDRA_CLUSTER", "h100_256")
    code, out, err = command(*MISSION, "dry_run=config")
    assert code == 0
    assert [line.split(":")[0] for line in err.splitlines()] == ["run id", "size"]
    assert "256 processes" in err
    assert "at the time limit of 48 h 12,288 GPU-hours, 49,152 USD" in err
    assert from_yaml(out).dp == 8


def test_a_dry_run_still_refuses_what_no_cluster_cures(command):
    code, out, err = command(*MISSION, "dry_run=config", "optim.min_lr=1")
    assert (code, out) == (2, b"")
    assert "optim.min_lr, optim.lr" in err


def test_a_legal_run_is_submitted(command):
    code, out, err = command("tag=x")
    assert (code, out, err) == (99, b"", "")


def test_the_text_of_a_dry_run_is_utf_8_whatever_the_locale(command):
    code, out, _ = command("dry_run=config", "tag='ü x'")
    assert code == 0
    assert "tag: ü x\n".encode() in out


@pytest.mark.parametrize(
    "arguments", [["model=nope"], ["modle=debug"], ["training.steps=abc"], ["+training.foo=1"], ["training.steps=0.5"]]
)
def test_a_wrong_command_line_ends_with_2(command, arguments):
    for flags in ([], ["dry_run=config"], ["-m", "dry_run=config"]):
        code, out, err = command(*flags, *arguments)
        assert (code, out) == (2, b"")
        assert err
        assert "Traceback" not in err


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--help"], "parallel: fsdp, hsdp"),
        (["--cfg", "job"], "global_batch_size: 16"),
        (["--cfg", "job", "tag=x"], "tag: x"),
        (["--info"], "Hydra"),
    ],
)
def test_the_flags_of_hydra_work(command, flags, text):
    code, out, err = command(*flags)
    assert (code, err) == (0, "")
    assert text in out.decode()


def test_a_sweep_gives_each_point_in_order(command):
    code, out, err = command("-m", "dry_run=config", "tag=a,b")
    assert code == 0
    assert err.count("run id: ") == 2
    expected = [compose(["dry_run=config", f"tag={tag}"]).config for tag in "ab"]
    assert out == b"---\n".join(to_yaml(config) for config in expected)


@pytest.mark.parametrize("arguments", [["dry_run=config", "-m", "tag=a"], ["dry_run=config", "tag=a", "--multirun"]])
def test_the_sweep_flag_may_stand_anywhere(command, arguments):
    code, out, _ = command(*arguments)
    assert code == 0
    assert from_yaml(out).tag == "a"


def test_a_wrong_point_of_a_sweep_stops_all_of_it(command):
    code, out, err = command("-m", "dry_run=config", "training.steps=abc,300")
    assert (code, out) == (2, b"")
    assert "got 'abc'" in err
    assert "Traceback" not in err


def test_flags_that_exclude_each_other_are_refused(command):
    code, _, err = command("-m", "--info")
    assert code == 2
    assert err.startswith("error: Only one of ")


def test_a_failure_in_a_sweep_is_no_error_of_the_command_line(command, monkeypatch):
    def fail(requests):
        raise RuntimeError("out of luck")

    command.submits(fail, monkeypatch)
    with pytest.raises(RuntimeError, match="out of luck"):
        command("-m", "tag=a")


DRY_RUN = """
import sys
from mmhydra.train import main
sys.argv = ["train", "model=10b", "parallel=tp4pp8", "data=mix_v0.2", "dry_run=config"]
code = main()
heavy = {"torch", "torchtitan", "torchao", "numpy", "rich", "webdataset", "aim"} & set(sys.modules)
assert not heavy, heavy
sys.exit(code)
"""


def test_a_dry_run_imports_nothing_heavy_and_leaves_no_file(tmp_path):
    environment = {**os.environ, "PYTHONPATH": ROOT}
    line = [sys.executable, "-c", DRY_RUN]
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert os.listdir(tmp_path) == []


def test_a_dry_run_needs_neither_git_nor_a_home(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name not in ("PATH", "HOME")}
    environment |= {"PATH": str(tmp_path), "PYTHONPATH": ROOT}
    line = [sys.executable, "-m", "mmhydra.train", "dry_run=config"]
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True)
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr
    assert from_yaml(done.stdout).name == "debug"


def test_bytes_that_are_no_text_are_refused(command):
    for tag in ("'\udcff'", "'a\udc80b'"):
        code, out, err = command("dry_run=config", f"tag={tag}")
        assert (code, out) == (2, b"")
        assert "tag: text that is no UTF-8" in err


@pytest.mark.parametrize("key", ["paths.outputs", "paths.data", "checkpoint.init_from", "resume", "extend"])
@pytest.mark.parametrize("dry_run", [["dry_run=config"], []])
def test_a_path_that_is_too_long_is_refused(command, key, dry_run):
    code, out, err = command(*dry_run, f"{key}=/tmp/{'x' * 5000}")
    assert (code, out) == (2, b"")
    assert "Traceback" not in err
    assert ("File name too long" if key in ("resume", "extend") else f"{key}: a name of 5000 bytes") in err


def test_the_folder_of_a_user_that_is_none_is_refused(command):
    code, _, err = command("paths.outputs='~nobody-here/x'")
    assert code == 2
    assert "is no absolute path" in err


@pytest.mark.parametrize("key", ["resume", "extend"])
@pytest.mark.parametrize("flags", [["--cfg", "job"], ["--info", "defaults"]])
def test_flags_do_not_show_conf_for_a_run(command, key, flags, tmp_path):
    code, out, err = command(*flags, f"{key}={tmp_path}")
    assert (code, out) == (2, b"")
    assert f"{key}= takes the config of a run; type dry_run=config beside it" in err


def start(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A shell line with $TRAIN in a folder."""
    environment = {**os.environ, "PYTHONPATH": ROOT, "TRAIN": f"{sys.executable} -m mmhydra.train"}
    return subprocess.run(["bash", "-c", line], cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("line", ["$TRAIN dry_run=config > /dev/full", "$TRAIN -m dry_run=config tag=a,b > /dev/full"])
def test_standard_output_that_is_full_is_no_traceback(tmp_path, line):
    done = start(line, tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "error: standard output can't be written: No space left on device"
    assert "Traceback" not in done.stderr


def test_a_folder_that_was_deleted_is_told(tmp_path):
    done = start("mkdir x && cd x && rmdir ../x && $TRAIN dry_run=config", tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: the current folder does not exist any more; cd to another\n"
