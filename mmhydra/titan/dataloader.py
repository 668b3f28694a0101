"""RankBatches as a torchtitan dataloader."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torchtitan.components.dataloader import BaseDataLoader

from mmhydra.data.stream.batches import OpenSplit, RankBatches


class StreamDataLoader(BaseDataLoader):
    """Endless batches. Its state is the global sample number, so a checkpoint loads at any number of ranks."""

    @dataclass(kw_only=True, slots=True)
    class Config(BaseDataLoader.Config):
        """`open_split` maps the shards in the process that reads them."""

        open_split: Callable[[], OpenSplit]
        global_batch_size: int
        infinite: bool = True  # torchtitan's Validator sets it; the stream has no end either way

    def __init__(self, config: Config, *, dp_world_size: int, dp_rank: int, local_batch_size: int, **_: Any) -> None:
        self.batches = RankBatches(
            config.open_split(),
            global_batch_size=config.global_batch_size,
            dp_degree=dp_world_size,
            dp_rank=dp_rank,
            per_yield=local_batch_size,  # under pipeline parallelism torchtitan passes the microbatch
        )

    def __iter__(self) -> Iterator[tuple[dict[str, torch.Tensor], torch.Tensor]]:
        """Yields ({"input", "positions"}, labels), each (B, L)."""
        while True:
            batch = self.batches.next()
            inputs = {"input": torch.from_numpy(batch.input_BL), "positions": torch.from_numpy(batch.positions_BL)}
            yield inputs, torch.from_numpy(batch.labels_BL)

    def state_dict(self) -> dict[str, Any]:
        """The number of the next global sample."""
        return {"sample": self.batches.sample}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continues at a global sample."""
        self.batches.sample = state_dict["sample"]
