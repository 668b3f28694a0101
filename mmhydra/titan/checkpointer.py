"""torchtitan's DCP checkpoints, each closed by a stamp, none loaded without one."""

import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.tensor import DTensor
from torchtitan.components.checkpointer.base import DATALOADER, LR_SCHEDULER, MODEL
from torchtitan.components.checkpointer.dcp import CheckpointManager

from mmhydra.checkpoint.keeper import Keeper, Superseded
from mmhydra.checkpoint.stamp import step_folder
from mmhydra.data.stream.skips import Skips
from mmhydra.errors import NotFinite
from mmhydra.titan.lr import StagedLRSchedulers

_PATIENCE = timedelta(hours=2)


class CheckpointNotWritten(RuntimeError):
    """A save failed. The checkpoints before it are whole; the run can be resumed from them."""


class StampedCheckpointManager(CheckpointManager):
    """Asks a Keeper what to load, what to keep, and to stamp what was saved."""

    @dataclass(kw_only=True, slots=True)
    class Config(CheckpointManager.Config):
        """`open_keeper` makes the part that knows stamps; it is used on rank 0."""

        open_keeper: Callable[[], Keeper]

    def __init__(self, config: Config, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.longest_save_s: float | None = None  # from its begin to its stamp; known on rank 0
        self.newest_step = 0  # that was loaded or saved
        if self.enable:
            self._keeper = config.open_keeper()
            # Rank 0 hashes a checkpoint for minutes; torchtitan gives the default group 100 s.
            self._patient = dist.new_group(backend="gloo", timeout=_PATIENCE)
            self._stamping: Future[None] | None = None

    def _create_checkpoint_id(self, step: int, folder: str = "") -> str:
        return str(step_folder(Path(folder or self.folder), step))

    def _find_load_step(self, folder: str = "") -> int:
        """The newest step whose stamp holds, decided by rank 0 for all; -1 if there is none."""
        return int(self._from_rank_0(lambda: self._keeper.step_to_resume()))

    def _load(self, step: int = -1) -> bool:
        self._from_rank_0(self._keeper.require_initial_weights)
        loaded: bool = super()._load(step)
        schedulers = self.states[LR_SCHEDULER]
        if isinstance(schedulers, StagedLRSchedulers):
            schedulers.apply()
        sample, _ = self._position()
        self._from_rank_0(lambda: self._keeper.loaded(sample))
        self.newest_step = sample // self._keeper.samples_per_step
        return loaded

    def _position(self) -> tuple[int, Skips]:
        """Where the data stream stands: the next sample, and what is left out."""
        state = self.states[DATALOADER].state_dict()
        return state["sample"], Skips.parse(state["skips"])

    def save_now(self, step: int) -> bool:
        """Saves a step whatever the interval says, and waits for it. False if there is nothing to save."""
        if not self.enable:
            return False
        self.maybe_wait_for_saving()
        return step != self.newest_step and self._save(step, last_step=True)

    def _save(self, curr_step: int, last_step: bool = False) -> bool:
        if not self._should_save(curr_step, last_step):
            return False
        self.maybe_wait_for_saving()
        began = time.monotonic()
        self._require_finite_weights(curr_step)
        # Writing over a finished step would leave its metadata beside half-written shards: clear it first.
        self._from_rank_0(lambda: self._keeper.prepare(curr_step))
        with self._write_errors_are_named(curr_step):
            saved: bool = super()._save(curr_step, last_step)
        sample, skips = self._position()  # now: an asynchronous save is stamped when training is further
        if self.save_future is not None:
            # Rank 0's future ends after it has gathered all ranks and written the metadata.
            if dist.get_rank() == 0:
                self._stamping = Future()
                self.save_future.add_done_callback(
                    lambda done: self._stamp_later(done, curr_step, sample, skips, began)
                )
        else:
            with self._write_errors_are_named(curr_step):
                self._from_rank_0(lambda: self._keeper.stamp(curr_step, sample, skips))
            self._measure_save(began)
        self.newest_step = curr_step
        return saved

    def _measure_save(self, began: float) -> None:
        self.longest_save_s = max(self.longest_save_s or 0.0, time.monotonic() - began)

    def _require_finite_weights(self, step: int) -> None:
        """Raises NotFinite on all ranks: poisoned weights must not push whole checkpoints out of retention.

        The loss of a step is computed before its update, so it can't tell.
        """
        weights = self.states[MODEL].state_dict().values()
        local = (weight.to_local() if isinstance(weight, DTensor) else weight for weight in weights)
        finite = torch.stack([tensor.isfinite().all() for tensor in local]).all().int()
        dist.all_reduce(finite, op=dist.ReduceOp.MIN)
        if not finite.item():
            raise NotFinite(f"the weights are not finite after step {step}; this step is not saved")

    def _from_rank_0(self, decide: Callable[[], Any]) -> Any:
        """What rank 0 returns or raises, on every rank, so that all go on or all end alike."""
        outcome: list[Any] = [None, None]
        if dist.get_rank() == 0:
            try:
                outcome[0] = decide()
            except Exception as error:
                outcome[1] = error
        dist.broadcast_object_list(outcome, src=0, group=self._patient)
        if outcome[1] is not None:
            raise outcome[1]
        return outcome[0]

    @contextmanager
    def _write_errors_are_named(self, step: int) -> Iterator[None]:
        """A full disk reaches us as torch's "unexpected pos 704 vs 598"; say which file system has how much left."""
        try:
            yield
        except Superseded:
            raise
        except (OSError, RuntimeError, CheckpointException) as error:
            if dist.get_rank() == 0:  # what is half written would keep a full disk full
                self._keeper.discard(step)
            free_gb = shutil.disk_usage(Path(self.folder)).free / 1e9
            raise CheckpointNotWritten(
                f"the checkpoint of step {step} could not be written to {self.folder} ({free_gb:.1f} GB are free "
                f"there): {_reason(error)}"
            ) from error

    def _stamp_later(self, saved: Future[Any], step: int, sample: int, skips: Skips, began: float) -> None:
        assert self._stamping is not None
        try:
            saved.result()
            self._keeper.stamp(step, sample, skips)
            self._measure_save(began)
            self._stamping.set_result(None)
        except BaseException as error:
            self._stamping.set_exception(error)

    def _wait_for_saving(self) -> None:
        super()._wait_for_saving()
        if self._stamping is not None:
            self._stamping.result()
            self._stamping = None

    def _purge_stale_checkpoints(self) -> None:
        """Retention belongs to the Keeper: torchtitan's purge counts unstamped folders and tagged ones."""

    def _close(self) -> None:
        self.maybe_wait_for_saving()
        super()._close()


def _reason(error: BaseException) -> str:
    """The first rank's own error: as text a CheckpointException is the tracebacks of all ranks."""
    failures = list(getattr(error, "failures", {}).items())
    if not failures:
        return str(error).strip()
    rank, (cause, _) = failures[0]
    return f"rank {rank}: {str(cause).strip()}"
