"""Real runs, started once and shared: the command line, torch elastic, torchtitan's Trainer, the demo data."""

from pathlib import Path

import pytest
from workplace import SHORT, Finished, Workplace


@pytest.fixture(scope="session")
def main_job(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workplace, Finished]:
    """The main job with no arguments, in empty folders: builds the demo data that all other runs share."""
    root = tmp_path_factory.mktemp("main")
    place = Workplace(root / "data", root / "outputs")
    return place, place.run()


@pytest.fixture(scope="session")
def demo_data(main_job: tuple[Workplace, Finished]) -> Path:
    """The data folder with the demo dataset in it."""
    place, finished = main_job
    assert finished.code == 0, finished.text + place.logs()
    return place.data


@pytest.fixture
def place(demo_data: Path, tmp_path: Path) -> Workplace:
    """The shared data, empty outputs."""
    return Workplace(demo_data, tmp_path / "outputs")


@pytest.fixture(scope="session")
def short_place(demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """Outputs with one finished run of 20 steps, checkpoints after 10 and 20. Copy it before you change it."""
    short = Workplace(demo_data, tmp_path_factory.mktemp("short") / "outputs")
    short.train(*SHORT)
    return short


@pytest.fixture(scope="session")
def demo_sweep(demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Workplace, Finished]:
    """The study `demo`, its six runs made, and what its command said. Copy it before you change it."""
    place = Workplace(demo_data, tmp_path_factory.mktemp("sweep") / "outputs")
    return place, place.run("-m", "sweep=demo", timeout_s=900)
