"""Metrics of a run: `metrics.jsonl` is the truth; other sinks follow it and may fail without harm.

The trainer writes records with `JsonlWriter`; a `Follower` feeds the file to Aim, TensorBoard or Prometheus
from background threads; `python -m mmhydra.track replay` feeds a finished attempt to a sink afterwards.
"""

from mmhydra.track.follow import Follower
from mmhydra.track.jsonl import JsonlWriter, read_jsonl
from mmhydra.track.registry import build_sinks
from mmhydra.track.sink import RunInfo, Sink, TrackError

__all__ = ["Follower", "JsonlWriter", "RunInfo", "Sink", "TrackError", "build_sinks", "read_jsonl"]
