"""The `cluster` group: the machines, their speed, and their price."""

from typing import Annotated, Literal

from pydantic import Field

from mmhydra.config.base import Legacy, Name, PositiveCount, PositiveFloat, Section
from mmhydra.config.slurm import Slurm


class PeakFlops(Section):
    """Dense peak of one device in FLOP/s, without sparsity; null where unknown (MFU is then null)."""

    fp32: PositiveFloat | None
    bf16: PositiveFloat | None
    float8: PositiveFloat | None


class Bandwidth(Section):
    """Bytes per second of one device, one direction; null where unknown."""

    intra_node: PositiveFloat | None
    inter_node: PositiveFloat | None
    memory: PositiveFloat | None


class Cluster(Section):
    """`local` has no size of its own: its world is dp x tp x pp, at most `max_processes`."""

    name: Name
    kind: Literal["local", "slurm"]
    device: Literal["cpu", "cuda"]
    nodes: PositiveCount | None
    gpus_per_node: PositiveCount | None
    max_processes: PositiveCount | None
    partition: str | None
    time_limit_min: PositiveCount | None
    gpu_memory_gib: PositiveFloat | None
    peak_flops: PeakFlops
    bandwidth: Bandwidth
    usd_per_gpu_hour: Annotated[float, Field(ge=0)]
    confirm_gpu_hours: Annotated[PositiveFloat | None, Legacy(1000.0)]  # a start above it needs confirm=true
    compile: bool  # torch.compile; not with emulated float8
    cuda_graphs: Annotated[bool, Legacy(False)]  # not with pipeline stages
    slurm: Annotated[Slurm | None, Legacy(None)]  # null: not submitted to SLURM

    @property
    def num_gpus(self) -> int | None:
        """Devices that a run gets; None for `local`."""
        if self.nodes is None or self.gpus_per_node is None:
            return None
        return self.nodes * self.gpus_per_node
