"""What submitit starts for each task: it turns the task into a rank, and hands signals and the exit code through.

submitit calls `checkpoint` on rank 0 alone and exits 0 when the function returns; a collective save needs all ranks,
and SLURM needs the code. So signals go to the worker, whose ranks agree on what to do, and its code becomes the
task's.
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from mmhydra.errors import ExitCode, UserError
from mmhydra.job.rendezvous import rank_variables
from mmhydra.run.directory import Attempt
from mmhydra.run.outcome import Failure, log_of, of_signal, tail
from mmhydra.run.snapshot import snapshot_of

ATTEMPT_VARIABLE = "MMHYDRA_ATTEMPT"  # set by the batch script: a requeued job goes on in another attempt
_LISTEN_S = 1.0
FORWARDED = (signal.SIGUSR2, signal.SIGTERM, signal.SIGUSR1)


class Bridge:
    """A task of the job. submitit pickles it by name, so it holds nothing but a path."""

    def __init__(self, attempt_dir: str | None) -> None:
        self._attempt_dir = attempt_dir  # None in an array: the batch script alone knows which attempt a task has

    def __call__(self) -> NoReturn:
        """Runs one rank to its end and exits as it did."""
        attempt_dir = os.environ.get(ATTEMPT_VARIABLE)
        if attempt_dir is None and os.environ.get("SLURM_RESTART_COUNT", "0") == "0":
            attempt_dir = self._attempt_dir
        if attempt_dir is None:
            sys.exit(f"error: {ATTEMPT_VARIABLE} did not reach this task, so it is not known which attempt this is")
        sys.exit(run_rank(Attempt(Path(attempt_dir))))


def run_rank(attempt: Attempt) -> int:
    """Starts the worker of this task, forwards signals to it, and returns its exit code."""
    mail = _Mail()  # first: until now a signal would have gone to submitit, which requeues the job by itself
    rank = int(os.environ.get("SLURM_PROCID", "0"))
    try:
        variables = rank_variables(os.environ, attempt)
        snapshot = snapshot_of(attempt.provenance())
        config, _ = attempt.read_frozen()
        code = {} if snapshot is None else snapshot.variables(os.environ)
    except UserError as error:
        _write_down(Failure(rank, time.time(), int(error.exit_code), str(error)), attempt)
        print(f"error: {error}", file=sys.stderr)
        return int(error.exit_code)
    if config.cluster.device == "cpu":
        variables["CUDA_VISIBLE_DEVICES"] = ""  # SLURM sets it where its GPUs are no GPUs
    environment = {**os.environ, **variables, **code, "MMHYDRA_DIE_WITH_PARENT": str(os.getpid()), "MMHYDRA_SLURM": "1"}
    with open(log_of(attempt, rank), "ab") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "mmhydra.worker", str(attempt.path)],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            preexec_fn=_hold_signals,
        )
    mail.deliver_to(worker)
    returncode = _wait(worker)
    if returncode < 0:
        _write_down(of_signal(rank, -returncode, time.time()), attempt)
        return 128 - returncode
    if returncode not in (ExitCode.DONE, ExitCode.STOPPED, ExitCode.PREEMPTED):  # these the ranks write down together
        message = f"the worker ended with exit code {returncode}"  # kept only if the rank itself said nothing
        _write_down(Failure(rank, time.time(), returncode, message, tail(log_of(attempt, rank))), attempt)
    return returncode


class _Mail:
    """Signals for the worker; those that come before there is one are kept for it."""

    def __init__(self) -> None:
        self._kept: list[int] = []
        self._worker: subprocess.Popen[bytes] | None = None
        for number in FORWARDED:
            signal.signal(number, self._take)
        signal.signal(signal.SIGCONT, signal.SIG_DFL)  # SLURM sends it before SIGTERM

    def deliver_to(self, worker: "subprocess.Popen[bytes]") -> None:
        """From here on signals go to the worker, first those that were kept."""
        self._worker = worker
        for number in self._kept:
            worker.send_signal(number)

    def _take(self, number: int, frame: object) -> None:
        if self._worker is None:
            self._kept.append(number)
        else:
            self._worker.send_signal(number)


def _wait(worker: "subprocess.Popen[bytes]") -> int:
    """The worker's exit code. Never waits for long at a stretch.

    Python hears a signal between two of its steps; one that comes right before it begins to wait would else be heard
    only when the worker has ended.
    """
    while True:
        with suppress(subprocess.TimeoutExpired):
            return worker.wait(_LISTEN_S)


def _write_down(failure: Failure, attempt: Attempt) -> None:
    try:
        failure.write(attempt)
    except OSError as error:  # a full disk must not change how the task ends
        print(f"error: {failure.message}; it could not be written down: {error}", file=sys.stderr)


def _hold_signals() -> None:
    """A signal that comes while the worker still imports torch waits until the worker can hear it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)


if __name__ == "__main__":  # a bare srun: srun python -m mmhydra.job.bridge ATTEMPT_DIR
    Bridge(sys.argv[1])()
