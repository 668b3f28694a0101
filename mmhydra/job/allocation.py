"""What SLURM says of the allocation that this process is in."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from mmhydra.errors import UserError
from mmhydra.hostlist import expand


@dataclass(frozen=True)
class Allocation:
    """One start of a job: the same id comes again after a requeue, with a higher restart number."""

    job_id: str  # of a task of an array `<array>_<index>`: the number that SLURM gives it may be that of all
    restart: int
    nodes: tuple[str, ...]
    host: str  # the node of the batch script
    end_time: float | None  # seconds since the epoch; None where there is no limit
    output: str | None = None  # folder of what the batch script prints; None: the run's own
    array: str | None = None  # the array's id

    @classmethod
    def of(cls, environment: Mapping[str, str] = os.environ) -> "Allocation":
        """Reads the variables of a batch script. Raises UserError outside of a job."""
        job_id = environment.get("SLURM_JOB_ID")
        if not job_id:
            raise UserError("this runs inside of a SLURM job only: SLURM_JOB_ID is not set")
        array, task = environment.get("SLURM_ARRAY_JOB_ID"), environment.get("SLURM_ARRAY_TASK_ID")
        nodes = tuple(expand(environment.get("SLURM_JOB_NODELIST", "")))
        end_time = environment.get("MMHYDRA_END_TIME", "")
        return cls(
            job_id=f"{array}_{task}" if array and task else job_id,
            restart=int(environment.get("SLURM_RESTART_COUNT", "0")),
            nodes=nodes,
            host=environment.get("SLURMD_NODENAME") or (nodes[0] if nodes else ""),
            end_time=float(end_time) if end_time.isdigit() else None,
            output=environment.get("MMHYDRA_FOLDER") or None,
            array=(array or None) if task else None,
        )
