"""Starting the workers, short of starting them, and what they say when they end."""

import json
import os
import sys

import pytest

from mmhydra.errors import ExitCode
from mmhydra.launch.local import command, environment, first_failure
from mmhydra.run.directory import Attempt


@pytest.fixture
def attempt(tmp_path):
    return Attempt(tmp_path / "attempts" / "0001")


def test_the_command_is_torch_elastic_on_this_host(attempt):
    line = command(attempt, 8)
    assert line[:3] == [sys.executable, "-m", "torch.distributed.run"]
    assert {"--standalone", "--nproc-per-node=8"} <= set(line)
    assert line[-3:] == ["-m", "mmhydra.worker", str(attempt.path)]


def test_threads_are_shared_out_and_never_none(default_config, change, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    assert environment(default_config, {})["OMP_NUM_THREADS"] == "12"
    assert environment(change(default_config, {"parallel.dp": 4}), {})["OMP_NUM_THREADS"] == "3"
    assert environment(change(default_config, {"parallel.dp": 8, "parallel.tp": 4}), {})["OMP_NUM_THREADS"] == "1"
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert environment(default_config, {})["OMP_NUM_THREADS"] == "1"


def test_the_user_s_own_variables_win(default_config):
    inherited = {"OMP_NUM_THREADS": "5", "HOME": "/home"}
    variables = environment(default_config, inherited)
    assert (variables["OMP_NUM_THREADS"], variables["HOME"]) == ("5", "/home")
    assert inherited == {"OMP_NUM_THREADS": "5", "HOME": "/home"}


def test_no_accelerator_where_the_config_says_cpu(default_config, change):
    inherited = {"CUDA_VISIBLE_DEVICES": "0,1"}
    assert environment(default_config, inherited)["CUDA_VISIBLE_DEVICES"] == ""
    cuda = change(default_config, {"cluster.device": "cuda"})
    assert environment(cuda, inherited)["CUDA_VISIBLE_DEVICES"] == "0,1"


def fail(attempt: Attempt, rank: int, time: float, code: int, message: str) -> None:
    folder = attempt.path / "failures"
    folder.mkdir(parents=True, exist_ok=True)
    document = {"rank": rank, "time": time, "exit_code": code, "message": message}
    (folder / f"rank-{rank:04d}.json").write_text(json.dumps(document))


def test_nobody_failed(attempt):
    assert first_failure(attempt) is None


def test_the_rank_that_failed_first_is_told(attempt):
    fail(attempt, 0, 20.0, 1, "connection closed by peer")
    fail(attempt, 3, 10.0, 2, "checkpoint is damaged")
    fail(attempt, 1, 30.0, 1, "connection closed by peer")
    code, message = first_failure(attempt)
    assert code is ExitCode.CONFIG
    assert message.startswith("checkpoint is damaged\n(rank 3, see ")
    assert "rank-0003.log" in message
