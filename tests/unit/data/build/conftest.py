"""A recipe of text, a finished dataset of it, and builds as processes."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dataset_builds import RECIPE, Command, write_records

from mmhydra.compose.building import compose_build
from mmhydra.config.dataset import BuildConfig
from mmhydra.data.build.driver import build_dataset


@pytest.fixture(scope="session")
def groups(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of groups with the recipe `tiny`."""
    folder = tmp_path_factory.mktemp("groups")
    (folder / "dataset").mkdir()
    (folder / "dataset" / "tiny.yaml").write_text(RECIPE)
    return folder


@pytest.fixture(scope="session")
def config_of(groups: Path) -> Callable[..., BuildConfig]:
    """The config of a build of `records` into `data`."""

    def config_of(records: Path, data: Path, *overrides: str) -> BuildConfig:
        places = [f"dataset.records_dir={records}", f"paths.data={data}", "build.processes=1", "dataset=tiny"]
        given = {override.partition("=")[0] for override in overrides}
        own = [place for place in places if place.partition("=")[0] not in given]
        return compose_build([*own, *overrides], [groups])[0]

    return config_of


@pytest.fixture(scope="session")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Record files that tests only read."""
    return write_records(tmp_path_factory.mktemp("records"))


@pytest.fixture(scope="session")
def built(config_of: Callable[..., BuildConfig], records: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a dataset that was built in one go by one process. Tests only read it."""
    data = tmp_path_factory.mktemp("built")
    build_dataset(config_of(records, data), lambda line: None)
    return data / "tiny"


@pytest.fixture
def command(groups: Path) -> Iterator[Callable[..., Command]]:
    """Starts `python -m mmhydra.data build dataset=tiny`."""
    started: list[Command] = []

    def command(*arguments: Any, **options: Any) -> Command:
        started.append(Command(groups, *arguments, **options))
        return started[-1]

    yield command
    for one in started:
        one.stop()
