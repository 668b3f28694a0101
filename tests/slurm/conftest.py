"""One real SLURM for all tests here. Without SLURM's packages they are skipped, loudly; under CI they fail."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_cluster import SlurmCluster, slurm_dev
from slurm_place import SlurmPlace

NOT_INSTALLED_KEY = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[NOT_INSTALLED_KEY] = ""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if why := config.stash.get(NOT_INSTALLED_KEY, ""):
        terminalreporter.section("SLURM TESTS DID NOT RUN", sep="!", red=True, bold=True)
        terminalreporter.write_line(f"SLURM TESTS DID NOT RUN: {why}", red=True, bold=True)


@pytest.fixture(scope="session")
def slurm(request: pytest.FixtureRequest) -> Iterator[SlurmCluster]:
    """A cluster of 4 nodes, shared by all tests; each leaves it without jobs and with all nodes up."""
    # Not tmp_path: SLURM's sockets need a short path.
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    started = slurm_dev("start", "--nodes", "4", "--dir", folder)
    if started.returncode == 2 and "not installed" in started.stderr:
        shutil.rmtree(folder)
        why = started.stderr.strip().removeprefix("error: ")
        request.config.stash[NOT_INSTALLED_KEY] = why
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    assert started.returncode == 0, started.stdout + started.stderr
    cluster = SlurmCluster(folder)
    try:
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def leave_slurm_empty(request: pytest.FixtureRequest) -> Iterator[None]:
    """After a test that used the cluster: no jobs, all nodes up."""
    yield
    if "slurm" in request.fixturenames:
        request.getfixturevalue("slurm").clear()


@pytest.fixture(scope="session")
def slurm_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder that the first run fills, and all others share."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def place(slurm: SlurmCluster, slurm_data: Path, tmp_path: Path) -> SlurmPlace:
    """The shared cluster and data, empty outputs."""
    return SlurmPlace(slurm_data, tmp_path / "outputs", cluster=slurm)
