"""Sweeps by name, by path, by the id of an array; runs as before."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_sweep import FakeSweep

from mmhydra.errors import UserError
from mmhydra.run.directory import RunDirectory
from mmhydra.sweep.find import find_any, find_sweep, known_sweeps


def test_a_sweep_by_name_and_by_any_path_in_it(make_sweep: Callable[..., FakeSweep]) -> None:
    sweep = make_sweep()
    array = sweep.directory.new_array()
    for wanted in ("lr_ladder", "outputs/sweeps/lr_ladder", str(sweep.directory.path), str(array)):
        assert os.path.samefile(find_any(wanted).path, sweep.directory.path)
        assert os.path.samefile(find_sweep(wanted).path, sweep.directory.path)


def test_a_folder_of_the_same_name_hides_no_sweep(make_sweep: Callable[..., FakeSweep], tmp_path) -> None:
    sweep = make_sweep()
    (tmp_path / "lr_ladder").mkdir()
    assert find_any("lr_ladder") == sweep.directory


def test_a_run_is_found_as_before(make_sweep: Callable[..., FakeSweep]) -> None:
    sweep = make_sweep()
    attempt = sweep.submitted(1, "70_3")
    for wanted in (sweep.point(1).run_id, str(attempt.path), "70_3"):
        found = find_any(wanted)
        assert isinstance(found, RunDirectory)
        assert found.path.name == sweep.point(1).run_id


def test_the_id_of_an_array_means_its_sweep(make_sweep: Callable[..., FakeSweep]) -> None:
    sweep = make_sweep()
    sweep.submitted(1, "70_3")
    sweep.write(sweep.directory.new_array() / "array.json", job_id="70", state="submitted", name="x", tasks=[])
    assert find_any("70") == sweep.directory


def test_what_is_none_names_those_that_are(make_sweep: Callable[..., FakeSweep]) -> None:
    make_sweep()
    make_sweep(name="stable_decay")
    with pytest.raises(UserError, match=r"lr_lader is no sweep in outputs/sweeps .*did you mean lr_ladder\?"):
        find_sweep("lr_lader")
    with pytest.raises(UserError, match=r"does not exist.*or a sweep: did you mean lr_ladder\?"):
        find_any("lr_lader")
    with pytest.raises(UserError, match=r"sweeps are: (stable_decay, lr_ladder|lr_ladder, stable_decay)"):
        find_sweep("zzz")
    for odd in ("", ".", "x" * 5000, "a\0b"):
        with pytest.raises(UserError):
            find_sweep(odd)


def test_a_sweep_that_is_removed_meanwhile_is_none(
    make_sweep: Callable[..., FakeSweep], monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = make_sweep(name="stable_decay")
    make_sweep()
    usual = Path.glob

    def glob(folder: Path, pattern: str) -> Iterator[Path]:
        found = list(usual(folder, pattern))
        shutil.rmtree(gone.directory.path, ignore_errors=True)
        return iter(found)

    monkeypatch.setattr(Path, "glob", glob)
    assert known_sweeps() == ["lr_ladder"]


def test_without_any_sweep(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMHYDRA_OUTPUTS", str(tmp_path))
    assert known_sweeps() == []
    with pytest.raises(UserError, match="there is none yet"):
        find_sweep("demo")
    with pytest.raises(UserError, match=r"give a folder like outputs/NAME/RUN_ID$"):
        find_any("demo")
