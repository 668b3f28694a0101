"""Metrics as TensorBoard event files, written without torch and without TensorFlow."""

import os
import socket
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[import-untyped]
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]

from mmhydra.track.sink import RunInfo, TrackError, numeric_fields, step_of, subset


class TensorBoardSink:
    """Writes scalars such as `train/loss` and `val/val_loss` to `logdir`/<run id>/attempt-NNNN/.

    The folder is rebuilt from the attempt's records every time, so replaying never doubles a point; replay
    only when the attempt has ended. Attempts are apart because TensorBoard cannot overwrite the steps that a
    resumed run repeats.

    Raises:
        TrackError: the run id is no folder name.
        OSError: the folder cannot be written.
    """

    def __init__(self, run: RunInfo, logdir: str | Path) -> None:
        if not run.run_id or run.run_id != Path(run.run_id).name:
            raise TrackError(f"run id {run.run_id!r} cannot name a TensorBoard folder")
        folder = Path(logdir) / run.run_id / f"attempt-{run.attempt:04d}"
        folder.mkdir(parents=True, exist_ok=True)
        for stale in folder.glob("events.out.tfevents.*"):
            stale.unlink()
        now = time.time()
        # The name that TensorBoard looks for: start time, host, process.
        name = f"events.out.tfevents.{int(now):010d}.{socket.gethostname()}.{os.getpid()}"
        file = open(folder / name, "wb")  # noqa: SIM115 - open until close()
        self._writer = RecordWriter(file)
        self._add(Event(wall_time=now, file_version="brain.Event:2"))

    def write(self, record: Mapping[str, Any]) -> None:
        """Add every number of `record` at its step and its own time; one without a step is left out."""
        step, fields = step_of(record), numeric_fields(record)
        if step is None or not fields:
            return
        prefix = subset(record)
        values = [Summary.Value(tag=f"{prefix}/{name}", simple_value=value) for name, value in fields.items()]
        self._add(Event(wall_time=_wall_time(record), step=step, summary=Summary(value=values)))

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()

    def _add(self, event: Event) -> None:
        self._writer.write(event.SerializeToString())
        self._writer.flush()


def _wall_time(record: Mapping[str, Any]) -> float:
    """Seconds since 1970 of the record's timestamp; now if it has none that can be read."""
    try:
        return datetime.fromisoformat(str(record.get("timestamp"))).timestamp()
    except ValueError:
        return time.time()
