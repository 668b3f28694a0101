"""What becomes of a command whose output can't be written."""

import subprocess
import sys
from pathlib import Path

import pytest

PRINTS = """
import sys
from mmhydra.monitor.pipe import ends_quietly

@ends_quietly
def main():
    print("x" * 100_000)
    return 0

sys.exit(main())
"""


def run(**streams) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", PRINTS], stderr=subprocess.PIPE, text=True, timeout=60, **streams)


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="this system has no /dev/full")
def test_a_full_disk_is_told_in_a_line():
    with open("/dev/full", "w") as full:
        done = run(stdout=full)
    assert done.returncode == 1
    assert done.stderr == "error: standard output can't be written: No space left on device\n"


def test_a_reader_that_has_seen_enough_ends_it_quietly():
    process = subprocess.Popen([sys.executable, "-c", PRINTS], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(1)
    process.stdout.close()
    assert process.wait(60) == 0
    assert process.stderr.read() == b""
    process.stderr.close()
