"""Runs with checkpoints of small files, in an outputs folder of their own."""

from collections.abc import Callable

import pytest
from fake_run import FakeRun
from sweep_place import submit, tools

from mmhydra.run.directory import RunDirectory
from mmhydra.run.identity import identify

__all__ = ["submit", "tools"]  # fixtures


@pytest.fixture
def make_run(tmp_path, default_config, change) -> Callable[..., FakeRun]:
    """A run of the default config with these leaves changed, checkpoints after these steps, and no data."""

    def make(*steps: int, **leaves: object) -> FakeRun:
        dotted = {name.replace("__", "."): value for name, value in leaves.items()}
        folders = {"paths.outputs": str(tmp_path / "outputs"), "paths.data": str(tmp_path / "data")}
        config = change(default_config, {**folders, **dotted})
        identity = identify(config, {}, None)
        directory = RunDirectory(tmp_path / "outputs" / config.name / identity.run_id)
        directory.create(identity)
        run = FakeRun(config, directory, {"demo-v2": "9" * 64})
        keeper = run.start()
        for step in steps:
            run.save(keeper, step)
        return run

    return make
