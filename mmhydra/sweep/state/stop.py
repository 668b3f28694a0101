"""The part of a study's stop rule that the program minds: once it is met, nothing more is submitted."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from mmhydra.monitor.reading import number
from mmhydra.sweep.record import Record, SweepDirectory
from mmhydra.sweep.state.best import best
from mmhydra.sweep.state.states import PointState


def read_stop(sweep: SweepDirectory) -> Mapping[str, Any]:
    """The `stop` block of the study as it was read last; empty for a sweep without one."""
    try:
        study = yaml.load(sweep.study.read_bytes(), Loader=yaml.CSafeLoader)
    except (OSError, yaml.YAMLError):
        return {}
    stop = study.get("stop") if isinstance(study, dict) else None
    return stop if isinstance(stop, dict) else {}


def met(stop: Mapping[str, Any], record: Record, states: Sequence[PointState]) -> str | None:
    """What met the rule, in words; None as long as it is not met."""
    first = next(iter(best(states, record, 1)), None)
    below, above = number(stop.get("metric_below")), number(stop.get("metric_above"))
    if first is not None and first.best is not None:
        if below is not None and first.best < below:
            return f"{record.metric} {first.best:.4f} is below {below:g}"
        if above is not None and first.best > above:
            return f"{record.metric} {first.best:.4f} is above {above:g}"
    hours = number(stop.get("gpu_hours"))
    used = used_gpu_hours(states)
    if hours is not None and used is not None and used >= hours:
        return f"{used:,.1f} of {hours:g} GPU-hours are used"
    return None


def used_gpu_hours(states: Sequence[PointState]) -> float | None:
    """GPU-hours of all points so far; None where no cluster of theirs counts GPUs."""
    known = [each.gpu_hours for each in states if each.gpu_hours is not None]
    return sum(known) if known else None
