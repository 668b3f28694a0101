"""How `python -m mmhydra.drive` ends: its time is up, a disk is full, a reader has seen enough."""

import errno
import gc
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mmhydra import drive
from mmhydra.errors import ExitCode

FULL = OSError(errno.ENOSPC, "No space left on device")  # of a write: it names no file
STALE = OSError(errno.ESTALE, "Stale file handle", "/shared/outputs/sweeps/mine/sweep.json")

# A driver that does `work`, whatever its standard output is.
PROGRAM = """
import sys
from pathlib import Path
from types import SimpleNamespace
from rich.console import Console
from mmhydra import drive

def work(sweep, say):
    {work}
    return 0

drive.find_sweep = lambda name: SimpleNamespace(is_search=True, path=Path("mine"))
drive.kept_origin = drive.use_frozen_code = lambda *given: None
drive.drive_search = work
sys.exit(drive.main(["mine"]))
"""


@pytest.fixture
def drives(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., int]]:
    """Drives a search that does the given; signals are heeded as before afterwards."""
    heeded = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2)}
    sweep: Any = SimpleNamespace(is_search=True, path=Path("mine"))
    monkeypatch.setattr(drive, "find_sweep", lambda name: sweep)
    monkeypatch.setattr(drive, "kept_origin", lambda sweep: None)
    monkeypatch.setattr(drive, "use_frozen_code", lambda *given: None)

    def drives(work: Callable[[], int], name: str = "mine") -> int:
        monkeypatch.setattr(drive, "drive_search", lambda sweep, say: work())
        return drive.main([name])

    yield drives
    for number, handler in heeded.items():
        signal.signal(number, handler)


def test_no_guard_against_failures_swallows_that_the_time_is_up(drives, monkeypatch, capsys):
    monkeypatch.setenv("SLURM_JOB_ID", "7")

    def work() -> int:
        try:
            os.kill(os.getpid(), signal.SIGUSR2)
        except Exception:  # as around the composition of a trial
            return ExitCode.DONE
        raise AssertionError("the signal was not heeded")

    assert drives(work) == ExitCode.PREEMPTED
    assert "the time of this job is up" in capsys.readouterr().out


def test_garbage_is_collected_while_it_drives(drives):
    gc.disable()
    try:
        assert drives(lambda: ExitCode.DONE if gc.isenabled() else ExitCode.FAILED) == ExitCode.DONE
    finally:
        gc.enable()


@pytest.mark.parametrize("error", [FULL, STALE])
def test_a_disk_that_fails_is_told_and_what_to_type(drives, capsys, error):
    def work() -> int:
        raise error

    assert drives(work, "my sweeps/mine") == ExitCode.FAILED
    said = capsys.readouterr().err
    assert said.startswith(f"error: {error}\n")
    assert said.endswith("\n  python -m mmhydra.drive 'my sweeps/mine'\n")
    assert "standard output" not in said


def test_what_is_typed_after_ctrl_c_is_quoted(drives, capsys):
    def work() -> int:
        raise KeyboardInterrupt

    assert drives(work, "my sweeps/mine") == ExitCode.FAILED
    said = capsys.readouterr().err
    assert "python -m mmhydra.drive 'my sweeps/mine'\n" in said
    assert "python -m mmhydra.cancel 'my sweeps/mine'\n" in said


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="this system has no /dev/full")
@pytest.mark.parametrize("flags", [[], ["-u"]])  # -u: as in a job
@pytest.mark.parametrize("work", ["say('trial 1')", "Console().print('submitted')"])
def test_a_full_disk_behind_standard_output_is_told_as_such(flags, work):
    with open("/dev/full", "w") as full:
        done = program(work, flags, stdout=full)
    assert done.stderr == "error: standard output can't be written: No space left on device\n"
    assert done.returncode == 1


def test_a_reader_that_has_seen_enough_ends_it_quietly():
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = program("say('trial 1')", [], stdout=writing)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def program(work: str, flags: list[str], **streams: Any) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, *flags, "-c", PROGRAM.replace("{work}", work)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=60, env=environment, **streams)
