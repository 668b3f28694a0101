"""Hydra's -m through our launcher plugin: its settings, what starts when, exit codes, and other applications.

Hydra's LauncherTestSuite is not used: it counts calls of the task function and folders of Hydra, and here are neither.
"""

import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import fields
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder
from hydra.core.plugins import Plugins
from hydra.core.utils import JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import OmegaConf

from mmhydra import paths, train
from mmhydra.compose.launcher_keys import CLUSTER_KEYS
from mmhydra.config.typed import is_known
from mmhydra.errors import ExitCode

SLURM = ["cluster=slurm_dev", "parallel=tp2pp2"]
# All settings of hydra-submitit-launcher 1.2.0 for SLURM.
SUBMITIT = [
    *("submitit_folder", "timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes", "name"),
    *("stderr_to_stdout", "partition", "qos", "comment", "constraint", "exclude", "gres", "cpus_per_gpu", "account"),
    *("gpus_per_task", "mem_per_gpu", "mem_per_cpu", "signal_delay_s", "max_num_timeout", "additional_parameters"),
    *("array_parallelism", "setup"),
]


def plugin() -> type[Launcher]:
    """The class, found as Hydra finds it."""
    found = Plugins.instance().discover(Launcher)
    (launcher,) = [each for each in found if each.__module__ == "hydra_plugins.mmhydra_launcher.launcher"]
    return launcher


# ---------------------------------------------------------------- the plugin and its package


def test_hydra_finds_it_and_it_has_the_names_of_the_table():
    module = sys.modules[plugin().__module__]
    names = {field.name for field in fields(module.MmhydraLauncherConf)}
    assert names == {*CLUSTER_KEYS, "_target_"}
    assert all(getattr(module.MmhydraLauncherConf(), name) is None for name in CLUSTER_KEYS)
    assert {key for key in CLUSTER_KEYS.values() if not is_known(key)} == set()


def test_it_is_chosen_once(command):
    code, out, _ = command("--cfg", "hydra", "-p", "hydra.launcher")
    assert code == 0
    assert b"_target_: hydra_plugins.mmhydra_launcher.launcher.MmhydraLauncher" in out
    config_dir = paths.config_dir()
    files = [path for path in config_dir.rglob("*.yaml") if "hydra/launcher" in path.read_text()]
    assert files == [config_dir / "config.yaml"]


def test_it_imports_nothing_but_hydra(tmp_path):
    code = (
        "import sys, hydra.core.plugins, hydra.core.utils, hydra.plugins.launcher; before = set(sys.modules)\n"
        "import hydra_plugins.mmhydra_launcher.launcher\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    names = ["hydra_plugins", "hydra_plugins.mmhydra_launcher", "hydra_plugins.mmhydra_launcher.launcher"]
    assert set(done.stdout.split()) <= set(names)


def test_a_wheel_holds_it(tmp_path):
    root = paths.checkout()
    if root is None:
        pytest.skip("an installed wheel has no sources")
    (wheel,) = WheelBuilder(str(root)).build(directory=str(tmp_path), versions=["standard"])
    names = zipfile.ZipFile(wheel).namelist()
    assert "hydra_plugins/mmhydra_launcher/launcher.py" in names
    assert "hydra_plugins/__init__.py" not in names


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("setting", "key", "value"),
    [
        ("partition=high", "cluster.partition", "high"),
        ("timeout_min=7", "cluster.time_limit_min", 7),
        ("nodes=2", "cluster.nodes", 2),
        ("gpus_per_node=4", "cluster.gpus_per_node", 4),
        ("cpus_per_task=3", "cluster.slurm.cpus_per_task", 3),
        ("mem_gb=2", "cluster.slurm.mem_gb", 2.0),
        ("account=lab", "cluster.slurm.account", "lab"),
        ("qos=high", "cluster.slurm.qos", "high"),
        ("constraint='a100|h100'", "cluster.slurm.constraint", "a100|h100"),
        ("comment='of ${cluster.name}, x=1'", "cluster.slurm.comment", "of slurm_dev, x=1"),
        ("dependency='afterok:12'", "cluster.slurm.dependency", "afterok:12"),
        ("exclude=dev4", "cluster.slurm.exclude", ["dev4"]),
        ("exclude=[dev3,dev4]", "cluster.slurm.exclude", ["dev3", "dev4"]),
        ("exclude='dev3,dev4'", "cluster.slurm.exclude", ["dev3,dev4"]),
        ("nodelist='dev[1-2]'", "cluster.slurm.nodelist", ["dev[1-2]"]),
        ("signal_delay_s=99", "cluster.slurm.signal_delay_s", 99),
        ("setup=['module load cuda','x=\"a b\"']", "cluster.slurm.setup", ["module load cuda", 'x="a b"']),
        ("srun_args='--cpu-bind=none'", "cluster.slurm.srun_args", ["--cpu-bind=none"]),
        ("gres=gpu:1", "cluster.slurm.additional_parameters", {"gres": "gpu:1"}),
        (
            "additional_parameters={mail-user: 'a b', nice: 3}",
            "cluster.slurm.additional_parameters",
            {"mail-user": "a b", "nice": 3},
        ),
        ("additional_parameters.reservation=maint", "cluster.slurm.additional_parameters", {"reservation": "maint"}),
        ("partition=null", "cluster.partition", "main"),  # null is what the cluster says
        ("additional_parameters=null", "cluster.slurm.additional_parameters", {}),
    ],
)
def test_a_setting_is_the_key_of_the_cluster(command, setting, key, value):
    code, _, err = command("-m", *SLURM, "tag=a,b", f"hydra.launcher.{setting}")
    assert code == 99, err
    assert [request.config.tag for request in command.started] == ["a", "b"]
    for request in command.started:
        found = request.config
        for part in key.split("."):
            found = getattr(found, part)
        assert found == value
        assert not any("hydra" in override for override in request.overrides)
    name = setting.partition("=")[0]
    assert f"note: hydra.launcher.{name} is read as cluster." in err


@pytest.mark.parametrize("name", SUBMITIT)
def test_each_name_of_submitits_launcher_is_read_or_says_what_to_type(command, name):
    if name in CLUSTER_KEYS:
        return
    code, out, err = command("-m", *SLURM, f"hydra.launcher.{name}=1")
    assert (code, out) == (2, b"")
    assert err.startswith(f"error: hydra.launcher.{name}: ")
    assert "type " in err or "leave it out" in err
    assert "legal" not in err


@pytest.mark.parametrize(
    ("settings", "texts"),
    [
        (["partitoin=x"], ["did you mean hydra.launcher.partition?", "legal: partition, timeout_min"]),
        (["zzz=x"], ["hydra.launcher.zzz: no such setting; legal: partition"]),
        (["_target_=os.system"], ["hydra.launcher._target_: no such setting"]),
        (["partition=a,b"], ["type cluster.partition=a,b for points", "hydra.launcher.partition=\"'a,b'\""]),
        (["exclude=a,b"], ["hydra.launcher.exclude=[a,b] for one"]),
        (["timeout_min=range(1,3)"], ["a setting is one for all points"]),
        (["additional_parameters=3"], ["type 'hydra.launcher.additional_parameters={reservation: NAME}'"]),
        (["qos.x=3"], ["type hydra.launcher.qos=VALUE"]),
        (["qos=a", "qos=b"], ["cluster.slurm.qos: given twice and differently"]),
        (["qos=a", "foo=1", "name=x"], ["2 problems", "hydra.launcher.foo: ", "hydra.launcher.name: "]),
        (["qos=[a"], ["hydra.launcher.qos=[a: not of the form KEY=VALUE"]),
        (["timeout_min=soon"], ["cluster.time_limit_min: ", "got 'soon'"]),
    ],
)
def test_wrong_settings(command, settings, texts):
    code, out, err = command("-m", *SLURM, *(f"hydra.launcher.{setting}" for setting in settings))
    assert (code, out) == (2, b"")
    assert [text for text in texts if text not in err] == [], err
    assert "Traceback" not in err


def test_a_setting_beside_the_key_that_it_means(command):
    code, _, err = command("-m", *SLURM, "hydra.launcher.partition=high", "cluster.partition=low")
    assert code == 2
    assert "note: hydra.launcher.partition is read as cluster.partition" in err
    assert (
        "error: cluster.partition: given twice and differently, cluster.partition=high and cluster.partition=low" in err
    )
    code, _, err = command("-m", *SLURM, "cluster.partition=high", "hydra.launcher.partition=high")
    assert code == 99
    assert "warning: cluster.partition=high is given twice" in err


@pytest.mark.parametrize(
    ("text", "typed"),
    [
        ("partition=x", "type cluster.partition=VALUE"),
        ("timeout_min=5", "type cluster.time_limit_min=VALUE"),
        ("gres=x", "type ++cluster.slurm.additional_parameters.gres=VALUE"),
        ("name=x", "type name=NAME"),
        ("zzz=x", "legal: partition"),
    ],
)
def test_without_a_sweep_the_key_of_the_cluster_is_named(command, text, typed):
    code, out, err = command(f"hydra.launcher.{text}")
    assert (code, out) == (2, b"")
    assert "it is for -m alone" in err
    assert typed in err


@pytest.mark.parametrize("plus", ["+", "++"])
def test_a_plus_changes_nothing(command, plus):
    assert command("-m", *SLURM, f"{plus}hydra.launcher.qos=x")[0] == 99
    assert command.started[0].config.cluster.slurm.qos == "x"


def test_a_secret_is_not_repeated(command):
    token = "ghp_" + "16C7e42F292c6912E7710c838347Ae178B4a"
    code, out, err = command("-m", *SLURM, f"hydra.launcher.comment={token}")
    assert (code, out) == (2, b"")
    assert token not in err


# ---------------------------------------------------------------- what starts when, and how it ends


def test_all_points_start_by_one_call_and_the_first_failure_is_the_exit_code(command, monkeypatch):
    calls = []

    def submit(requests):
        calls.append([request.config.tag for request in requests])
        return [ExitCode.DONE, ExitCode.STOPPED, ExitCode.FAILED]

    command.submits(submit, monkeypatch)
    code, _, err = command("-m", "tag=a,b,c")
    assert (code, calls, err) == (ExitCode.STOPPED, [["a", "b", "c"]], "")
    command.submits(lambda requests: [ExitCode.DONE] * len(requests), monkeypatch)
    assert command("-m", "tag=a,b,c")[0] == 0


def test_each_point_goes_to_its_own_cluster(command):
    assert command("-m", "cluster=local,slurm_dev", "parallel=tp2pp2", "tag='${cluster.name}'")[0] == 99
    assert [request.config.cluster.kind for request in command.started] == ["local", "slurm"]


def test_points_that_are_one_run_start_once_and_it_is_said(command):
    code, _, err = command("-m", "cluster=local,slurm_dev", "parallel=tp2pp2")
    assert code == 99
    assert [request.config.cluster.kind for request in command.started] == ["local"]
    assert "note: points that are one run are run once: cluster=slurm_dev is cluster=local" in err


@pytest.mark.parametrize("batches", [[], ["hydra.sweeper.max_batch_size=1"]])
def test_one_wrong_point_starts_none(command, batches):
    code, out, err = command("-m", "training.steps=100,200,-1", *batches)
    assert (code, out, command.started) == (2, b"", [])
    assert "1 of 3 points can't run, so none is started\npoint 3 (training.steps=-1" in err


def test_batches_of_the_basic_sweeper_change_nothing_and_it_is_said(command):
    code, _, err = command("-m", "tag=a,b,c", "hydra.sweeper.max_batch_size=2")
    assert code == 99
    assert [request.config.tag for request in command.started] == ["a", "b", "c"]
    assert "hydra.sweeper.max_batch_size changes nothing: all points are checked before the first starts" in err


def test_dry_points_are_printed_and_the_others_start(command):
    code, out, _ = command("-m", "tag=a,b", "dry_run=config,null")
    assert code == 99
    assert [request.config.tag for request in command.started] == ["a", "b"]
    assert out.count(b"\nname: ") + out.startswith(b"name: ") == 2


def test_a_run_sees_the_command_as_it_was_typed_and_no_file_of_hydra(command, monkeypatch, tmp_path_factory):
    seen = []
    temporary = tmp_path_factory.mktemp("temporary")

    def submit(requests):
        seen.append((sys.argv[1:], os.environ.get("HYDRA_FULL_ERROR"), os.getcwd(), list(temporary.iterdir())))
        return [ExitCode.DONE] * len(requests)

    command.submits(submit, monkeypatch)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    assert command("-m", "tag=a,b")[0] == 0
    assert seen == [(["-m", "tag=a,b"], None, os.getcwd(), [])]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), AssertionError("ours"), KeyError("x")])
def test_an_error_of_ours_is_not_told_as_one_of_the_command_line(command, monkeypatch, error):
    def submit(requests):
        raise error

    command.submits(submit, monkeypatch)
    for flags in ([], ["-m"]):
        with pytest.raises(type(error)) as raised:
            command(*flags, "tag=a")
        assert raised.value is error


def test_an_interrupt_ends_a_sweep(command, monkeypatch):
    def submit(requests):
        raise KeyboardInterrupt

    command.submits(submit, monkeypatch)
    code, _, err = command("-m", "tag=a,b")
    assert code == ExitCode.FAILED
    assert err.startswith("interrupted; ")


# ---------------------------------------------------------------- the contract of a launcher


class Task:
    """A task function of an application that runs points."""

    def __call__(self, config):
        raise AssertionError("points are never composed by Hydra")

    def launch_points(self, points):
        return [0, RuntimeError("exit code 3: tag=b")]


def test_a_sweeper_learns_how_each_point_ended(capsys):
    launcher = plugin()()
    config = OmegaConf.create({"hydra": {"job": {"name": "train"}}})
    launcher.setup(hydra_context=HydraContext(None, None), task_function=Task(), config=config)
    done, failed = launcher.launch([["tag=a"], ["tag=b"]], initial_job_idx=7)
    assert (done.status, done.return_value, done.overrides) == (JobStatus.COMPLETED, 0, ["tag=a"])
    assert (failed.status, failed.task_name) == (JobStatus.FAILED, "train")
    with pytest.raises(RuntimeError, match="exit code 3"):
        _ = failed.return_value
    assert capsys.readouterr() == ("", "")


SWEEPER = """
import sys
from dataclasses import dataclass
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper

@dataclass
class Conf:
    _target_: str = "hydra_plugins.by_results.Chooser"

ConfigStore.instance().store("by_results", Conf, group="hydra/sweeper", provider="x")

class Chooser(Sweeper):
    def setup(self, *, hydra_context, task_function, config):
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config)

    def sweep(self, arguments):
        for number, value in enumerate(["100", "200", "-1", "300"]):
            (result,) = self.launcher.launch([[*arguments, f"training.steps={value}"]], number)
            print(result.status.name, result.return_value, file=sys.stderr)
"""


def process(arguments: list[str], folder: Path, *places: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places)), "HYDRA_FULL_ERROR": "0"}
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True)


def test_another_sweeper_may_choose_points_by_results(tmp_path):
    (tmp_path / "hydra_plugins").mkdir()
    (tmp_path / "hydra_plugins" / "by_results.py").write_text(SWEEPER)
    here = tmp_path / "here"
    here.mkdir()
    line = ["-m", "mmhydra.train", "-m", "hydra/sweeper=by_results", "dry_run=config", "tag=x"]
    done = process(line, here, tmp_path, Path(train.__file__).parent.parent)
    assert done.returncode == 2
    assert "hydra/sweeper=by_results: each batch of points is checked before its first one starts" in done.stderr
    assert done.stderr.count("COMPLETED 0") == 2
    assert "training.steps=-1" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.count("\ntag: x\n") == 2
    assert list(here.iterdir()) == []


APPLICATION = """
import hydra

@hydra.main(version_base="1.3", config_path=None)
def application(config):
    print(config)

application()
"""


def test_another_application_is_told_in_one_line(tmp_path):
    (tmp_path / "application.py").write_text(APPLICATION)
    line = ["application.py", "-m", "hydra/launcher=mmhydra", "+a=1,2", f"hydra.sweep.dir={tmp_path}/out"]
    done = process(line, tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(
        "hydra/launcher=mmhydra starts runs of mmhydra alone, and this is another application"
    )
    assert "Traceback" not in done.stderr


def test_a_setting_in_a_file_is_refused():
    launcher = plugin()(partition="high", qos=None)
    with pytest.raises(Exception, match=r"hydra\.launcher\.partition is set by a file"):
        launcher.setup(hydra_context=HydraContext(None, None), task_function=Task(), config=OmegaConf.create({}))
