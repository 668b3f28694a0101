"""The configs that ship, tested as a user would test: with the markers and fixtures of mmhydra.pytest_plugin."""

import pytest

MISSION = ("model=10b", "parallel=tp4pp8", "data=mix_v0.2")


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    monkeypatch.delenv("MMHYDRA_CLUSTER", raising=False)


def test_the_mission_is_legal_on_256_gpus(config_check):
    assert config_check.legal(*MISSION, "cluster=h100_256").dp == 8


def test_the_mission_does_not_fit_here(config_check):
    config_check.illegal(*MISSION, because="world_size")
    config_check.illegal(*MISSION, "cluster=local", because=r"type cluster=NAME")


@pytest.mark.overrides(*MISSION)
class TestMission:
    @pytest.mark.overrides("cluster=h100_256")
    def test_it_uses_each_gpu(self, run_config):
        assert run_config.dp * run_config.parallel.model_ranks == run_config.cluster.num_gpus

    @pytest.mark.overrides("cluster=h100_256", "parallel.dp=4")
    def test_the_nearest_marker_wins(self, run_config):
        assert run_config.dp == 4


@pytest.mark.parametrize("experiment", ["p0_demo", "alpha_1b", "10b_pretrain"])
def test_experiments_are_legal(config_check, experiment):
    config_check.legal(f"experiment={experiment}")
