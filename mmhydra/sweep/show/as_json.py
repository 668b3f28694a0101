"""A sweep as one JSON object, for scripts."""

import math
from collections.abc import Sequence
from typing import Any

from mmhydra.sweep.show.overview import Overview, commands
from mmhydra.sweep.state.labels import evaluates
from mmhydra.sweep.state.states import STATES, PointState, State


def as_json(overview: Overview, wanted: Sequence[State] = STATES) -> dict[str, Any]:
    """All of the page, and of the points those of the wanted states; counts are of all points.

    Keys are stable; what is not known is null, as is a number that is not finite.
    """
    record, leader = overview.record, overview.leader
    return {
        "sweep": record.name,
        "path": str(overview.sweep.path),
        "study": record.study,
        "question": record.question,
        "stop_rule": record.stop_rule,
        "stop": dict(overview.stop) or None,
        "stop_met": overview.stop_met,
        "metric": record.metric,
        "direction": record.direction,
        "state": overview.state,
        "active": overview.is_active,
        "submitting": overview.is_submitting,
        "counts": overview.counts,
        "problems": overview.problems,
        "used_gpu_hours": overview.used_gpu_hours,
        "planned_gpu_hours": overview.planned_gpu_hours,
        "usd": overview.usd,
        "best": leader.point.run_id if leader is not None else None,
        "points": [_point(overview, each) for each in overview.states if each.state in wanted],
        "commands": commands(overview),
    }


def _point(overview: Overview, each: PointState) -> dict[str, Any]:
    return {
        "number": each.point.number,
        "name": each.point.name,
        "run_id": each.point.run_id,
        "path": str(overview.sweep.run(each.point).path),
        "label": dict(each.point.label),
        "stage": each.point.stage,
        "parent": each.point.parent.run_id if each.point.parent is not None else None,
        "in_study": each.point.in_study,
        "cluster": each.point.cluster,
        "state": each.state,
        "remark": each.remark,
        "step": each.step,
        "num_steps": each.num_steps,
        "evaluation": evaluates(each.point),
        "loss": _finite(each.loss),
        "best": _finite(each.best),
        "best_step": each.best_step,
        "last": _finite(each.last),
        "last_step": each.last_step,
        "checkpoint": each.checkpoint,
        "job_id": each.job_id,
        "elapsed_s": each.elapsed_s,
        "gpu_hours": each.gpu_hours,
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
