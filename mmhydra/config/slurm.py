"""`cluster.slurm`: how a job is asked for. Names as of submitit and hydra-submitit-launcher, where there are any."""

from typing import Annotated

from pydantic import Field

from mmhydra.config.base import Count, Folder, Legacy, PositiveCount, PositiveFloat, Section

NodeNames = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._\[\],-]*$", max_length=1000)]  # gpu07, gpu[01-04,09]
VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class Slurm(Section):
    """What sbatch and srun are told beside the partition, the size and the time limit of the cluster."""

    account: str | None
    qos: str | None
    constraint: str | None
    exclude: list[NodeNames]  # nodes never to run on, beside those of exclude_file
    nodelist: list[NodeNames]  # nodes that have to be among those of the job
    dependency: str | None  # afterok:1234
    comment: str | None  # stands before the run id and the config hash, which are always there
    exclusive: bool  # no other job on the nodes
    cpus_per_task: PositiveCount | None  # a task is a rank
    mem_gb: PositiveFloat | None  # of a node; null: what the site gives
    requeue: bool  # after preemption, at the time limit, and after failures as long as checkpoints advance
    signal_delay_s: PositiveCount  # SIGUSR2 comes so long before the end: time to finish a step and to save
    max_attempts_without_progress: PositiveCount  # then the run stops
    array_parallelism: Annotated[PositiveCount | None, Legacy(None)]  # tasks of an array at once; null: no limit
    max_array_size: Annotated[PositiveCount | None, Legacy(None)]  # SLURM's MaxArraySize; null: SLURM is asked
    preflight_timeout_s: Count  # of the smoke test of each node before the ranks start; 0: none
    additional_parameters: dict[str, str | int | float | bool]  # options of sbatch: {reservation: maint, nice: 100}
    srun_args: list[str]  # ["--cpu-bind=none"]
    setup: list[str]  # shell lines before anything is started: module load cuda
    environment: dict[VariableName, str]  # of all processes of the job
    container_image: str | None  # pyxis: a file of enroot, or a registry's name
    container_mounts: list[str]  # /host:/container, beside outputs and data, which are always mounted
    python: str | None  # on the nodes, or in the container; null: the interpreter that submits
    exclude_file: Folder | None  # bad nodes, one a line; null: .cluster/<name>/exclude below paths.outputs
    slurm_conf: Folder | None  # SLURM_CONF of each command; null: what the shell has
