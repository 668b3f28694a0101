"""Runs an attempt on this machine: torch elastic starts the workers, this process only watches their files."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from mmhydra.config.schema import RunConfig
from mmhydra.errors import ExitCode
from mmhydra.launch.progress import Progress
from mmhydra.run.directory import Attempt
from mmhydra.run.status import read_status

_POLL_S = 0.1
_GRACE_S = 30.0
_PR_SET_PDEATHSIG = 1


def run_local(attempt: Attempt, config: RunConfig, progress: Progress) -> ExitCode:
    """Runs all ranks to their end and returns how the run ended. Ctrl-C ends the workers first."""
    log = attempt.logs / "elastic.log"
    with open(log, "wb") as output:
        agent = subprocess.Popen(
            command(attempt, config.world_size),
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment(config, os.environ),
            preexec_fn=_die_with_parent,
        )
    try:
        while agent.poll() is None:
            progress.follow(attempt.metrics)
            time.sleep(_POLL_S)
    except BaseException:
        _end(agent)
        raise
    progress.follow(attempt.metrics)
    return _outcome(attempt, agent.returncode, log)


def command(attempt: Attempt, num_processes: int) -> list[str]:
    """torch elastic on this host alone, on a free port."""
    elastic = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={num_processes}"]
    return [sys.executable, *elastic, "-m", "mmhydra.worker", str(attempt.path)]


def environment(config: RunConfig, inherited: Mapping[str, str]) -> dict[str, str]:
    """The workers' environment: threads shared out, no accelerator where the config says CPU."""
    variables = dict(inherited)
    threads = max(1, (os.cpu_count() or 1) // config.world_size)
    variables.setdefault("OMP_NUM_THREADS", str(threads))
    variables["MMHYDRA_DIE_WITH_PARENT"] = "1"
    if config.cluster.device == "cpu":
        variables["CUDA_VISIBLE_DEVICES"] = ""
    return variables


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _end(agent: "subprocess.Popen[bytes]") -> None:
    agent.send_signal(signal.SIGTERM)
    try:
        agent.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        agent.kill()
        agent.wait()


def _outcome(attempt: Attempt, returncode: int, log: Path) -> ExitCode:
    """The agent says only that some rank failed; the ranks themselves say how."""
    status = read_status(attempt.status)
    if returncode == 0 and status is not None and status.exit_code == ExitCode.DONE:
        return ExitCode.DONE
    first = first_failure(attempt)
    if first is not None:
        code, message = first
        print(f"error: {message}", file=sys.stderr)
        return code
    print(f"error: the workers ended without a word (exit code {returncode}); see {log}", file=sys.stderr)
    return ExitCode.FAILED


def first_failure(attempt: Attempt) -> tuple[ExitCode, str] | None:
    """Exit code and message of the rank that failed first; the others mostly fail because of it."""
    failures = [json.loads(path.read_text()) for path in sorted((attempt.path / "failures").glob("rank-*.json"))]
    if not failures:
        return None
    first = min(failures, key=lambda failure: failure["time"])
    log = attempt.logs / f"rank-{first['rank']:04d}.log"
    return ExitCode(first["exit_code"]), f"{first['message']}\n(rank {first['rank']}, see {log})"
