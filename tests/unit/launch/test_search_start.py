"""What is refused before a search begins; nothing is written then. No data is at hand here."""

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_sweep import RECORD, point

from mmhydra.compose.many import NotStock
from mmhydra.config.problems import ConfigError
from mmhydra.config.secrets import SecretError
from mmhydra.errors import ExitCode, UserError
from mmhydra.launch.search import driving
from mmhydra.launch.search import start as start_module
from mmhydra.launch.search.setting import Setting
from mmhydra.launch.search.start import start_search
from mmhydra.launch.search.trials import Composer
from mmhydra.launch.sweeps.asked import Asked
from mmhydra.sweep.record import SweepDirectory, sweep_directory

STUDY = """
question: Which?
stop_rule: When it is known.
overrides: [model=debug, data=demo, optim.min_lr=1e-5, training.steps=100, training.validation_interval=20]
search:
  space:
    optim.lr: {low: 1e-3, high: 1e-2, log: true}
  num_trials: 10
"""


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Begins a search of the study with a change; `outputs` stays empty."""
    monkeypatch.setenv("MMHYDRA_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.setenv("MMHYDRA_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("MMHYDRA_CLUSTER", raising=False)

    def with_data(*given: Any) -> None:
        raise AssertionError("it was not refused: next it would build data, and begin")

    monkeypatch.setattr(start_module, "with_data", with_data)

    def start(*typed: str, old: str = "", new: str = "", points: int = 1, prune: bool = False) -> None:
        asked, study = read(tmp_path, *typed, old=old, new=new, points=points)
        asked = replace(asked, prune=prune)
        before = sorted(tmp_path.glob("outputs/**"))
        try:
            start_search(asked, study)
        finally:
            assert sorted(tmp_path.glob("outputs/**")) == before

    return start


def read(folder: Path, *typed: str, old: str = "", new: str = "", points: int = 1) -> tuple[Asked, Any]:
    assert old in STUDY
    file = folder / "mine.yaml"
    file.write_text(STUDY.replace(old, new))
    asked = Asked(str(file), typed, (typed,) * points)
    return asked, asked.read_study()


HOURS = ("cluster=h100_64", "cluster.time_limit_min=60", "parallel=fsdp", "parallel.dp=auto")
DEAR = (*HOURS, "training.global_batch_size=1024", "cluster.confirm_gpu_hours=60")


def test_what_all_trials_may_cost_together_is_confirmed(start):
    with pytest.raises(UserError, match="above these GPU-hours") as caught:
        start(*DEAR)
    assert "10 points, at most 640 GPU-hours" in str(caught.value)


@pytest.mark.parametrize("kind", ["grid", "tpe"])
def test_trials_of_equal_values_cost_once(start, kind):
    space = f"{{choices: [1e-3, 2e-3]}}\n    optim.beta2: {{choices: [0.95, 0.99]}}\n  sampler: {{kind: {kind}}}"
    with pytest.raises(UserError, match="above these GPU-hours") as caught:
        start(*DEAR, old="{low: 1e-3, high: 1e-2, log: true}", new=space)
    assert "4 points, at most 256 GPU-hours" in str(caught.value)


def test_the_points_of_a_study_do_not_become_trials(start, tmp_path):
    sweep = sweep_directory(tmp_path / "outputs", "mine")
    sweep.write(RECORD.__class__(**{**vars(RECORD), "name": "mine", "points": (point(1), point(2))}))
    with pytest.raises(UserError, match=r"has 2 points from before .*save the study under another name"):
        start()


def test_a_study_of_the_same_name_elsewhere_is_another_search(start, tmp_path):
    other = tmp_path / "lab" / "mine.yaml"
    other.parent.mkdir()
    other.write_text("of: somebody else\n")
    sweep = sweep_directory(tmp_path / "outputs", "mine")
    sweep.write(RECORD.__class__(**{**vars(RECORD), "name": "mine", "study_file": str(other)}))
    with pytest.raises(UserError, match=r"lab/mine\.yaml, which is still there, and .* is another"):
        start()


def test_an_address_with_a_password_is_written_nowhere(start, monkeypatch):
    monkeypatch.setenv("MMHYDRA_REMOTE", "s3://someone:" + "unguessable1@store/data")
    with pytest.raises(SecretError, match=r"\$MMHYDRA_REMOTE: ") as caught:
        start()
    assert "unguessable" not in str(caught.value)


def test_what_was_checked_is_kept_and_not_what_the_file_is_by_then(tmp_path, monkeypatch):
    asked, study = read(tmp_path)
    origin: Any = SimpleNamespace(code={})
    monkeypatch.setattr(start_module, "origin_of_now", lambda sweep, point: origin)
    monkeypatch.setattr(start_module, "keep_origin", lambda origin: None)
    written: list[Path] = []
    monkeypatch.setattr(start_module, "write_atomic", lambda path, content: written.append(path) or put(path, content))
    (tmp_path / "mine.yaml").write_text("edited: meanwhile\n")
    sweep = SweepDirectory(tmp_path / "outputs" / "sweeps" / "mine")
    sweep.path.mkdir(parents=True)
    some_point: Any = None
    start_module._begin(sweep, asked, study, Setting((), {}, "", "", {}), [some_point])
    assert sweep.study.read_text() == STUDY
    assert written == [sweep.study]
    assert sweep.is_search


def test_a_process_that_has_code_of_the_store_drives_itself(tmp_path, monkeypatch):
    monkeypatch.setenv("MMHYDRA_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.setenv("MMHYDRA_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("MMHYDRA_CLUSTER", raising=False)
    asked, study = read(tmp_path)
    origin: Any = SimpleNamespace(code={})
    monkeypatch.setattr(start_module, "with_data", lambda points, again, say: points)
    monkeypatch.setattr(start_module, "Setting", lambda *given: SimpleNamespace(write=lambda sweep: None))
    monkeypatch.setattr(start_module, "_begin", lambda *given: origin)
    monkeypatch.setattr(start_module, "use_frozen_code", lambda *given: None)
    driven: list[str] = []
    monkeypatch.setattr(driving, "drive_search", lambda sweep, say: driven.append(sweep.name) or ExitCode.FAILED)
    assert start_search(asked, study) == ExitCode.FAILED
    assert driven == ["mine"]


def put(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def test_trials_are_composed_by_hydra_too_now_and_then(start, tmp_path):
    _, study = read(tmp_path)

    def ask(share: float, *wrong: bool) -> None:
        """Trials one after another; wrong ones have a text that is not that of their config."""
        composer = Composer(study, (), (), share=share)
        compose = composer._compiler.point
        texts = iter(wrong)

        def made(overrides):
            point = compose(overrides)
            if next(texts):
                object.__setattr__(point, "text", point.text + b"\n")
            return point

        composer._compiler.point = made  # type: ignore[method-assign,assignment]
        for number in range(1, len(wrong) + 1):
            with pytest.raises(UserError, match="data that it needs is not at hand"):
                composer(number, {"optim.lr": 0.001 * number})

    ask(0.0, False, True)
    for share, wrong in ((0.0, [True]), (1.0, [False, True])):
        with pytest.raises(NotStock, match=r"optim\.lr=.*its frozen text"):
            ask(share, *wrong)


def test_a_metric_that_never_comes_is_refused(start):
    with pytest.raises(ConfigError, match=r"type training\.validation_interval=STEPS"):
        start(old="training.validation_interval=20", new="training.validation_interval=null")


def test_halving_after_the_last_step_is_refused(start):
    with pytest.raises(ConfigError, match="a trial has 100 steps, so one of 100 can't be ended early"):
        start(old="num_trials: 10", new="num_trials: 10\n  halving: {min_steps: 100}")


def test_trials_of_this_machine_are_not_driven_by_a_job(start):
    with pytest.raises(UserError, match="cluster=local, which takes no jobs; type where: here"):
        start(old="num_trials: 10", new="num_trials: 10\n  driver: {where: job}")


def test_a_corner_that_can_not_run_is_told_with_its_values(start):
    with pytest.raises(UserError, match=r"1 of 2 points can't run(.|\n)*optim.lr=0.001(.|\n)*min_lr"):
        start(old="optim.min_lr=1e-5", new="optim.min_lr=5e-3")


def test_a_key_is_proposed_or_typed_and_not_both(start):
    with pytest.raises(UserError, match=r"optim\.lr: search\.space proposes values of it; leave it out of the command"):
        start("optim.lr=1e-3")


def test_one_command_is_one_search(start):
    with pytest.raises(UserError, match="make 2 searches of this one"):
        start("seed.model=1", points=2)


def test_trials_are_not_pruned_by_a_flag(start):
    with pytest.raises(UserError, match=r"--prune cancels jobs of points .* leave it out, .* mmhydra\.cancel mine"):
        start(prune=True)


def test_a_dry_run_prints_the_corners_and_what_all_trials_may_cost(start, capfd):
    start(*DEAR, "dry_run=config")
    captured = capfd.readouterr()
    documents = captured.out.split("---\n")
    assert [re.search(r"^  lr: (.*)", each, re.M)[1] for each in documents] == ["0.001", "0.01"]
    assert "search mine-" in captured.err
    assert "h100_64: 10 points, at most 640 GPU-hours" in captured.err
    assert "a start needs confirm=true: h100_64 60" in captured.err


def test_dry_runs_say_what_to_type(start):
    with pytest.raises(UserError, match="dry_run=freeze: the trials of a search are not known before it runs"):
        start(*DEAR, "dry_run=freeze")
