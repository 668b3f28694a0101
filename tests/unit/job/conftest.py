"""Runs of the development SLURM, whose files a test writes as batch script and ranks would."""

import pytest
from fake_run import FakeRun

from mmhydra.compose import compose
from mmhydra.job.allocation import Allocation
from mmhydra.run.directory import RunDirectory
from mmhydra.run.identity import identify


@pytest.fixture(scope="session")
def slurm_config(default_config, change):
    cluster = compose(["cluster=slurm_dev"]).config.cluster.model_dump()
    return change(default_config, {"cluster": cluster, "training.steps": 100})


@pytest.fixture
def make_job_run(tmp_path, slurm_config, change):
    """A run of a job of two nodes, with its first attempt, submitted; `cluster.slurm` with these keys changed."""

    def make(**keys: object) -> FakeRun:
        folders = {"paths.outputs": str(tmp_path / "outputs"), "paths.data": str(tmp_path / "data")}
        slurm = {f"cluster.slurm.{name}": value for name, value in keys.items()}
        config = change(slurm_config, {**folders, **slurm})
        directory = RunDirectory(tmp_path / "outputs" / "debug" / "0123456789ab")
        directory.create(identify(config, {}, None))
        run = FakeRun(config, directory, {})
        run.start()
        directory.attempts[0].submitted.write_text('{"job_id": "7"}')
        return run

    return make


@pytest.fixture
def allocation():
    return Allocation("7", 0, ("n1", "n2"), "n1", None)
