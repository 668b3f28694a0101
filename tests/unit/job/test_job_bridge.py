"""Tasks of srun as real processes: what they tell their ranks, and what they make of how the ranks end."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from frozen import freeze, store_ranks, wait_for

from mmhydra.run.outcome import failures

RANK = """
import json
import os
import signal
import sys
import time

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "CUDA_VISIBLE_DEVICES")


def run_attempt(attempt):
    rank = os.environ["RANK"]
    (attempt.path / f"variables-{rank}.json").write_text(json.dumps({name: os.environ.get(name) for name in NAMES}))
    what = os.environ.get("TEST_RANK", "")
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "raise":
        raise RuntimeError("boom")
    if what == "wait":
        (attempt.path / "imports").touch()  # as it imports torch, deaf
        while not (attempt.path / "go").exists():
            time.sleep(0.01)
        for number in (signal.SIGUSR2, signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, lambda number, frame: heard(attempt, number))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGUSR2, signal.SIGTERM, signal.SIGUSR1))
        (attempt.path / "ready").touch()
        time.sleep(60)
    return int(what or 0)


def heard(attempt, number):
    print("heard", signal.Signals(number).name, flush=True)
    sys.exit(75)
"""


@pytest.fixture
def config(tmp_path, slurm_config, change):
    return change(slurm_config, {"paths.outputs": str(tmp_path / "outputs"), "paths.data": str(tmp_path / "data")})


@pytest.fixture
def attempt(tmp_path, config):
    """Frozen with ranks that do what a test says."""
    snapshot = store_ranks(tmp_path / "outputs", RANK)
    return freeze(tmp_path / "outputs" / "debug" / "0123456789ab", config, snapshot)


@pytest.fixture
def start():
    """Starts a task of a step, as srun does. All are ended with the test."""
    tasks = []

    def start(attempt, rank: int = 0, world_size: int = 1, what: str = "", **more: str) -> "subprocess.Popen[str]":
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "MMHYDRA", "RANK"))}
        slurm = {
            "SLURM_JOB_ID": "7",
            "SLURM_STEP_ID": "1",
            "SLURM_PROCID": str(rank),
            "SLURM_NTASKS": str(world_size),
            "SLURM_LOCALID": str(rank),
            "SLURM_STEP_TASKS_PER_NODE": str(world_size),
            "SLURMD_NODENAME": "127.0.0.1",
            "TEST_RANK": what,
        }
        tasks.append(
            subprocess.Popen(
                [sys.executable, "-m", "mmhydra.job.bridge", str(attempt.path)],
                env={**kept, **slurm, **more},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return tasks[-1]

    yield start
    for task in tasks:
        task.kill()
        task.communicate()


def ended(task) -> tuple[int, str]:
    _, err = task.communicate(timeout=60)
    return task.returncode, err


def variables(attempt, rank: int) -> dict[str, str]:
    return json.loads((attempt.path / f"variables-{rank}.json").read_text())


def log(attempt, rank: int = 0) -> str:
    return (attempt.logs / f"rank-{rank:04d}.log").read_text()


def test_tasks_find_one_rendezvous_though_rank_0_is_late(attempt, start):
    early = [start(attempt, rank, 3) for rank in (1, 2)]
    time.sleep(0.8)
    assert [task.poll() for task in early] == [None, None]
    assert ended(start(attempt, 0, 3))[0] == 0
    assert [ended(task)[0] for task in early] == [0, 0]
    found = [variables(attempt, rank) for rank in range(3)]
    assert [one["RANK"] for one in found] == [one["LOCAL_RANK"] for one in found] == ["0", "1", "2"]
    (common,) = {(one["WORLD_SIZE"], one["LOCAL_WORLD_SIZE"], one["MASTER_ADDR"], one["MASTER_PORT"]) for one in found}
    assert common[:3] == ("3", "3", "127.0.0.1")
    assert 1024 < int(common[3]) < 65536
    assert found[0]["CUDA_VISIBLE_DEVICES"] == ""  # the cluster computes on CPU


def test_each_step_has_a_rendezvous_of_its_own(attempt, start):
    for step in ("1", "2"):
        assert ended(start(attempt, SLURM_STEP_ID=step))[0] == 0
    assert len(list(attempt.path.glob("rendezvous-*.json"))) == 2


@pytest.mark.parametrize("text", ["8(x32)", "8,4", "8"])
def test_tasks_on_this_node(attempt, start, text):
    assert ended(start(attempt, SLURM_STEP_TASKS_PER_NODE=text))[0] == 0
    assert variables(attempt, 0)["LOCAL_WORLD_SIZE"] == "8"


@pytest.mark.parametrize("code", [0, 1, 2, 3, 75])
def test_the_exit_code_is_the_rank_s(attempt, start, code):
    assert ended(start(attempt, what=str(code)))[0] == code
    told = {failure.exit_code for failure in failures(attempt)}
    assert told == ({code} if code in (1, 2) else set())  # the others the ranks write down together


def test_a_rank_that_is_killed_is_written_down(attempt, start):
    code, _ = ended(start(attempt, what="kill"))
    (failure,) = failures(attempt)
    assert (code, failure.exit_code, failure.signal, failure.rank) == (137, 137, signal.SIGKILL, 0)
    assert failure.message.startswith("rank 0 was ended by SIGKILL")


def test_a_rank_that_could_say_nothing_tells_by_its_log(attempt, start):
    assert ended(start(attempt, what="raise"))[0] == 1
    (failure,) = failures(attempt)
    assert "RuntimeError: boom" in failure.traceback


def test_a_rank_that_can_t_import_tells_by_its_log(tmp_path, config, start):
    snapshot = store_ranks(tmp_path / "outputs", 'raise ImportError("half an edit")\n')
    attempt = freeze(tmp_path / "outputs" / "debug" / "0123456789ab", config, snapshot)
    assert ended(start(attempt))[0] == 1
    (failure,) = failures(attempt)
    assert "ImportError: half an edit" in failure.traceback
    assert "the worker ended with exit code 1" in failure.message


def test_a_full_disk_keeps_the_code(attempt, start):
    attempt.failures.touch()  # no folder can be made there
    code, err = ended(start(attempt, what="kill"))
    assert code == 137
    assert "it could not be written down" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("name", ["SIGUSR2", "SIGTERM", "SIGUSR1"])
def test_signals_reach_the_rank(attempt, start, name):
    (attempt.path / "go").touch()
    task = start(attempt, what="wait")
    wait_for((attempt.path / "ready").exists, "a rank that hears")
    task.send_signal(signal.Signals[name])
    assert ended(task)[0] == 75
    assert f"heard {name}\n" in log(attempt)


def test_a_signal_that_comes_too_early_is_held_back_and_heard_later(attempt, start):
    task = start(attempt, what="wait")
    wait_for((attempt.path / "imports").exists, "a deaf rank")
    task.send_signal(signal.SIGUSR2)
    time.sleep(0.3)
    assert task.poll() is None
    assert "heard" not in log(attempt)
    (attempt.path / "go").touch()
    assert ended(task)[0] == 75
    assert "heard SIGUSR2\n" in log(attempt)


def test_slurm_s_sigcont_ends_nothing(attempt, start):
    (attempt.path / "go").touch()
    task = start(attempt, what="wait")
    wait_for((attempt.path / "ready").exists, "a rank that hears")
    task.send_signal(signal.SIGCONT)
    task.send_signal(signal.SIGTERM)
    assert ended(task)[0] == 75


def test_the_batch_script_s_attempt_counts_more(attempt, config, start):
    second = freeze(attempt.run.path, config, store_ranks(Path(config.paths.outputs), RANK))
    assert ended(start(attempt, MMHYDRA_ATTEMPT=str(second.path)))[0] == 0
    assert (second.path / "variables-0.json").exists()
    assert not (attempt.path / "variables-0.json").exists()


def test_without_srun_it_says_so(attempt, start):
    code, err = ended(start(attempt, SLURM_NTASKS=""))
    assert (code, err.startswith("error: srun says neither rank nor number of tasks")) == (2, True)
    assert "Traceback" not in err
    (failure,) = failures(attempt)
    assert failure.exit_code == 2


def test_a_changed_snapshot_is_exit_code_2_with_both_hashes(attempt, start):
    snapshot = Path(attempt.provenance()["snapshot"])
    (snapshot / "more.py").touch()
    assert ended(start(attempt))[0] == 2
    assert "was changed after it was stored" in log(attempt)
    assert "Traceback" not in log(attempt)


def test_a_changed_config_is_exit_code_2_without_a_traceback(attempt, start):
    (attempt.path / "config.yaml").write_text("name: other\n")
    code, err = ended(start(attempt))
    assert code == 2
    assert "was changed after it was frozen" in err
    assert "Traceback" not in err


WAITS = """
import time
def run_attempt(attempt):
    (attempt.path / "ready").touch()
    time.sleep(60)
"""


def test_a_rank_does_not_outlive_its_task(tmp_path, config, start):
    snapshot = store_ranks(tmp_path / "outputs", WAITS)
    attempt = freeze(tmp_path / "outputs" / "debug" / "0123456789ab", config, snapshot)
    task = start(attempt)
    wait_for((attempt.path / "ready").exists, "a rank that has started")
    (rank,) = children(task.pid)
    task.kill()
    task.wait()
    wait_for(lambda: not is_alive(rank), "the end of the rank", 10)


def children(pid: int) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            if folder.name.isdigit() and int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(folder.name))
    return found


def is_alive(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
