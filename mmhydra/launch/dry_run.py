"""`dry_run=sbatch`: the batch script of a run, its environment and its mounts; nothing is submitted."""

import sys

from mmhydra.compose import Request
from mmhydra.config.problems import ConfigError, Problem
from mmhydra.launch.batch import BatchJob
from mmhydra.launch.naming import name_or_reason
from mmhydra.launch.slurm import planned_job, script


def script_of(request: Request) -> str:
    """The script; tells on standard error what goes with it. Raises UserError for a cluster without SLURM."""
    config = request.config
    if config.cluster.kind != "slurm":
        raise ConfigError([no_script(config.cluster.name)], request.origins)
    job = planned_job(request)
    named = job.run_id if request.run is not None else name_or_reason(config)
    for line in [f"run id: {named}", *_told(job)]:
        print(line, file=sys.stderr)
    return f"{script(job).rstrip()}\n"


def _told(job: BatchJob) -> list[str]:
    lines = [f"comment: {job.comment}", f"code: {job.snapshot.path}", "environment:"]
    variables = {"MMHYDRA_SUBMITTED_ATTEMPT": str(job.attempt_path), **job.environment}
    lines += [f"  {name}={value}" for name, value in variables.items()]
    if job.slurm.container_image is not None:
        lines += [f"image: {job.slurm.container_image}", "mounts:", *(f"  {mount}" for mount in job.mounts)]
    lines.append(nothing_frozen("it is"))
    return lines


def no_script(cluster: str) -> Problem:
    """Why there is nothing to show of a cluster without SLURM."""
    told = f"cluster={cluster} has no batch script; type cluster=NAME of a SLURM cluster"
    return Problem(("dry_run", "cluster.kind"), told)


def nothing_frozen(it_is: str) -> str:
    """What was not done, and how to have it done. `it_is`: or "they are", of the points of a sweep."""
    return f"nothing is frozen: dry_run=freeze does that and leaves sbatch to you, without dry_run {it_is} submitted"
