"""Which code a driver runs, and that it is started over at most once."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mmhydra import paths
from mmhydra.errors import UserError
from mmhydra.launch.search import setting
from mmhydra.launch.search.setting import use_frozen_code
from mmhydra.run.snapshot import Snapshot
from mmhydra.sweep.record import sweep_directory


@pytest.fixture
def started_over(tmp_path, monkeypatch) -> list[list[str]]:
    """The commands that took the place of this process; variables are put back afterwards."""
    for name in ("MMHYDRA_DATA", "MMHYDRA_OUTPUTS", "MMHYDRA_FROZEN", "PYTHONPATH", "PYTHONSAFEPATH"):
        monkeypatch.setenv(name, str(tmp_path))
    found: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda python, arguments: found.append(arguments))
    return found


def drive(outputs: Path, imported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Starts to drive with code of a store, where Python took mmhydra from `imported`."""
    package = imported / "mmhydra"
    package.mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(setting.mmhydra, "__file__", str(package / "__init__.py"))
    origin: Any = SimpleNamespace(snapshot=Snapshot(outputs / ".store" / "code" / "0123", "0123" * 16))
    use_frozen_code(sweep_directory(outputs, "mine"), origin, ["mine"])


def test_code_of_the_store_is_known_by_any_name_of_its_folder(tmp_path, monkeypatch, started_over) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    drive(tmp_path / "work" / ".." / "o", tmp_path / "o" / ".store" / "code" / "0123", monkeypatch)
    drive(tmp_path / "link" / "o", tmp_path / "real" / "o" / ".store" / "code" / "0123", monkeypatch)
    assert started_over == []


def test_a_process_is_started_over_once_and_then_refused(tmp_path, monkeypatch, started_over) -> None:
    drive(tmp_path / "o", tmp_path / "other", monkeypatch)
    assert [arguments[1:] for arguments in started_over] == [["-m", "mmhydra.drive", "mine"]]
    with pytest.raises(UserError, match=r"Python imports mmhydra from .*/other/mmhydra"):
        drive(tmp_path / "o", tmp_path / "other", monkeypatch)
    assert len(started_over) == 1
    drive(tmp_path / "o", tmp_path / "other", monkeypatch)  # the next command tries again
    assert len(started_over) == 2
    drive(tmp_path / "o", tmp_path / "o" / ".store" / "code" / "0123", monkeypatch)
    assert "MMHYDRA_FROZEN" not in os.environ  # runs do not inherit it


def test_folders_of_the_environment_are_written_in_one_way(tmp_path, monkeypatch) -> None:
    (tmp_path / "real" / "work").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real" / "work")
    monkeypatch.chdir(tmp_path)
    for typed, meant in {"link/../o": "real/o", "link/o": "link/o", "real/./o/": "real/o"}.items():
        monkeypatch.setenv("MMHYDRA_OUTPUTS", typed)
        assert paths.folder("MMHYDRA_OUTPUTS", "outputs") == str(tmp_path.resolve() / meant)
