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
        message = f"cluster={config.cluster.name} has no batch script; type cluster=NAME of a SLURM cluster"
        raise ConfigError([Problem(("dry_run", "cluster.kind"), message)], request.origins)
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
    lines.append(
        "nothing is frozen: dry_run=freeze does that and leaves sbatch to you, without dry_run it is submitted"
    )
    return lines
