"""Length, batch and validation of a run; seeds and folders."""

from typing import Annotated, Literal

from mmhydra.config.base import Count, Folder, NotIdentity, PositiveCount, Section


class Training(Section):
    """Exactly one of `steps` and `tokens` is set. Batches are counted in sequences of `seq_len` tokens."""

    steps: Count | None  # 0 writes the initial weights; with checkpoint.init_from it measures those
    tokens: PositiveCount | None
    seq_len: PositiveCount
    global_batch_size: PositiveCount
    microbatch_size: PositiveCount | Literal["auto"]  # per data-parallel rank and forward pass
    validation_interval: Annotated[PositiveCount | None, NotIdentity("validation trains nothing")]
    validation_batches: Annotated[PositiveCount, NotIdentity("validation trains nothing")]
    deterministic: bool

    @property
    def tokens_per_step(self) -> int:
        """Tokens of one global batch."""
        return self.global_batch_size * self.seq_len

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the whole run; a token budget is rounded up to whole steps."""
        if self.steps is not None:
            return self.steps
        assert self.tokens is not None, "the rules refuse a run without a length"
        return -(-self.tokens // self.tokens_per_step)


class Seed(Section):
    """Separate seeds: the same data order for two initialisations, or the reverse."""

    model: Count
    data: Count


class Paths(Section):
    """Absolute folders; MMHYDRA_DATA and MMHYDRA_OUTPUTS move them."""

    data: Folder
    outputs: Folder
