"""What a driver minds before it drives."""

from types import SimpleNamespace

import pytest

from mmhydra.launch.search import driving
from mmhydra.launch.search.driving import _finish_arrays
from mmhydra.slurm import SchedulerError
from mmhydra.sweep.record import sweep_directory


@pytest.mark.parametrize(("num_silences", "waits"), [(0, 0), (3, 3), (4, 3)])
def test_a_slurm_that_is_silent_for_a_moment_is_asked_again(tmp_path, monkeypatch, num_silences, waits):
    asked = []

    def finish_arrays(sweep):
        asked.append(sweep)
        if len(asked) <= num_silences:
            raise SchedulerError("no answer within 30 s")

    slept: list[float] = []
    monkeypatch.setattr(driving, "finish_arrays", finish_arrays)
    monkeypatch.setattr(driving, "time", SimpleNamespace(sleep=slept.append))
    said: list[str] = []
    sweep = sweep_directory(tmp_path, "mine")
    if num_silences > waits:
        with pytest.raises(SchedulerError):
            _finish_arrays(sweep, said.append)
    else:
        _finish_arrays(sweep, said.append)
    assert slept == [30.0] * waits
    assert said == ["tried again in 30 s: no answer within 30 s"] * waits
