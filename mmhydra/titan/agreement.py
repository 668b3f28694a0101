"""Which chunks a split goes on without: all ranks of the world hold one list, whichever of them found a chunk bad.

A flipped byte may lie on one node's disk alone. If its ranks alone left samples out, the ranks of one tensor- or
pipeline-parallel group would compute with other samples, and ranks that wait for each other would hang.
"""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from mmhydra.checkpoint.keeper import Event
from mmhydra.config.loader import Loader
from mmhydra.data.datasets import TRAIN
from mmhydra.data.storage.faults import BadChunk
from mmhydra.data.stream.skips import NO_SKIPS, Skips

_LEAST_WAIT = timedelta(minutes=10)  # for all ranks to come: one that hangs takes the others along


class Agreement:
    """The list of skipped chunks of one split in one process; `split` is its name in events.

    It is there under every policy: a list that came with a checkpoint holds whatever the policy is now. Only under
    `loader.on_bad_chunk=skip` it can grow.
    """

    def __init__(self, split: str, loader: Loader, *, samples_per_step: int, on_event: Event) -> None:
        self.skips = NO_SKIPS
        self.can_grow = loader.on_bad_chunk == "skip"
        self._split = split
        self._samples_per_step = samples_per_step
        self._on_event = on_event
        waits_s = loader.retry_wait_s * 2**loader.retries + loader.timeout_s * (loader.retries + 1)
        self.timeout = max(_LEAST_WAIT, timedelta(seconds=4 * waits_s))
        self._group: Any = None

    def open(self) -> None:
        """Meets the other ranks, where the list can grow. All of them call it; further calls do nothing."""
        if self.can_grow and self._group is None:
            self._group = dist.new_group(backend="gloo", timeout=self.timeout)

    def __call__(self, found: Sequence[BadChunk], from_sample: int, skips: Skips) -> Skips:
        """The list that all ranks go on with: `skips` with what any rank found bad in the step of `from_sample`.

        A collective: all ranks call it at the same yields. It costs one small reduction where nothing is bad.
        """
        new = [bad for bad in found if skips.lacks(bad, from_sample)]
        most = torch.tensor([len(new)], dtype=torch.int32)
        dist.all_reduce(most, op=dist.ReduceOp.MAX, group=self._group)
        if not most.item():
            return skips
        everyones: list[Any] = [None] * dist.get_world_size(self._group)
        dist.all_gather_object(everyones, new, group=self._group)
        after = skips.with_bad((bad for bads in everyones for bad in bads), from_sample)
        if dist.get_rank() == 0:
            self._tell(after, len(skips))
        self.skips = after
        return after

    def _tell(self, skips: Skips, num_old: int) -> None:
        for skip in skips.entries[num_old:]:
            step = skip.from_sample // self._samples_per_step + 1
            since = f"from step {step} on" if self._split == TRAIN else f"from batch {step} of each validation on"
            self._on_event(
                "chunk_skipped",
                f"{skip.place} can't be read ({skip.reason}): samples that need it are left out {since}, on all ranks",
                skip={**asdict(skip), "split": self._split, "step": step},
            )
