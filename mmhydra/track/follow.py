"""Feeds metrics.jsonl to sinks from background threads: a failing or hanging sink never meets the trainer."""

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from mmhydra.errors import UserError
from mmhydra.track.jsonl import decode
from mmhydra.track.sink import Sink

POLL_S = 0.2

SinkFactory = Callable[[], Sink]
OnFailure = Callable[[str, str], None]


class Follower:
    """Tails `path` from its beginning into every sink; each sink lives in a daemon thread of its own.

    The file is the only queue: a slow or hanging sink costs no memory and holds up no other sink. A sink that
    raises is closed and stays off for the rest of the attempt.

    Args:
        path: metrics.jsonl; it may appear later.
        sinks: by name, what builds each sink. Called in the sink's thread, so it may import, hang or fail.
        on_failure: told (sink name, message) at most once a sink, from the sink's thread or from `stop`; its
            own exceptions are printed and go no further.
    """

    def __init__(self, path: str | os.PathLike[str], sinks: Mapping[str, SinkFactory], on_failure: OnFailure) -> None:
        self._path = Path(path)
        self._workers = [_Worker(name, build, self._path, on_failure) for name, build in sinks.items()]
        for worker in self._workers:
            worker.start()

    def stop(self, timeout_s: float) -> None:
        """Deliver what is written until now and close the sinks, all within `timeout_s` seconds.

        A sink that needs longer is left behind and on_failure hears how many records it missed. No sink's
        exception comes out of here; a second call does nothing.
        """
        deadline = time.monotonic() + timeout_s
        workers, self._workers = self._workers, []
        end = self._path.stat().st_size if self._path.exists() else 0
        for worker in workers:
            worker.finish(end)
        for worker in workers:
            worker.join(max(0.0, deadline - time.monotonic()))
            if worker.is_alive():
                worker.abandon(timeout_s)


class _Worker(threading.Thread):
    def __init__(self, name: str, build: SinkFactory, path: Path, on_failure: OnFailure) -> None:
        super().__init__(name=f"track-{name}", daemon=True)
        self._sink_name = name
        self._build = build
        self._path = path
        self._on_failure = on_failure
        self._delivered_bytes = 0
        self._end: int | None = None  # byte offset to stop at; None: follow on
        self._wake = threading.Event()
        self._abandoned = False
        self._reported = threading.Lock()  # taken once and never released

    def run(self) -> None:
        sink: Sink | None = None
        # BaseException: a sink's library may call sys.exit or raise its own kind (pyo3 panics).
        try:
            sink = self._build()
            self._follow(sink)
        except BaseException as exc:
            self._report(f"{_describe(exc)}. The sink stays off; every record is in {self._path}")
        if sink is not None:
            try:
                sink.close()
            except BaseException as exc:
                self._report(f"closing failed: {_describe(exc)}. Every record is in {self._path}")

    def finish(self, end: int) -> None:
        self._end = end
        self._wake.set()

    def abandon(self, timeout_s: float) -> None:
        self._abandoned = True
        num_missing = _count_lines(self._path, self._delivered_bytes, self._end or 0)
        self._report(
            f"{num_missing} records were not delivered within {timeout_s:g} s (the sink hangs or is slow). "
            f"Deliver them with: python -m mmhydra.track replay {self._path.parent}"
        )

    def _follow(self, sink: Sink) -> None:
        while not self._abandoned:
            end = self._end  # before the file is read: all that was written before stop() is then seen
            self._deliver(sink, end)
            if end is not None:
                return
            self._wake.wait(POLL_S)

    def _deliver(self, sink: Sink, end: int | None) -> None:
        if not self._path.exists():
            return
        with open(self._path, "rb") as file:
            file.seek(self._delivered_bytes)
            for line in file:
                past_end = end is not None and self._delivered_bytes >= end
                if self._abandoned or past_end or not line.endswith(b"\n"):
                    return
                record = decode(line)
                if record is not None:
                    sink.write(record)
                self._delivered_bytes += len(line)

    def _report(self, message: str) -> None:
        if not self._reported.acquire(blocking=False):
            return
        try:
            self._on_failure(self._sink_name, message)
        except Exception as exc:
            print(f"mmhydra: sink {self._sink_name}: {message} (not recorded: {exc})", file=sys.stderr)


def _describe(exc: BaseException) -> str:
    return str(exc) if isinstance(exc, UserError) else f"{type(exc).__name__}: {exc}"


def _count_lines(path: Path, start: int, end: int) -> int:
    try:
        with open(path, "rb") as file:
            file.seek(start)
            return file.read(max(0, end - start)).count(b"\n")
    except OSError:
        return 0
