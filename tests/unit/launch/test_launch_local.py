"""Starting the workers, short of starting them, and what they say when they end."""

import os
import sys

import pytest

from mmhydra.errors import ExitCode
from mmhydra.launch.local import _outcome, command, environment
from mmhydra.run.directory import Attempt
from mmhydra.run.outcome import Failure


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


AGENT_LOG = """
Root Cause (first observed failure):
[0]:
  time      : 2026-11-25_16:00:00
  rank      : 3 (local_rank: 3)
  exitcode  : -9 (pid: 77)
"""


def test_the_agent_s_word_for_a_killed_rank_counts_more_than_its_peers(attempt):
    attempt.logs.mkdir(parents=True)
    log = attempt.logs / "elastic.log"
    log.write_text(AGENT_LOG)
    Failure(0, log.stat().st_mtime - 0.1, 1, "connection closed by peer", "Traceback").write(attempt)
    code, message = _outcome(attempt, 1, log)
    assert code is ExitCode.FAILED
    assert message.startswith("rank 3 was ended by SIGKILL; the host may be out of memory")


def test_without_a_killed_rank_the_ranks_tell(attempt):
    attempt.logs.mkdir(parents=True)
    Failure(2, 10.0, 2, "checkpoint is damaged", "Traceback").write(attempt)
    code, message = _outcome(attempt, 1, attempt.logs / "elastic.log")
    assert code is ExitCode.CONFIG
    assert message.startswith("checkpoint is damaged\n(rank 2, see ")
