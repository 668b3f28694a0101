import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_slurm import FakeSlurm, squeue_row

from mmhydra import logs
from mmhydra.monitor.tail import last_lines

DEADLINE_S = 20


def numbered(count: int) -> str:
    return "".join(f"line {number}\n" for number in range(1, count + 1))


def test_the_end_of_rank_0_of_the_newest_attempt(scene, slurm: FakeSlurm, capsys: pytest.CaptureFixture[str]) -> None:
    scene.log(scene.attempt(), 0, "old\n")
    second = scene.attempt()
    scene.log(second, 0, numbered(60))
    scene.log(second, 3, "of rank 3\n")
    assert logs.main([str(scene.path)]) == 0
    told = capsys.readouterr()
    assert told.out.splitlines() == [f"line {number}" for number in range(11, 61)]
    assert told.err.startswith("--- attempt 2, rank 0: outputs/debug/")
    assert logs.main([str(scene.path), "--rank", "3"]) == 0
    assert capsys.readouterr().out == "of rank 3\n"
    assert logs.main([str(scene.path), "--lines", "1"]) == 0
    assert capsys.readouterr().out == "line 60\n"
    assert logs.main([str(scene.path), "--lines", "0"]) == 0
    assert capsys.readouterr().out == ""
    assert logs.main([str(scene.path), "--rank", "9"]) == 2
    assert "rank 9 has no log; there are those of ranks 0 to 3" in capsys.readouterr().err
    assert slurm.calls == []  # the files say it all


def test_before_there_are_ranks(scene, slurm: FakeSlurm, capsys: pytest.CaptureFixture[str]) -> None:
    attempt = scene.submitted("123")
    assert logs.main([str(scene.path)]) == 2
    assert "has no log yet; add -f to wait" in capsys.readouterr().err
    scene.directory.slurm.mkdir()
    (scene.directory.slurm / "123_0_log.out").write_text("batch script\n")
    assert logs.main([str(scene.path)]) == 0
    told = capsys.readouterr()
    assert told.out == "batch script\n"
    assert "the batch script of job 123" in told.err
    (attempt.logs / "elastic.log").write_text("elastic\n")
    assert logs.main([str(scene.path)]) == 0
    assert capsys.readouterr().out == "elastic\n"
    scene.log(attempt, 0, "rank\n")
    assert logs.main([str(scene.path)]) == 0
    assert capsys.readouterr().out == "rank\n"


@pytest.mark.parametrize("text", ["", "a", "a\n", "a\nb", "a\nb\n", "\n\n\n", "x" * 200_000 + "\ny\n", "k\n" * 100_000])
@pytest.mark.parametrize("number", [0, 1, 2, 50])
def test_last_lines(tmp_path: Path, text: str, number: int) -> None:
    path = tmp_path / "log"
    path.write_text(text)
    expected = "".join(text.splitlines(keepends=True)[-number:] if number else [])
    assert last_lines(path, number) == (expected.encode(), len(text))


class Reader:
    """A command that follows, and all that it has said so far."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.text = ""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.text += line

    def wait_for(self, words: str) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while words not in self.text:
            assert time.monotonic() < deadline, self.text
            time.sleep(0.02)

    def end(self) -> str:
        assert self.process.wait(DEADLINE_S) == 0
        self._thread.join()
        return self.text


@pytest.fixture
def follow(slurm: FakeSlurm) -> Iterator[Callable[..., Reader]]:
    started = []

    def follow(*arguments: str) -> Reader:
        command = [sys.executable, "-m", "mmhydra.logs", *arguments, "-f"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        started.append(process)
        return Reader(process)

    yield follow
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_follow_goes_on_over_a_requeue_until_the_end(scene, slurm: FakeSlurm, follow: Callable[..., Reader]) -> None:
    slurm.has(squeue_row("123", "RUNNING"))
    first = scene.submitted()
    reader = follow(str(scene.path))
    scene.directory.slurm.mkdir()
    (scene.directory.slurm / "123_0_log.out").write_text("checking nodes\n")
    reader.wait_for("checking nodes")
    scene.began(first)
    log = scene.log(first, 0, "step 1\n")
    reader.wait_for("step 1\n")
    with open(log, "a") as file:
        file.write("step 2\n")
    reader.wait_for("step 2\n")
    with open(log, "a") as file:
        file.write("preempted\n")
    scene.ended(first, 75, "preempted", requeue=True)
    second = scene.requeued(restart=1)
    scene.log(second, 0, "step 3\n")
    reader.wait_for("step 3\n")
    scene.ended(second, 0, "the run is complete")
    lines = reader.end().splitlines()
    assert [line for line in lines if not line.startswith("---")] == [
        "checking nodes",
        "step 1",
        "step 2",
        "preempted",
        "step 3",
        "the run is over: done",
    ]
    assert [line.split(":")[0] for line in lines if line.startswith("---")] == [
        "--- attempt 1, the batch script of job 123",
        "--- attempt 1, rank 0",
        "--- attempt 2, rank 0",
    ]


def test_follow_of_a_run_that_is_over_ends_at_once(scene, follow: Callable[..., Reader]) -> None:
    attempt = scene.attempt()
    scene.log(attempt, 0, "all\n")
    scene.ended(attempt, 1, "it failed")
    assert follow(str(scene.path)).end().splitlines()[1:] == ["all", "the run is over: failed"]


@pytest.mark.parametrize("unbuffered", ["", "1"])  # then a pipe takes a part of what is written
def test_all_of_a_large_log_reaches_a_pipe(scene, unbuffered: str) -> None:
    text = "x" * 1_000_000 + "\n" + numbered(100_000)
    scene.log(scene.attempt(), 0, text)
    command = [sys.executable, "-m", "mmhydra.logs", str(scene.path), "--lines", "1000000"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONUNBUFFERED": unbuffered})
    assert done.stdout == text


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("flags", [[], ["-f"]])
def test_a_reader_that_has_seen_enough(scene, slurm: FakeSlurm, flags: list[str], unbuffered: str) -> None:
    attempt = scene.attempt()
    scene.log(attempt, 0, "x" * 1_000_000 + "\n" + numbered(100_000))
    command = [sys.executable, "-m", "mmhydra.logs", str(scene.path), "--lines", "1000000", *flags]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": unbuffered}
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()
    told = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(DEADLINE_S) == 0
    assert len(told.splitlines()) == 1, told


def test_a_followed_log_that_is_taken_away_is_no_traceback(scene, follow: Callable[..., Reader]) -> None:
    attempt = scene.attempt()
    scene.local()
    log = scene.log(attempt, 0, "one\n")
    reader = follow(str(scene.path))
    reader.wait_for("one\n")
    log.unlink()
    scene.ended(attempt, 0, "the run is complete")
    assert "Traceback" not in reader.end()
