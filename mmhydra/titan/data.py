"""What one process of a run reads: its splits, each opened once, and what they have given so far."""

import math
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from mmhydra.checkpoint.keeper import Event
from mmhydra.checkpoint.stamp import Tokens
from mmhydra.config.budget import limit_of
from mmhydra.config.schema import RunConfig
from mmhydra.config.stages import StageSpan, stages
from mmhydra.data.datasets import HELDOUT, TRAIN, DataError
from mmhydra.data.storage.access import Access
from mmhydra.data.stream.batches import OpenSplit, open_run_split
from mmhydra.data.stream.ledger import Ledger
from mmhydra.data.stream.skips import Skips
from mmhydra.titan.agreement import Agreement
from mmhydra.titan.dataloader import StreamDataLoader


class RunData:
    """The data of a run as its trainer needs it: loaders, metrics and stamps share one opened split.

    Nothing is opened before it is used.
    """

    def __init__(self, config: RunConfig, on_event: Event) -> None:
        self._config, self._on_event = config, on_event
        batch = config.training.global_batch_size
        self._agreed = {
            split: Agreement(split, config.loader, samples_per_step=batch, on_event=on_event)
            for split in (TRAIN, HELDOUT)
        }

    @cached_property
    def access(self) -> Access:
        """The process's way to the shards: one memory for all of them."""
        return Access.of(self._config.loader)

    @cached_property
    def train(self) -> OpenSplit:
        """The training split with its schedule.

        Raises DataError for a run that would read a source more often than its config allows.
        """
        opened = open_run_split(self._config, TRAIN, Path(self._config.paths.data), self.access)
        self._require_enough(opened)
        if torch.distributed.get_rank() == 0:
            self._note_memory(opened)
        return opened

    @cached_property
    def heldout(self) -> OpenSplit:
        """The held-out split."""
        return open_run_split(self._config, HELDOUT, Path(self._config.paths.data), self.access)

    def train_loader(self) -> StreamDataLoader.Config:
        """Reads ahead."""
        loader = self._config.loader
        return self._loader(TRAIN, lambda: self.train, loader.workers, loader.prefetch)

    def heldout_loader(self) -> StreamDataLoader.Config:
        """Reads when it is asked: torchtitan makes a loader for each validation, and a few batches are all it takes."""
        return self._loader(HELDOUT, lambda: self.heldout, 0, 1)

    def _loader(
        self, split: str, opened: Callable[[], OpenSplit], num_workers: int, prefetch: int
    ) -> StreamDataLoader.Config:
        return StreamDataLoader.Config(
            open_split=opened,
            global_batch_size=self._config.training.global_batch_size,
            num_workers=num_workers,
            prefetch=prefetch,
            agreement=self._agreed[split],
        )

    def _require_enough(self, opened: OpenSplit) -> None:
        config = self._config
        num_samples = config.training.num_steps * config.training.global_batch_size
        drawn = opened.stream.counts(num_samples)
        faults = []
        for source in config.data.sources:
            most = limit_of(config, source)
            there = len(opened.sequences[source.name])
            if most is not None and drawn[source.name] > most * there:
                faults.append(
                    f"  {source.name}: {drawn[source.name]:,} sequences are drawn, {there:,} are there: "
                    f"{drawn[source.name] / there:.2f} epochs, {most:g} are allowed"
                )
        if faults:
            scheduled = "give the source smaller shares or fewer steps in data.schedule"
            cheaper = scheduled if config.data.schedule else "give the source a lower weight"
            raise DataError(
                "\n".join(
                    [
                        f"the {config.training.num_steps:,} steps of this run read sources too often:",
                        *faults,
                        f"type a lower training.steps (or training.tokens), {cheaper}, or raise data.max_epochs (or "
                        "max_epochs of the source)",
                    ]
                )
            )

    def _note_memory(self, opened: OpenSplit) -> None:
        """Says so where memory is too small for two windows of all sources, so that no chunk is read ahead, or even
        for one: then chunks are read many times.
        """
        needed, room = opened.window_bytes, opened.memory_bytes
        reads_ahead = self._config.loader.workers > 0
        if needed > room:
            lost = "chunks will be read more often than needed" + ", and none ahead" * reads_ahead
        elif reads_ahead and not opened.can_read_ahead:
            lost = "the chunks of the next windows are not read ahead"
        else:
            return
        enough = math.ceil((1 + reads_ahead) * needed / 1e6)
        self._on_event(
            "small_memory",
            f"the windows of all sources hold {needed / 1e6:,.1f} MB of chunks, loader.memory_mb keeps "
            f"{room / 1e6:,.1f}: {lost}; type loader.memory_mb={enough}{' (two windows)' * reads_ahead} or a smaller "
            "data.window_chunks",
        )

    def ledger(self, num_samples: int, skips: Skips) -> Ledger:
        """What the first samples of training were."""
        return self.train.ledger(num_samples, skips)

    def tokens(self, num_samples: int, skips: Skips) -> Tokens:
        """The same for a stamp."""
        seen = self.ledger(num_samples, skips)
        return Tokens(
            total=seen.num_samples * seen.seq_len,
            by_source=seen.by_source,
            by_modality=_some(seen.by_modality),
            padding=seen.padding,
            skipped=seen.skipped_samples * seen.seq_len,
            skipped_samples=seen.skipped_samples,
        )

    def seen(self, step: int) -> dict[str, Any]:
        """The same for a record of metrics, after a step."""
        seen = self.ledger(step * self._config.training.global_batch_size, self._agreed[TRAIN].skips)
        found: dict[str, Any] = {
            "seen_tokens_by_source": seen.by_source,
            "seen_tokens_by_modality": _some(seen.by_modality),
            "epochs_by_source": {name: round(epochs, 6) for name, epochs in seen.epochs.items()},
            "skipped_samples": seen.skipped_samples,
        }
        if self._config.data.schedule:
            found["data_stage"] = self._stage(step).name
        return found

    @cached_property
    def _stages(self) -> tuple[StageSpan, ...]:
        return stages(self._config)

    def _stage(self, step: int) -> StageSpan:
        """The stage of a step, counted from 1; after the last one it goes on."""
        return next((stage for stage in self._stages if step < stage.end_step), self._stages[-1])

    def shard_of_step(self, step: int) -> str:
        """The shard of a step's first sample, as `dataset/path`."""
        return self.train.shard_of((step - 1) * self._config.training.global_batch_size)

    def close(self) -> None:
        """Ends connections to a store."""
        if "access" in self.__dict__:
            self.access.close()


def _some(counts: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}
