"""One start of a run at a time."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from mmhydra.run.directory import RunDirectory
from mmhydra.run.lease import LeaseError, hold

HOLDER = """
import sys
from pathlib import Path
from mmhydra.run.directory import RunDirectory
from mmhydra.run.lease import hold
with hold(RunDirectory(Path(sys.argv[1]))):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def run(tmp_path):
    return RunDirectory(tmp_path)


@pytest.fixture
def holder(run):
    line = [sys.executable, "-c", HOLDER, str(run.path)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_holder_is_refused_and_told_the_owner(run, holder):
    owner = f"process {holder.pid} on {socket.gethostname()} at 20"
    with pytest.raises(LeaseError, match=f"under way, started by {owner}"), hold(run):
        pass


def test_kill_9_frees_the_lease(run, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with hold(run), pytest.raises(LeaseError, match=f"process {os.getpid()} on"), hold(run):
        pass


def test_the_lease_is_free_after_a_failure(run):
    with pytest.raises(RuntimeError), hold(run):
        raise RuntimeError
    with hold(run):
        pass


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff"])
def test_an_owner_that_can_not_be_read_is_another_process(run, holder, content):
    run.lease.write_bytes(content)
    with pytest.raises(LeaseError, match="another process"), hold(run):
        pass


def test_a_lease_that_can_not_be_opened_is_refused(run):
    run.lease.mkdir()
    with pytest.raises(LeaseError, match="can't be taken"), hold(run):
        pass
