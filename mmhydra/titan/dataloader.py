"""RankBatches as a torchtitan dataloader."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchtitan.components.dataloader import BaseDataLoader

from mmhydra.data.stream import ALGORITHM
from mmhydra.data.stream.batches import OpenSplit, RankBatches
from mmhydra.data.stream.skips import Skips
from mmhydra.errors import UserError
from mmhydra.titan.agreement import Agreement


class StreamDataLoader(BaseDataLoader):
    """Endless batches. Its state is the same on all ranks, so a checkpoint loads at any number of ranks."""

    @dataclass(kw_only=True, slots=True)
    class Config(BaseDataLoader.Config):
        """`open_split` opens the split in the process that reads it.

        `num_workers` threads read ahead, `prefetch` yields at most or those of one step. `agreement` holds the chunks
        that are skipped; None: none ever are.
        """

        open_split: Callable[[], OpenSplit]
        global_batch_size: int
        num_workers: int = 0
        prefetch: int = 1
        agreement: Agreement | None = None
        infinite: bool = True  # torchtitan's Validator sets it; the stream has no end either way

    def __init__(self, config: Config, *, dp_world_size: int, dp_rank: int, local_batch_size: int, **_: Any) -> None:
        self._agreement = config.agreement
        if self._agreement is not None:
            self._agreement.open()
        self.batches = RankBatches(
            config.open_split(),
            global_batch_size=config.global_batch_size,
            dp_degree=dp_world_size,
            dp_rank=dp_rank,
            per_yield=local_batch_size,  # under pipeline parallelism torchtitan passes the microbatch
            num_workers=config.num_workers,
            prefetch=config.prefetch,
            agree=self._agreement if self._agreement is not None and self._agreement.can_grow else None,
        )
        if self._agreement is not None:  # a validation goes on with what the one before it left out
            self.batches.seek(0, self._agreement.skips)

    def __iter__(self) -> Iterator[tuple[dict[str, torch.Tensor], torch.Tensor]]:
        """Yields ({"input", "positions"}, labels), int64 (B, L) each."""
        while True:
            batch = self.batches.next()
            yield (
                {"input": _widened(batch.input_BL), "positions": _widened(batch.positions_BL)},
                _widened(batch.labels_BL),
            )

    def state_dict(self) -> dict[str, Any]:
        """The number of the next global sample, the chunks that are skipped, and what put the samples in order."""
        return {"sample": self.batches.sample, "skips": self.batches.skips.text, "algorithm": ALGORITHM}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on at a global sample.

        Raises UserError for a state of another version of the stream (a checkpoint that has one is refused before, by
        its stamp), or for what is no state.
        """
        there = state_dict.get("algorithm", 1)
        if there != ALGORITHM:
            raise UserError(
                f"this state is of version {there} of the stream, the code has version {ALGORITHM}: its sample "
                f"{state_dict.get('sample')} is another one. Go on with the code that made it, or take the weights "
                "alone: checkpoint.init_from=CHECKPOINT"
            )
        skips = Skips.parse(state_dict["skips"])
        if self._agreement is not None:
            self._agreement.skips = skips
        self.batches.seek(state_dict["sample"], skips)

    def close(self) -> None:
        """Ends the threads that read ahead."""
        self.batches.close()


def _widened(values: NDArray[np.int32]) -> torch.Tensor:
    return torch.from_numpy(values).long()  # torch looks up and compares with 64 bits
