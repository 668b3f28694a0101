"""Numbers and commands as a person reads and types them."""

import shlex
import sys

import pytest

from mmhydra.monitor.words import count, count_are, python_module


def test_one_is_no_plural() -> None:
    assert [count(number, "point") for number in (0, 1, 2000)] == ["0 points", "1 point", "2,000 points"]
    assert [count_are(number, "job") for number in (1, 2)] == ["1 job is", "2 jobs are"]


def test_a_command_can_be_typed_wherever_python_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/my tools/python")
    assert shlex.split(python_module("drive", "sweep")) == ["/my tools/python", "-m", "mmhydra.drive", "sweep"]
