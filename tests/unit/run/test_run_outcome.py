"""How an attempt ended: who was first, what that means, and what is written of it."""

import json
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mmhydra.errors import ExitCode
from mmhydra.run.directory import Attempt
from mmhydra.run.outcome import (
    Failure,
    conclude,
    ended_for_good,
    failures,
    judge,
    last_step,
    of_signal,
    root_cause,
    tail,
)
from mmhydra.run.status import Status, read_status


@pytest.fixture
def attempt(tmp_path):
    folder = tmp_path / "attempts" / "0001"
    (folder / "logs").mkdir(parents=True)
    return Attempt(folder)


@contextmanager
def full_disk() -> Iterator[None]:
    """No byte can be written to a file; pytest's own output, which may go to one, has to wait."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def fail(attempt, *found: Failure) -> None:
    for failure in found:
        failure.write(attempt)


# ---------------------------------------------------------------- the cause


def test_nobody_failed(attempt):
    assert root_cause(attempt) is None
    assert failures(attempt) == []


def test_the_first_of_several_is_the_cause(attempt):
    fail(attempt, Failure(0, 20.0, 1, "connection closed"), Failure(3, 10.0, 2, "damaged"), Failure(1, 30.0, 1, "late"))
    assert root_cause(attempt).rank == 3


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE])
def test_a_killed_rank_comes_before_peers_that_noticed_it_first(attempt, number):
    fail(attempt, Failure(0, 100.0, 1, "connection closed by peer", "Traceback"), of_signal(1, number, 100.1))
    assert root_cause(attempt).rank == 1
    assert signal.Signals(number).name in root_cause(attempt).message


def test_only_a_kill_lets_memory_be_the_reason(attempt):
    assert "out of memory" in of_signal(1, signal.SIGKILL, 0.0).message
    assert "out of memory" not in of_signal(1, signal.SIGSEGV, 0.0).message


def test_a_signal_without_a_name_is_told_by_its_number():
    failure = of_signal(1, 40, 0.0)
    assert "40" in failure.message
    assert failure.exit_code == 168


def test_an_error_that_aborts_its_peers_is_the_cause(attempt):
    """The peers of a rank that raised end by SIGABRT or by srun's SIGTERM: these are no causes."""
    fail(
        attempt,
        Failure(2, 100.0, 1, "boom", "Traceback: boom"),
        of_signal(0, signal.SIGABRT, 100.5),
        of_signal(1, signal.SIGTERM, 100.6),
    )
    assert root_cause(attempt).message == "boom"


def test_a_kill_long_after_is_srun_s_and_no_cause(attempt):
    fail(attempt, Failure(0, 100.0, 1, "boom", "Traceback"), of_signal(1, signal.SIGKILL, 130.0))
    assert root_cause(attempt).message == "boom"


def test_a_rank_s_own_word_is_kept(attempt):
    fail(attempt, Failure(0, 1.0, 2, "the data is gone", "Traceback"), Failure(0, 2.0, 1, "ended with exit code 1"))
    assert root_cause(attempt).message == "the data is gone"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        '{"rank": 0}',
        '{"rank": 0, "time": "noon", "exit_code": 1, "message": "x"}',
        '{"rank": 0, "time": null, "exit_code": 1, "message": "x"}',
        '{"rank": 0, "time": 1, "exit_code": [], "message": "x"}',
    ],
)
def test_broken_files_are_passed_over(attempt, text):
    fail(attempt, Failure(1, 10.0, 1, "boom"))
    (attempt.failures / "rank-0000.json").write_text(text)
    assert root_cause(attempt).rank == 1
    assert judge(attempt, 1)[0] is ExitCode.FAILED


# ---------------------------------------------------------------- the verdict


def test_done_is_what_rank_0_says(attempt):
    Status("done", 0, 9, "the run is complete").write(attempt.status)
    assert judge(attempt, 0)[0] is ExitCode.DONE
    assert judge(attempt, 139)[0] is ExitCode.DONE  # a rank that crashed while it took its leave


def test_an_agreed_end_stays_one_when_a_rank_crashes_afterwards(attempt):
    fail(attempt, Failure(0, 1.0, 3, "a person asked to stop", order="stop"), of_signal(5, 11, 4.0))
    assert judge(attempt, 139) == (ExitCode.STOPPED, "a person asked to stop")


def test_exit_code_0_without_a_word_of_rank_0_is_a_failure(attempt):
    code, message = judge(attempt, 0)
    assert (code, "without a word" in message) == (ExitCode.FAILED, True)
    Status("running", None, 3, "starting").write(attempt.status)
    assert judge(attempt, 0)[0] is ExitCode.FAILED


@pytest.mark.parametrize(
    ("number", "code"),
    [(1, 1), (2, 2), (3, 3), (75, 75), (137, 1), (134, 1), (143, 1), (255, 1)],
)
def test_the_code_is_that_of_the_cause(attempt, number, code):
    fail(attempt, Failure(2, 1.0, number, "why"))
    found, message = judge(attempt, 137)
    assert found is ExitCode(code)
    assert message.startswith("why")
    assert ("rank 2, see" in message) == (code not in (3, 75))


def test_an_error_of_exit_code_3_names_its_rank(attempt):
    fail(attempt, Failure(2, 1.0, 3, "Loss is not finite", "Traceback"))
    assert "rank 2, see" in judge(attempt, 3)[1]


# ---------------------------------------------------------------- what is written


def test_a_crash_is_in_both_files_with_rank_and_traceback(attempt):
    Status("running", None, 3, "starting").write(attempt.status)
    fail(attempt, Failure(1, 1.0, 1, "boom", "Traceback: boom"))
    conclude(attempt, ExitCode.FAILED, "boom\n(rank 1)", requeue=True, reason="it gets on")
    assert json.loads(attempt.outcome.read_text()) == {
        "exit_code": 1,
        "message": "boom\n(rank 1)",
        "step": 3,
        "requeue": True,
        "reason": "it gets on",
    }
    assert read_status(attempt.status) == Status("failed", 1, 3, "boom\n(rank 1)", 1, "Traceback: boom")


def test_a_good_end_leaves_rank_0_s_own_words(attempt):
    status = Status("done", 0, 100, "the run is complete")
    status.write(attempt.status)
    conclude(attempt, ExitCode.DONE, "the run is complete")
    assert read_status(attempt.status) == status
    assert json.loads(attempt.outcome.read_text())["step"] == 100


def test_an_agreed_end_names_no_rank(attempt):
    Status("running", None, 8, "starting").write(attempt.status)
    fail(attempt, Failure(0, 1.0, 75, "SLURM announced the end"))
    conclude(attempt, ExitCode.PREEMPTED, "SLURM announced the end", requeue=True)
    assert read_status(attempt.status) == Status("preempted", 75, 8, "SLURM announced the end")


def test_a_full_disk_is_an_error_and_leaves_the_old_files(attempt):
    with full_disk(), pytest.raises(OSError, match="File too large"):
        conclude(attempt, ExitCode.FAILED, "boom")
    assert list(attempt.path.glob("*.json")) == []
    assert list(attempt.path.glob(".*")) == []


@pytest.mark.parametrize(
    ("text", "ended"),
    [('{"requeue": false}', True), ("{}", True), ('{"requeue": true}', False), ("[]", False), ("{", False)],
)
def test_an_end_for_good(attempt, text, ended):
    attempt.outcome.write_text(text)
    assert ended_for_good(attempt) == ended


def test_no_outcome_is_no_end(attempt):
    assert not ended_for_good(attempt)


# ---------------------------------------------------------------- the newest step


def test_no_step_is_0(attempt):
    assert last_step(attempt) == 0


def test_the_newest_step_is_that_of_whichever_file_is_further(attempt):
    attempt.metrics.write_text('{"step": 1}\n{"step": 12}\n{"val": 1}\n{"step": 13, "lo')
    assert last_step(attempt) == 12
    Status("running", None, 40, "x").write(attempt.status)
    assert last_step(attempt) == 40


def test_of_a_long_file_the_end_is_read_though_its_first_line_is_cut(attempt):
    line = '{{"step": {}, "text": "' + "x" * 1000 + '"}}\n'
    attempt.metrics.write_text("".join(line.format(step) for step in range(1, 301)))
    assert attempt.metrics.stat().st_size > 2 * 65536
    assert last_step(attempt) == 300


def test_the_tail_of_a_log(tmp_path):
    assert tail(tmp_path / "none.log") is None
    (tmp_path / "log").write_bytes(b"")
    assert tail(tmp_path / "log") is None
    (tmp_path / "log").write_bytes(b"".join(b"line %d \xff\n" % number for number in range(99)))
    assert tail(tmp_path / "log", 2) == "line 97 \N{REPLACEMENT CHARACTER}\nline 98 \N{REPLACEMENT CHARACTER}"
