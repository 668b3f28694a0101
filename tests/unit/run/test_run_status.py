"""status.json and what an exit code means."""

import pytest

from mmhydra.errors import ExitCode
from mmhydra.run.status import Status, read_status, state_of


def test_a_status_survives(tmp_path):
    status = Status(state="stopped", exit_code=3, step=7, message="löss")
    status.write(tmp_path / "status.json")
    assert read_status(tmp_path / "status.json") == status


def test_there_is_none_before_the_first_is_written(tmp_path):
    assert read_status(tmp_path / "status.json") is None


@pytest.mark.parametrize("text", ["", "[]", "3", "null", "{", "{}", '{"state": "done", "more": 1}'])
def test_there_is_none_in_a_file_that_says_none(tmp_path, text):
    (tmp_path / "status.json").write_text(text)
    assert read_status(tmp_path / "status.json") is None


@pytest.mark.parametrize(
    ("code", "state"),
    [(0, "done"), (1, "failed"), (2, "failed"), (3, "stopped"), (75, "preempted")],
)
def test_the_state_of_an_exit_code(code, state):
    assert state_of(ExitCode(code)) == state
