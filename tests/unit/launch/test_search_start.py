"""What is refused before a search begins; nothing is written then. No data is at hand here."""

from pathlib import Path

import pytest

from mmhydra.config.problems import ConfigError
from mmhydra.errors import UserError
from mmhydra.launch.search.start import start_search
from mmhydra.launch.sweeps.asked import Asked

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

    def start(*typed: str, old: str = "", new: str = "", points: int = 1) -> None:
        assert old in STUDY
        file = tmp_path / "mine.yaml"
        file.write_text(STUDY.replace(old, new))
        asked = Asked(str(file), typed, (typed,) * points)
        study = asked.read_study()
        assert study is not None
        try:
            start_search(asked, study)
        finally:
            assert not Path(tmp_path / "outputs").exists()

    return start


def test_what_all_trials_may_cost_together_is_confirmed(start):
    hours = ("cluster=h100_64", "cluster.time_limit_min=60", "parallel=fsdp", "parallel.dp=auto")
    with pytest.raises(UserError, match="above these GPU-hours") as caught:
        start(*hours, "training.global_batch_size=1024", "cluster.confirm_gpu_hours=600")
    assert "10 points, at most 640 GPU-hours" in str(caught.value)


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


def test_dry_runs_say_what_to_type(start):
    with pytest.raises(UserError, match="dry_run=config: the trials of a search are not known before it runs"):
        start("dry_run=config")
