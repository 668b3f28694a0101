"""The lease as a SLURM job holds it: against its own past, against other jobs, and against processes of this host."""

import json
import os
import subprocess
import sys
import time

import pytest
from frozen import wait_for

from mmhydra.run import lease as module
from mmhydra.run.directory import RunDirectory
from mmhydra.run.lease import STALE_S, JobLease, LeaseError, hold

HOLDER = """
import sys, time
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
def local_process(run):
    """Another process that holds the run by the kernel's lock."""
    command = [sys.executable, "-c", HOLDER, str(run.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def owner(run) -> dict[str, object]:
    return json.loads(run.lease.read_bytes())


def age(run, seconds: float) -> None:
    moment = time.time() - seconds
    os.utime(run.lease, (moment, moment))


def test_a_free_run_is_taken_and_names_job_and_attempt(run):
    JobLease(run, "7", 1).take()
    assert (owner(run)["job"], owner(run)["attempt"], owner(run)["released"]) == ("7", 1, False)


def test_the_same_job_takes_over_at_once(run):
    before = JobLease(run, "7", 1)
    before.take()
    after = JobLease(run, "7", 2)
    began = time.monotonic()
    after.take()
    assert time.monotonic() - began < 1
    assert (before.is_ours(), after.is_ours()) == (False, True)


def test_an_orphan_neither_beats_nor_releases(run):
    orphan, heir = JobLease(run, "7", 1), JobLease(run, "7", 2)
    orphan.take()
    heir.take()
    age(run, 30)
    written = run.lease.stat().st_mtime_ns
    orphan.beat()
    orphan.release()
    assert run.lease.stat().st_mtime_ns == written
    assert owner(run)["released"] is False
    heir.beat()
    assert time.time() - run.lease.stat().st_mtime < 10


def test_another_live_job_is_refused_by_name(run):
    JobLease(run, "7", 1).take()
    with pytest.raises(LeaseError, match=r"is under way, started by SLURM job 7 on .*, attempt 1, last heard of"):
        JobLease(run, "8", 2).take()
    assert owner(run)["job"] == "7"


def test_a_job_that_was_silent_for_long_is_dead(run):
    JobLease(run, "7", 1).take()
    age(run, STALE_S + 1)
    JobLease(run, "8", 2).take()
    assert owner(run)["job"] == "8"


def test_a_job_that_released_it_is_followed_at_once(run):
    JobLease(run, "7", 1).take()
    JobLease(run, "7", 1).release()
    JobLease(run, "8", 2).take()
    assert owner(run)["job"] == "8"


def test_a_local_process_is_in_the_way_until_it_ends(run, local_process):
    job = JobLease(run, "7", 2)
    with pytest.raises(LeaseError, match=rf"is under way, started by process {local_process.pid} on "):
        job.take()
    local_process.kill()
    local_process.wait()
    job.take()
    assert job.is_ours()


def test_a_local_start_is_refused_while_a_job_beats_and_only_then(run):
    JobLease(run, "7", 1).take()
    with pytest.raises(LeaseError, match="started by SLURM job 7"), hold(run):
        pass
    age(run, STALE_S + 1)
    with hold(run) as lease:
        assert lease.is_ours
        assert "job" not in owner(run)


def test_a_local_start_that_took_a_silent_job_s_run_is_seen_by_it(run):
    job = JobLease(run, "7", 1)
    job.take()
    age(run, STALE_S + 1)
    with hold(run):
        assert not job.is_ours()


def test_it_beats_in_the_background(run, monkeypatch):
    monkeypatch.setattr(module, "BEAT_S", 0.02)
    job = JobLease(run, "7", 1)
    job.take()
    age(run, 40)
    with job.beating():
        wait_for(lambda: time.time() - run.lease.stat().st_mtime < 10, "a beat")
    age(run, 40)
    time.sleep(0.1)
    assert time.time() - run.lease.stat().st_mtime > 30  # it ended


@pytest.mark.parametrize("text", [None, "", "[]", "{"])
def test_a_file_that_is_away_or_broken_ends_no_job(run, text):
    if text is not None:
        run.lease.write_text(text)
    job = JobLease(run, "7", 1)
    assert job.is_ours()
    job.beat()
    job.release()
    assert run.lease.exists() == (text is not None)
