"""The pytest plugin: options, the order of markers, texts of failures, the ini option, what it costs, the example."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmhydra.pytest_plugin import merged
from mmhydra.testing import ConfigCheck  # also: pytester forgets what its runs import, unless it was there before

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[3]
LAB = ROOT / "docs" / "examples" / "lab"
HEAVY = ("torch", "numpy", "hydra", "omegaconf", "pydantic", "yaml", "rich", "mmhydra.compose", "mmhydra.config")


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    for name in ("MMHYDRA_CLUSTER", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name, raising=False)


def folder_with_model(folder: Path, name: str) -> Path:
    """A config folder with one model; returns the folder."""
    (folder / "model").mkdir(parents=True)
    text = (LAB / "conf" / "model" / "tiny.yaml").read_text()
    (folder / "model" / f"{name}.yaml").write_text(text.replace("name: tiny", f"name: {name}"))
    return folder


# ---------------------------------------------------------------- options


def test_help_has_a_group(pytester):
    text = pytester.runpytest("--help").stdout.str()
    group = text.partition("\nmmhydra:\n")[2]
    assert "--override" in group
    assert "--config-dir" in group
    assert "mmhydra_config_dir (paths):" in text


def test_the_marker_is_registered(pytester):
    pytester.runpytest("--markers").stdout.fnmatch_lines(["@pytest.mark.overrides(?overrides): *"])


def test_overrides_of_the_command_line(pytester):
    pytester.makepyfile(
        """
        def test_it(run_config):
            assert (run_config.model.name, run_config.optim.lr) == ("1b", 0.5)
        """
    )
    result = pytester.runpytest("--override", "model=1b", "--override=optim.lr=0.25", "--override", "optim.lr=0.5")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["mmhydra: --override model=1b --override optim.lr=0.25 --override optim.lr=0.5"])


def test_no_header_without_options(pytester):
    assert "mmhydra: " not in pytester.runpytest().stdout.str()


@pytest.mark.parametrize(
    ("argument", "text"),
    [
        ("--override=model", "--override model: not of the form KEY=VALUE"),
        ("--config-dir=nowhere", "nowhere: there is no such folder"),
    ],
)
def test_what_no_test_can_use_stops_at_once(pytester, argument, text):
    result = pytester.runpytest(argument)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert text in result.stderr.str()


# ---------------------------------------------------------------- config folders


def test_ini_option_is_relative_to_the_ini_file(pytester, monkeypatch):
    folder_with_model(pytester.path / "conf", "ours")
    pytester.makeini("[pytest]\nmmhydra_config_dir = conf")
    below = pytester.mkdir("below")
    (below / "test_it.py").write_text(
        "def test_it(run_config, config_check):\n"
        "    assert config_check.legal('model=ours').model == run_config.model\n"
    )
    monkeypatch.chdir(below)
    pytester.runpytest(below, "--override", "model=ours").assert_outcomes(passed=1)


def test_ini_option_in_toml(pytester):
    folder_with_model(pytester.path / "conf", "ours")
    pytester.makepyprojecttoml('[tool.pytest.ini_options]\nmmhydra_config_dir = ["conf"]')
    pytester.makepyfile("def test_it(config_check): config_check.legal('model=ours')")
    pytester.runpytest().assert_outcomes(passed=1)


def test_ini_option_that_leads_nowhere(pytester):
    pytester.makeini("[pytest]\nmmhydra_config_dir = konf")
    result = pytester.runpytest()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*mmhydra_config_dir */konf: there is no such folder*"])


def test_config_dir_replaces_the_ini_option(pytester):
    folder_with_model(pytester.path / "conf", "ours")
    folder_with_model(pytester.path / "more", "theirs")
    pytester.makeini("[pytest]\nmmhydra_config_dir = conf")
    pytester.makepyfile(
        """
        def test_it(config_check):
            config_check.legal("model=theirs")
            config_check.illegal("model=ours", because="no such choice")
        """
    )
    result = pytester.runpytest("--config-dir=more")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["mmhydra: --config-dir more", f"rootdir: {pytester.path}"])


# ---------------------------------------------------------------- markers


def test_the_nearest_marker_wins_and_the_command_line_over_all(pytester):
    pytester.makepyfile(
        """
        import pytest

        pytestmark = pytest.mark.overrides("seed.model=1", "seed.data=1", "training.steps=10")

        @pytest.mark.overrides("seed.model=2", "tag=base")
        class Base:
            pass

        @pytest.mark.overrides("tag=class")
        class TestClass(Base):
            def test_class(self, run_config):
                assert (run_config.seed.model, run_config.seed.data, run_config.tag) == (2, 1, "class")

            @pytest.mark.overrides("++seed.model=3")
            def test_function(self, run_config):
                assert (run_config.seed.model, run_config.seed.data, run_config.tag) == (3, 1, "class")

            @pytest.mark.overrides("tag=function")
            @pytest.mark.parametrize("tag", [pytest.param("set", marks=pytest.mark.overrides("tag=set"))])
            def test_parameter(self, run_config, tag):
                assert run_config.tag == tag

            @pytest.mark.overrides("training.steps=99")
            def test_command_line(self, run_config):
                assert run_config.training.steps == 50

        def test_module(run_config):
            assert (run_config.seed.model, run_config.seed.data, run_config.tag) == (1, 1, "")
        """
    )
    pytester.runpytest("--strict-markers", "--override", "training.steps=50").assert_outcomes(passed=5)


@pytest.mark.parametrize("arguments", ["['model=1b']", "model='1b'"])
def test_a_marker_takes_texts(pytester, arguments):
    pytester.makepyfile(
        f"""
        import pytest

        @pytest.mark.overrides({arguments})
        def test_it(run_config): ...
        """
    )
    result = pytester.runpytest()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["@pytest.mark.overrides takes strings, such as 'model=1b', 'optim.lr=3e-4'; got *"])


def test_the_last_value_of_a_key_stays():
    assert merged(["a=1", "b=1", "+a=2", "~b", "c@d=1", "c=2", "a = 3"]) == ["~b", "c@d=1", "c=2", "a = 3"]
    assert merged([]) == []


# ---------------------------------------------------------------- failures


def test_what_can_not_be_composed_fails_with_the_message_alone(pytester):
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.overrides("optim.lrr=3e-4", "model=1b")
        def test_it(run_config): ...
        """
    )
    result = pytester.runpytest()
    result.assert_outcomes(errors=1)
    text = result.stdout.str()
    assert "run_config of optim.lrr=3e-4 model=1b\noptim.lrr: no such key; did you mean optim.lr" in text
    assert "Traceback" not in text
    assert ".py:" not in text.partition("ERRORS")[2].partition("short test summary")[0]


def test_a_failing_check_shows_no_code_of_mmhydra(pytester):
    pytester.makepyfile(
        """
        def test_legal(config_check):
            config_check.legal("model.num_heads=5")

        def test_illegal(config_check):
            config_check.illegal("model=debug", because="heads")
        """
    )
    result = pytester.runpytest()
    result.assert_outcomes(failed=2)
    text = result.stdout.str()
    assert "dim 128 is no multiple of 5 heads" in text
    assert "conf/model/debug.yaml:" in text
    assert "model=debug is legal; expected it to be illegal because of 'heads'" in text
    assert "mmhydra/testing.py" not in text


# ---------------------------------------------------------------- what it costs


def test_the_plugin_imports_pytest_alone():
    code = f"""
import sys
import mmhydra.pytest_plugin
print([name for name in {HEAVY} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_run_without_configs_loads_nothing(pytester):
    """A run of another project, in an environment that holds mmhydra. hydra-core's own plugin imports Hydra."""
    pytester.makepyfile(
        f"""
        import sys

        def test_it(pytestconfig):
            assert pytestconfig.pluginmanager.hasplugin("mmhydra")
            assert not [name for name in {HEAVY} if name in sys.modules]
        """
    )
    pytester.runpytest_subprocess("-p", "no:hydra_pytest").assert_outcomes(passed=1)


# ---------------------------------------------------------------- docs/testing.md and its example


def documented(first_words: str) -> list[str]:
    """The lines of the block of docs/testing.md that begins with these words."""
    text = (ROOT / "docs" / "testing.md").read_text()
    return next(block for block in text.split("```\n") if block.startswith(first_words)).splitlines()


def run_lab(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-W", "error", "docs/examples/lab", *arguments]
    return subprocess.run(command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("overrides", [[], ["--override", "model=1b"]], ids=["as it is", "another model"])
def test_the_example_passes(overrides):
    done = run_lab(*overrides)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout
    assert f"rootdir: {LAB}" in done.stdout


def test_the_example_fails_as_documented():
    done = run_lab("--override", "optim.lrr=3e-4", "-k", "warmup")
    assert done.returncode == 1
    assert "\n".join(documented("run_config of")) in done.stdout


def test_another_reason_is_told_as_documented(monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(AssertionError) as raised:
        ConfigCheck((LAB / "conf",)).illegal("model=tiny", "parallel=tp2", because="heads")
    assert "\n".join(documented("model=tiny parallel=tp2")) in str(raised.value)
