"""One start of a run at a time."""

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from mmhydra.config.frozen import to_yaml
from mmhydra.files import time_of_file_system
from mmhydra.run import lease as module
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
ELSEWHERE = {"host": "elsewhere", "pid": 77, "since": "2026-01-02T03:04:05.000006+00:00", "attempt": 3}


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


@pytest.fixture
def no_locks(monkeypatch):
    """A file system without flock, as some network file systems are."""

    def flock(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    monkeypatch.setattr(module, "SETTLE_S", 0.05)


def leave(run, silent_s: float, **owner: object) -> None:
    """The lease of somebody who was last heard of so long ago."""
    run.lease.write_text(json.dumps({"released": False, **ELSEWHERE, **owner}))
    then = time.time() - silent_s
    os.utime(run.lease, (then, then))


def owner(run) -> dict[str, object]:
    return json.loads(run.lease.read_bytes())


# ---------------------------------------------------------------- one host


def test_a_second_holder_is_refused_and_told_the_owner(run, holder):
    told = f"process {holder.pid} on {socket.gethostname()} at 20"
    with pytest.raises(LeaseError, match=f"under way, started by {told}"), hold(run):
        pass


def test_a_second_holder_is_told_the_attempt(run):
    with hold(run) as lease:
        lease.started(7)
        with pytest.raises(LeaseError, match=r"at [0-9T:-]{19}, attempt 7$"), hold(run):
            pass
        assert owner(run)["attempt"] == 7


def test_kill_9_frees_the_lease(run, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert owner(run)["released"] is False
    with hold(run), pytest.raises(LeaseError, match=f"process {os.getpid()} on"), hold(run):
        pass


def test_the_lease_is_free_after_a_failure(run):
    with pytest.raises(RuntimeError), hold(run):
        raise RuntimeError
    assert owner(run)["released"] is True
    with hold(run):
        assert owner(run)["released"] is False


def test_the_lease_is_free_after_ctrl_c(run):
    with pytest.raises(KeyboardInterrupt), hold(run):
        raise KeyboardInterrupt
    assert owner(run)["released"] is True


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff"])
def test_an_owner_that_can_not_be_read_is_another_process(run, holder, content):
    run.lease.write_bytes(content)
    with pytest.raises(LeaseError, match="another process"), hold(run):
        pass


def test_a_lease_that_can_not_be_opened_is_refused(run):
    run.lease.mkdir()
    with pytest.raises(LeaseError, match="can't be taken"), hold(run):
        pass


def test_a_lease_that_can_not_be_written_is_refused(run, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(LeaseError, match=r"can't be taken: .*No space left"), hold(run):
        pass


def test_a_full_disk_is_no_failure_of_the_run(run, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with hold(run) as lease:
        monkeypatch.setattr(os, "pwrite", full)
        lease.started(1)
    assert owner(run)["attempt"] is None, "the disk was not full"


# ---------------------------------------------------------------- the heartbeat


def test_the_holder_renews_the_time_of_the_file(run, monkeypatch):
    monkeypatch.setattr(module, "BEAT_S", 0.01)
    with hold(run):
        for _ in range(3):  # not only once
            os.utime(run.lease, (1, 1))
            deadline = time.monotonic() + 30
            while run.lease.stat().st_mtime == 1:
                assert time.monotonic() < deadline, "the heart stands still"
                time.sleep(0.005)
        assert abs(run.lease.stat().st_mtime - time.time()) < 30
    os.utime(run.lease, (1, 1))
    time.sleep(0.1)
    assert run.lease.stat().st_mtime == 1, "the heart of a lease that was given back beats on"


def test_a_file_server_that_is_away_for_a_moment_stops_no_heart(run, monkeypatch):
    utime, beats = os.utime, []

    def away(descriptor):
        beats.append(descriptor)
        if len(beats) < 3:
            raise OSError(errno.ESTALE, "Stale file handle")
        utime(descriptor)

    monkeypatch.setattr(module, "BEAT_S", 0.01)
    with hold(run):
        monkeypatch.setattr(os, "utime", away)
        deadline = time.monotonic() + 30
        while len(beats) < 4:
            assert time.monotonic() < deadline
            time.sleep(0.005)


def test_a_heart_beats_often_enough_to_be_missed_some_times():
    assert module.STALE_S >= 5 * module.BEAT_S


def test_the_time_of_a_file_system_is_that_of_a_new_file(tmp_path):
    before = time.time()
    assert before - 2 <= time_of_file_system(tmp_path) <= time.time() + 2
    assert os.listdir(tmp_path) == []


# ---------------------------------------------------------------- between hosts


def test_a_fresh_lease_of_another_host_is_refused_with_owner_attempt_and_time_to_wait(run):
    leave(run, 12)
    before = run.lease.read_bytes()
    with pytest.raises(LeaseError) as refusal, hold(run):
        pass
    assert str(refusal.value).startswith(
        f"the run {run.path} is under way, started by process 77 on elsewhere at 2026-01-02T03:04:05, attempt 3, "
        "last heard of 12 s ago; if it is dead, try again in 48 s"
    )
    assert run.lease.read_bytes() == before
    assert run.lease.stat().st_mtime < time.time() - 11, "the refusal itself looked like a heartbeat"


@pytest.mark.parametrize("left", [{"silent_s": 61}, {"silent_s": 0, "released": True}, {"silent_s": 1e6}])
def test_a_stale_or_released_lease_of_another_host_is_taken(run, left):
    leave(run, **left)
    with hold(run):
        assert (owner(run)["host"], owner(run)["pid"]) == (socket.gethostname(), os.getpid())
        assert time.time() - run.lease.stat().st_mtime < 30


def test_a_fresh_lease_of_this_host_without_a_lock_is_taken(run):
    leave(run, 0, host=socket.gethostname())
    with hold(run):
        assert owner(run)["pid"] == os.getpid()


def test_the_clock_of_this_host_does_not_matter(run, monkeypatch):
    """The file server is a year ahead; the holder beat ten seconds ago by its clock."""
    year = 3.2e7
    monkeypatch.setattr(module, "time_of_file_system", lambda folder: time.time() + year)
    leave(run, 10 - year)
    with pytest.raises(LeaseError, match="last heard of 10 s ago; if it is dead, try again in 50 s"), hold(run):
        pass
    leave(run, 70 - year)
    with hold(run):
        pass


def test_a_time_of_the_future_is_now(run):
    leave(run, -1000)
    with pytest.raises(LeaseError, match="last heard of 0 s ago; if it is dead, try again in 60 s"), hold(run):
        pass


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}", b"\xff", b'{"pid": 1}'])
def test_a_fresh_lease_that_can_not_be_read_is_somebody_s(run, content):
    """Half a write of another host must not look free."""
    run.lease.write_bytes(content)
    with pytest.raises(LeaseError, match="started by another process, last heard of"), hold(run):
        pass
    os.utime(run.lease, (1, 1))
    with hold(run):
        pass


def test_a_file_that_was_made_and_never_written_is_free(run):
    run.lease.touch()
    with hold(run):
        pass


def test_no_reader_sees_half_of_the_file(run):
    """All writes have one length, so no tail of an older one is left, and none is torn in two."""
    with hold(run) as lease:
        sizes = {run.lease.stat().st_size}
        lease.started(1_000_000)
        sizes.add(run.lease.stat().st_size)
    sizes.add(run.lease.stat().st_size)
    assert len(sizes) == 1
    assert owner(run)["attempt"] == 1_000_000


def test_a_holder_that_was_given_up_does_not_free_its_successor_s_lease(run):
    """It slept for longer than a dead one would have been waited for; another host has taken over."""
    with hold(run) as lease:
        leave(run, 0)
        lease.started(9)
    assert owner(run) == {"released": False, **ELSEWHERE}


# ---------------------------------------------------------------- without locks


def test_without_locks_the_heartbeat_decides(run, no_locks):
    with hold(run), pytest.raises(LeaseError, match=r"last heard of \d s ago"), hold(run):
        pass
    with hold(run):  # released, so nobody waits
        pass


def test_without_locks_a_dead_process_of_this_host_is_waited_for(run, no_locks):
    leave(run, 5, host=socket.gethostname())
    with pytest.raises(LeaseError, match="last heard of 5 s ago; if it is dead, try again in 55 s"), hold(run):
        pass
    leave(run, 61, host=socket.gethostname())
    with hold(run):
        pass


def test_without_locks_the_last_of_two_to_write_has_the_lease(run, no_locks, monkeypatch):
    """The other one wrote between this one's look and its own write, and sees on its second look that it lost."""
    sleep = time.sleep

    def another_writes(seconds):
        leave(run, 0)
        sleep(0)

    monkeypatch.setattr(time, "sleep", another_writes)
    with pytest.raises(LeaseError, match="under way, started by process 77 on elsewhere"), hold(run):
        pass
    assert owner(run) == {"released": False, **ELSEWHERE}


# ---------------------------------------------------------------- at the same instant

# Each process does under the lease what launch.submit does: it freezes the next attempt and then works on the run. A
# marker that only one process can make at a time tells two holders. Forked from a process with one thread.
RACE = """
import fcntl, json, os, sys, time
from multiprocessing import get_context
from pathlib import Path

from mmhydra.compose import Request
from mmhydra.compose.request import LazyProvenance
from mmhydra.config.explain import Provenance
from mmhydra.config.frozen import from_yaml
from mmhydra.launch.freeze import Origin, Plan, freeze
from mmhydra.run import lease
from mmhydra.run.directory import RunDirectory
from mmhydra.run.identity import identify

folder, config, locks, processes, rounds = sys.argv[1:]
config = from_yaml(Path(config).read_bytes())
identity = identify(config, {}, None)
run = RunDirectory(Path(folder) / identity.run_id)

def no_locks(descriptor, operation):
    raise OSError("no locks")

if locks == "without":
    fcntl.flock = no_locks

def start(gate, number, told):
    for turn in range(int(rounds)):
        request = Request(config, (f"tag={number}-{turn}",), None, False, LazyProvenance(lambda: Provenance([])))
        plan = Plan(request, {}, identity, run)
        origin = Origin({"git": {"patch_sha256": str(number)}}, {"code.patch": f"{number} {turn}".encode()})
        gate.wait()
        run.create(identity)
        try:
            with lease.hold(run) as held:
                marker = os.open(run.path / "marker", os.O_CREAT | os.O_EXCL)
                attempt = freeze(plan, origin)
                held.started(attempt.number)
                time.sleep(0.005)
                os.close(marker)
                os.unlink(run.path / "marker")
            told.put((number, turn, attempt.number))
        except lease.LeaseError as error:
            told.put((number, turn, str(error)))
        except BaseException as error:
            told.put((number, turn, f"broken: {error!r}"))

if __name__ == "__main__":
    fork = get_context("fork")
    gate, told = fork.Barrier(int(processes)), fork.SimpleQueue()
    racers = [fork.Process(target=start, args=(gate, number, told)) for number in range(int(processes))]
    for racer in racers:
        racer.start()
    found = [told.get() for _ in range(int(processes) * int(rounds))]
    for racer in racers:
        racer.join()
    print(json.dumps([str(run.path), found]))
"""


@pytest.mark.parametrize(("locks", "processes", "rounds"), [("with", 6, 8), ("without", 4, 2)])
def test_starts_at_the_same_instant_never_share_an_attempt_and_never_write_twice(
    tmp_path, default_config, locks, processes, rounds
):
    file = tmp_path / "config.yaml"
    file.write_bytes(to_yaml(default_config))
    line = [sys.executable, "-c", RACE, str(tmp_path), str(file), locks, str(processes), str(rounds)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    path, told = json.loads(done.stdout)
    run = RunDirectory(tmp_path / os.path.basename(path))
    started = {attempt: (number, turn) for number, turn, attempt in told if isinstance(attempt, int)}
    refused = [text for _, _, text in told if isinstance(text, str)]
    assert len(started) + len(refused) == processes * rounds
    assert {turn for _, turn in started.values()} == set(range(rounds)), "nobody started in some round"
    assert [text for text in refused if "is under way, started by " not in text] == []
    assert [attempt.number for attempt in run.attempts] == list(range(1, len(started) + 1)) == sorted(started)
    for attempt in run.attempts:
        number, turn = started[attempt.number]
        config, _ = attempt.read_frozen()
        assert config == default_config
        provenance = attempt.provenance()
        assert (provenance["attempt"], provenance["git"]["patch_sha256"]) == (attempt.number, str(number))
        assert attempt.code_patch.read_text() == f"{number} {turn}"
        assert (attempt.path / "overrides.txt").read_text() == f"tag={number}-{turn}\n"
    assert owner(run)["released"] is True
    assert not list(run.path.rglob("*.tmp"))
