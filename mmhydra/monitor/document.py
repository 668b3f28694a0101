"""The facts of a run as one JSON object, for scripts."""

from dataclasses import asdict
from typing import Any

from mmhydra.monitor.facts import Facts
from mmhydra.monitor.history import Past
from mmhydra.monitor.page import commands


def document(facts: Facts) -> dict[str, Any]:
    """All of the page. Keys are stable; what is not known is null."""
    config, newest = facts.config, facts.newest
    job = asdict(facts.job) if facts.job is not None else None
    if job is not None and facts.job is not None and facts.job.start_estimate is not None:
        job["start_estimate"] = facts.job.start_estimate.isoformat()
    return {
        "run_id": facts.run.path.name,
        "name": config.name if config is not None else facts.run.path.parent.name,
        "path": str(facts.run.path),
        "model": config.model.name if config is not None else None,
        "cluster": config.cluster.name if config is not None else None,
        "world_size": config.world_size if config is not None else None,
        "state": facts.state,
        "final": facts.is_final,
        "remark": facts.remark,
        "problems": facts.problems,
        "attempt": newest.number if newest is not None else None,
        "job_id": newest.job_id if newest is not None else None,
        "job": job,
        "job_problem": facts.job_problem,
        "process": asdict(facts.holder) if facts.holder is not None else None,
        "waits_s": facts.waits_s,
        "left_s": facts.left_s,
        "step": facts.step,
        "num_steps": facts.num_steps,
        "evaluation": config.evaluates if config is not None else None,
        "step_time_s": facts.step_time_s,
        "remaining_s": facts.remaining_s,
        "pause_s": facts.pause_s,
        "train": facts.last_train or None,
        "validation": facts.last_validation or None,
        "checkpoint": facts.checkpoint,
        "attempts": [_attempt(past) for past in facts.attempts],
        "node_times": facts.node_times or None,
        "failure": asdict(facts.failure) if facts.failure is not None else None,
        "preflight": facts.preflight,
        "commands": commands(facts),
    }


def _attempt(past: Past) -> dict[str, Any]:
    return {
        "attempt": past.number,
        "job_id": past.job_id,
        "nodes": past.nodes,
        "began": past.began,
        "first_step": past.first_step,
        "last_step": past.last_step,
        "state": past.state,
        "over": past.is_over,
        "message": past.message,
        "outcome": past.outcome or None,
    }
