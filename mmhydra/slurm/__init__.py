"""What SLURM says: squeue, scontrol, sacct and scancel as processes. No torch, no submitit, no Hydra."""

from mmhydra.slurm.job_state import JobState
from mmhydra.slurm.scheduler import Scheduler, SchedulerError

__all__ = ["JobState", "Scheduler", "SchedulerError"]
