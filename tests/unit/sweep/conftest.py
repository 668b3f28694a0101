"""A sweep of fabricated runs, and a SLURM that says what a test wants."""

from collections.abc import Callable
from pathlib import Path

import pytest
from fake_slurm import FakeSlurm
from fake_sweep import FakeSweep, point

from mmhydra.compose import compose
from mmhydra.config.schema import RunConfig


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    fake = FakeSlurm(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(fake.folder))
    return fake


@pytest.fixture(scope="session")
def slurm_config() -> RunConfig:
    """Of a cluster that counts GPUs and knows their price."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMHYDRA_DATA", "/data")
        patch.setenv("MMHYDRA_OUTPUTS", "/outputs")
        return compose(["cluster=h100_64", "parallel=fsdp"]).config


@pytest.fixture
def make_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, default_config) -> Callable[..., FakeSweep]:
    """make_sweep(3): of three points. `points` are others; further names are fields of the record."""
    monkeypatch.setenv("MMHYDRA_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.chdir(tmp_path)

    def make(number: int = 3, config: RunConfig = default_config, **record) -> FakeSweep:
        points = record.pop("points", None) or [point(each) for each in range(1, number + 1)]
        return FakeSweep(tmp_path / "outputs", config, points, **record)

    return make
