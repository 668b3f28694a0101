"""Processes that carry out the tasks of one stage.

None of them outlives the build: they die with it, and a build that starts waits until those of an earlier one are gone.
"""

import ctypes
import fcntl
import importlib
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from mmhydra.data.build.plan import BuildError, BuildInterrupted, Context
from mmhydra.errors import ExitCode, UserError
from mmhydra.paths import short

_AHEAD = 2  # tasks a process that wait: bounds the memory, and still keeps all busy
_PR_SET_PDEATHSIG = 1
_LOCK = "processes.lock"
_NATIVE = "native.log"


@dataclass(frozen=True)
class _Refused:
    """What a task says is wrong, in a form that gets from process to process whatever its class."""

    message: str
    exit_code: ExitCode


def run_tasks(stage: str, context: Context, tasks: Sequence[Any], processes: int) -> Iterator[Any]:
    """The results of tasks, in their order. `stage` is a module with `open_stage(context) -> (task -> result)`.

    The module is named, not imported: this process need not load what only a stage needs, such as torch. With one
    process it is loaded all the same in a process of its own, so that the tasks see the same settings.

    Raises BuildInterrupted if a process dies, BuildError for what a task says is wrong, and what else a task raises.
    """
    if not tasks:
        return
    number = max(1, min(processes, len(tasks)))
    before = set(multiprocessing.active_children())
    opening = (stage, context, os.getpid(), list(sys.path))
    pool = ProcessPoolExecutor(number, multiprocessing.get_context("spawn"), _open, opening)
    waiting: deque[Future[Any]] = deque()
    try:
        for task in tasks:
            waiting.append(_submit(pool, task))
            if len(waiting) >= number * _AHEAD:
                yield _result(waiting.popleft())
        while waiting:
            yield _result(waiting.popleft())
    except BrokenProcessPool as error:
        raise BuildInterrupted(_died(context, number)) from error
    finally:
        if waiting:  # what is being done is not waited for: the next start does it again
            for process in set(multiprocessing.active_children()) - before:
                process.kill()
        pool.shutdown(wait=True, cancel_futures=True)


def wait_for_orphans(folder: Path) -> None:
    """Waits for processes of a build in this work folder whose parent was killed, and which die in this moment."""
    with suppress(FileNotFoundError), (folder / _LOCK).open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)


def _submit(pool: ProcessPoolExecutor, task: Any) -> Future[Any]:
    """Hands over a task, which may start a process.

    It is started with SIGINT blocked: Ctrl-C is for this process alone, and would cut a start in two. And without this
    program's main module, which it would import anew, though tasks need nothing of it.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        return pool.submit(_run, task)
    finally:
        sys.modules["__main__"] = main
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _result(future: Future[Any]) -> Any:
    result = future.result()
    if isinstance(result, _Refused):
        error = BuildInterrupted if result.exit_code == ExitCode.FAILED else BuildError
        raise error(result.message)
    return result


def _died(context: Context, processes: int) -> str:
    log = context.work / _NATIVE
    said = f" Its libraries' last words may be in {short(log)}." if log.is_file() and log.stat().st_size else ""
    return (
        f"a process of the build was killed or could not start, for want of memory perhaps.{said} What is done stays: "
        f"the same command goes on from there; with less memory, type build.processes={max(1, processes // 2)}"
    )


class _Worker:
    """What a process of the pool keeps between tasks."""

    def __init__(self, stage: str, context: Context) -> None:
        self._stage, self._context = stage, context
        self._carry_out: Callable[[Any], Any] | None = None

    def run(self, task: Any) -> Any:
        """Opens the stage with the first task, not before: what it says is wrong then reaches the build."""
        if self._carry_out is None:
            self._carry_out = importlib.import_module(self._stage).open_stage(self._context)
        return self._carry_out(task)


_worker: _Worker
_lock: Any  # an open file: held as long as this process lives


def _open(stage: str, context: Context, parent: int, path: list[str]) -> None:
    """Prepares a process."""
    global _worker, _lock
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the pool
    # A parent that is killed would leave its processes waiting for tasks for ever.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    with suppress(OSError):  # a file system without locks, or a full one: tasks will tell
        _lock = (context.work / _LOCK).open("a")
        fcntl.flock(_lock, fcntl.LOCK_SH)
        _put_native_messages_into(context.work / _NATIVE)
    sys.path[:] = path
    _worker = _Worker(stage, context)


def _put_native_messages_into(log: Path) -> None:
    """C libraries tell standard error of each damaged file, which is counted anyway; Python's own words stay there."""
    sys.stderr.flush()
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")
    with log.open("ab") as file:
        os.dup2(file.fileno(), 2)


def _run(task: Any) -> Any:
    try:
        return _worker.run(task)
    except UserError as error:
        return _Refused(str(error), error.exit_code)
    except MemoryError:
        return _Refused("a process of the build has no memory left; type build.processes=1", ExitCode.FAILED)
