"""Commands that may go on for days collect garbage, which short ones do not (`mmhydra.startup`)."""

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmhydra import hydra_app
from mmhydra.errors import ExitCode
from mmhydra.launch.sweeps.asked import Asked
from mmhydra.monitor import watch as run_watch
from mmhydra.run.directory import RunDirectory
from mmhydra.sweep.record import sweep_directory
from mmhydra.sweep.show import watch as sweep_watch


@pytest.fixture(autouse=True)
def _off() -> Iterator[None]:
    """As `mmhydra.startup` leaves it."""
    gc.disable()
    yield
    gc.unfreeze()
    gc.enable()


@pytest.fixture
def found() -> list[bool]:
    """Whether it was on when the work began."""
    return []


def test_while_a_run_is_watched(found, monkeypatch, tmp_path):
    def read(*given: Any) -> Any:
        found.append(gc.isenabled())
        raise KeyboardInterrupt

    monkeypatch.setattr(run_watch, "_read", read)
    assert run_watch.watch(RunDirectory(tmp_path)) == ExitCode.DONE
    assert found == [True]


def test_while_a_sweep_is_watched(found, monkeypatch, tmp_path):
    def read(*given: Any) -> Any:
        found.append(gc.isenabled())
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep_watch, "read_overview", read)
    assert sweep_watch.watch(sweep_directory(tmp_path, "mine")) == ExitCode.DONE
    assert found == [True]


@pytest.mark.parametrize(("typed", "collects"), [((), [True]), (("dry_run=config",), [])])
def test_while_a_sweep_is_submitted_and_not_while_it_is_printed(found, monkeypatch, tmp_path, typed, collects):
    monkeypatch.setenv("MMHYDRA_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.setenv("MMHYDRA_DATA", str(tmp_path / "data"))

    def submit(asked: Any, study: Any, points: list[Any]) -> list[ExitCode]:
        found.append(gc.isenabled())
        return [ExitCode.DONE] * len(points)

    monkeypatch.setattr("mmhydra.launch.sweeps.submitting.submit_sweep", submit)
    points = tuple((f"seed.data={number}", *typed) for number in (1, 2))
    asked = Asked(None, typed, points, ())
    assert hydra_app._run_sweep(asked, lambda requests: []) == [ExitCode.DONE] * 2
    assert found == collects
    assert gc.isenabled() is bool(collects)
    assert not list(Path(tmp_path).iterdir())
