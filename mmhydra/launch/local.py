"""Runs an attempt on this machine: torch elastic starts the workers, this process only watches their files."""

import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mmhydra.config.schema import RunConfig
from mmhydra.errors import ExitCode
from mmhydra.launch.progress import Progress
from mmhydra.run.directory import Attempt
from mmhydra.run.outcome import Failure, conclude, judge, of_signal
from mmhydra.run.snapshot import snapshot_of

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
            env=environment(config, os.environ) | code_variables(attempt),
            preexec_fn=_die_with_parent,
        )
    try:
        with _sigterm_interrupts():
            while agent.poll() is None:
                progress.follow(attempt.metrics)
                time.sleep(_POLL_S)
    except BaseException:
        _end(agent)
        _write_outcome(attempt, ExitCode.FAILED, "interrupted")
        raise
    progress.follow(attempt.metrics)
    code, message = _outcome(attempt, agent.returncode, log)
    _write_outcome(attempt, code, message)
    if code is not ExitCode.DONE:
        print(f"error: {message}", file=sys.stderr)
    return code


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """A scheduler or a service manager ends us with SIGTERM: the workers have to end too, as after Ctrl-C."""

    def interrupt(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _write_outcome(attempt: Attempt, code: ExitCode, message: str) -> None:
    """What the launcher saw: rank 0 can't write its status any more when it is killed."""
    try:
        conclude(attempt, code, message)
    except OSError as error:  # a full disk must not hide how the run ended
        print(f"warning: {attempt.outcome} could not be written: {error}", file=sys.stderr)


def command(attempt: Attempt, num_processes: int) -> list[str]:
    """torch elastic on this host alone, on a free port."""
    elastic = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={num_processes}"]
    return [sys.executable, *elastic, "-m", "mmhydra.worker", str(attempt.path)]


def environment(config: RunConfig, inherited: Mapping[str, str]) -> dict[str, str]:
    """The workers' environment: threads shared out, no accelerator where the config says CPU."""
    variables = dict(inherited)
    threads = max(1, (os.cpu_count() or 1) // config.world_size)
    variables.setdefault("OMP_NUM_THREADS", str(threads))
    variables["MMHYDRA_DIE_WITH_PARENT"] = "torchrun"  # whose process id nobody knows yet
    if config.cluster.device == "cpu":
        variables["CUDA_VISIBLE_DEVICES"] = ""
    return variables


def code_variables(attempt: Attempt) -> dict[str, str]:
    """What makes Python import the code that the attempt was frozen with."""
    snapshot = snapshot_of(attempt.provenance())
    return {} if snapshot is None else snapshot.variables(os.environ)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _end(agent: "subprocess.Popen[bytes]") -> None:
    agent.send_signal(signal.SIGTERM)
    try:
        agent.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        agent.kill()
        agent.wait()


def _outcome(attempt: Attempt, returncode: int, log: Path) -> tuple[ExitCode, str]:
    """The agent says only that some rank failed; the ranks themselves say how, but for those that were killed."""
    killed = _killed_rank(log)
    if killed is not None:
        killed.write(attempt)
    return judge(attempt, returncode)


def _killed_rank(log: Path) -> Failure | None:
    """The rank that torch elastic saw die of a signal before any other ended; the others only lost their peer."""
    text = log.read_text(errors="replace") if log.is_file() else ""
    root_cause = text.rpartition("Root Cause")[2]
    found = re.search(r"rank\s*: (\d+).*?exitcode\s*: -(\d+)", root_cause, re.DOTALL)
    if found is None:
        return None
    return of_signal(int(found[1]), int(found[2]), log.stat().st_mtime)
