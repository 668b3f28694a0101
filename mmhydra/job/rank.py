"""What a rank does before it imports anything that trains."""

import ctypes
import os
import signal
import sys
from pathlib import Path

import mmhydra
from mmhydra.errors import ExitCode
from mmhydra.run.directory import Attempt
from mmhydra.run.snapshot import snapshot_of

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """An orphan must not go on writing: torch elastic starts workers in sessions of their own."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = os.environ["MMHYDRA_DIE_WITH_PARENT"]
    if os.getppid() != int(parent) if parent.isdigit() else os.getppid() == 1:
        os._exit(ExitCode.FAILED)


def use_frozen_code(attempt: Attempt) -> None:
    """Starts this process over if it imported other code. Raises UserError if the frozen code is not whole."""
    snapshot = snapshot_of(attempt.provenance())
    if snapshot is None:
        return
    snapshot.require_intact()
    if not Path(mmhydra.__file__).is_relative_to(snapshot.path):
        os.environ.update(snapshot.variables(os.environ))
        os.execv(sys.executable, [sys.executable, "-m", "mmhydra.worker", str(attempt.path)])


def log_to(path: Path) -> None:
    """Everything that this process prints, C++ libraries included, goes to its own log."""
    sys.stdout.flush()
    sys.stderr.flush()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def first_line(attempt: Attempt) -> str:
    """What runs, for the first line of a log: before anything is imported that could print."""
    provenance = attempt.provenance()
    git = provenance["git"]
    return (
        f"mmhydra {provenance['mmhydra']} run {provenance['run_id']} attempt {attempt.number} "
        f"config sha256 {provenance['config_sha256']} code sha256 {git.get('snapshot_sha256')} "
        f"commit {git['commit']}{' with uncommitted changes (code.patch)' if git['dirty'] else ''}"
    )
