"""The `parallel` group: how one model is laid over many devices."""

from typing import Annotated, Literal

from mmhydra.config.base import LABEL, Name, NotIdentity, PositiveCount, Section

_DP = "the stream gives every data-parallel degree the same global batches"
_MEMORY = "trades memory for time; the mathematics is the same"


class Parallel(Section):
    """Degrees of the mesh (data x pipeline x tensor) and the pipeline schedule."""

    name: Annotated[Name, NotIdentity(LABEL)]
    dp: Annotated[PositiveCount | Literal["auto"], NotIdentity(_DP)]
    dp_replicate: Annotated[PositiveCount, NotIdentity(_DP)]  # > 1: HSDP, copies of the sharded group
    tp: PositiveCount
    pp: PositiveCount
    sequence_parallel: bool
    schedule: Literal["1F1B", "GPipe", "Interleaved1F1B"]
    recompute: Annotated[Literal["none", "selective", "full"], NotIdentity(_MEMORY)]
    reshard_after_forward: Annotated[Literal["default", "always", "never"], NotIdentity(_MEMORY)]

    @property
    def model_ranks(self) -> int:
        """Ranks that hold one copy of the model (tp x pp); the world is a multiple of it."""
        return self.tp * self.pp
