"""A run with checkpoints of small files."""

from collections.abc import Callable

import pytest
from fake_run import MANIFESTS, FakeRun

from mmhydra.run.directory import RunDirectory
from mmhydra.run.identity import identify


@pytest.fixture
def make_run(tmp_path, default_config, change) -> Callable[..., FakeRun]:
    """A run directory of the default config with these leaves changed."""

    def make(manifests: dict[str, str] | None = None, **leaves: object) -> FakeRun:
        dotted = {name.replace("__", "."): value for name, value in leaves.items()}
        config = change(default_config, {"paths.data": str(tmp_path / "data"), **dotted})
        manifests = MANIFESTS if manifests is None else manifests
        identity = identify(config, manifests, None)
        directory = RunDirectory(tmp_path / "outputs" / config.name / identity.run_id)
        directory.create(identity)
        return FakeRun(config, directory, manifests)

    return make
