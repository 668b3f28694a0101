"""torchtitan's metrics as records of metrics.jsonl."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import torch
from torch.distributed.device_mesh import DeviceMesh
from torchtitan.components.metrics import MetricsProcessor, _get_metrics_rank
from torchtitan.tools.logging import logger

from mmhydra.errors import NotFinite
from mmhydra.titan import cpu
from mmhydra.titan.losses import ModalityTally
from mmhydra.track.jsonl import JsonlWriter

_GIB = 1024**3


@dataclass(frozen=True)
class RunFacts:
    """What a record needs to know of its run."""

    run_id: str
    tokens_per_step: int
    peak_flops: float | None  # of one device, in the format that the run computes in
    data_shard: Callable[[int], str]  # the shard that holds the first sample of a step
    seen: Callable[[int], dict[str, Any]] = field(default=lambda step: {})  # of the data, up to the end of a step


class JsonlMetrics(MetricsProcessor):
    """Writes one record a logged step on the rank that knows the loss (the last pipeline stage's first)."""

    @dataclass(kw_only=True, slots=True)
    class Config(MetricsProcessor.Config):
        """`open_writer` is called on the writing rank only."""

        open_writer: Callable[[], JsonlWriter]
        facts: Callable[[], RunFacts]
        last_step: int

    tally: ModalityTally  # of the loss; the trainer, which builds the loss later, sets it

    def __init__(self, config: Config, *, parallel_dims: Any, pp_schedule: str, **kwargs: Any) -> None:
        super().__init__(config, parallel_dims=parallel_dims, pp_schedule=pp_schedule, **kwargs)
        rank = _get_metrics_rank(parallel_dims=parallel_dims, pp_schedule=pp_schedule)
        self._writer = config.open_writer() if torch.distributed.get_rank() == rank else None
        self._facts = config.facts()
        self._steps = 0  # since the last record
        self._clock: float | None = None  # when they began; None before the first
        self._excluded_s = 0.0  # validation is no step time

    @property
    def is_writer(self) -> bool:
        """Whether this rank writes the records."""
        return self._writer is not None

    def should_log(self, step: int) -> bool:
        """Asked by the trainer once at the beginning of each step; the last one always has a record."""
        assert isinstance(self.config, JsonlMetrics.Config)
        if self._clock is None:
            self._clock = time.perf_counter()
        self._steps += 1
        self.tally.reset()
        return super().should_log(step) or step == self.config.last_step

    def log(
        self,
        step: int,
        global_avg_loss: float,
        global_max_loss: float,
        grad_norm: float,
        extra_metrics: dict[str, Any] | None = None,
    ) -> None:
        """Called by the trainer on every rank. Losses in nats a token.

        Raises NotFinite for a gradient norm that is no number, on all ranks alike.
        """
        assert self._clock is not None
        elapsed_s = time.perf_counter() - self._clock - self._excluded_s
        data_s, steps = sum(self.data_loading_times), self._steps
        losses, max_loss = self.tally.read(self._loss_mesh), self.tally.highest_mean(self._loss_mesh)
        if self._writer is not None:
            rates = [value for name, value in (extra_metrics or {}).items() if name.startswith("lr/")]
            throughput = steps * self._facts.tokens_per_step / elapsed_s
            self._write(
                "train",
                step,
                {
                    "loss": global_avg_loss,
                    "loss_by_modality": losses.loss,
                    "tokens_by_modality": losses.tokens,
                    # torchtitan's own is NaN where a rank has no label, such as one that got only padding.
                    "max_loss": max_loss if math.isfinite(max_loss) else global_avg_loss,
                    "grad_norm": grad_norm,
                    "lr": rates[0] if rates else None,
                    "consumed_tokens": step * self._facts.tokens_per_step,
                    "throughput_tps": throughput,
                    "mfu": self._mfu(throughput),
                    "data_time_s": data_s / steps,
                    "step_time_s": elapsed_s / steps,
                    "gpu_mem_used_gb": _device_memory_gb(),
                    "data_shard": self._facts.data_shard(step),
                    **self._facts.seen(step),
                },
            )
            logger.info(
                "step %d  loss %.5f  grad_norm %.4f  %.0f tokens/s", step, global_avg_loss, grad_norm, throughput
            )
        if not math.isfinite(grad_norm):
            raise NotFinite(f"the gradient norm is {grad_norm} at step {step}")
        self._steps, self._clock, self._excluded_s = 0, time.perf_counter(), 0.0
        self._reset_counters()

    def exclude(self, seconds: float) -> None:
        """Takes a pause, such as a validation, out of the step time."""
        self._excluded_s += seconds

    def log_validation(self, loss: float, step: int, extra_metrics: dict[str, Any] | None = None) -> None:
        """Called by the validator on every rank. Loss in nats a token of the held-out split."""
        losses = self.tally.read(self._loss_mesh)
        if self._writer is not None:
            self._write(
                "validation",
                step,
                {
                    "val_loss": loss,
                    "val_loss_by_modality": losses.loss,
                    "val_tokens_by_modality": losses.tokens,
                    "consumed_tokens": step * self._facts.tokens_per_step,
                },
            )
            self._writer.flush()
            logger.info("step %d  held-out loss %.5f", step, loss)

    @property
    def _loss_mesh(self) -> DeviceMesh | None:
        """The ranks whose losses are added up; on each pipeline stage its own."""
        return self.parallel_dims.get_optional_mesh("loss") if self.parallel_dims.dp_cp_enabled else None

    def _reset_counters(self) -> None:
        """What torchtitan's own log() does at its end; without its log line, which under PP shows no real loss."""
        self.ntokens_since_last_log = 0
        self.data_loading_times.clear()
        self.time_last_log = time.perf_counter()
        self.device_memory_monitor.reset_peak_stats()

    def close(self) -> None:
        """Makes the last records durable."""
        super().close()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _write(self, kind: str, step: int, values: dict[str, Any]) -> None:
        assert self._writer is not None
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        head = {"timestamp": now, "level": "INFO", "run_id": self._facts.run_id, "kind": kind, "step": step}
        self._writer.write(head | values)

    def _mfu(self, throughput_tps: float) -> float | None:
        if self._facts.peak_flops is None:
            return None
        world_size = torch.distributed.get_world_size()
        return float(self.num_flops_per_token * throughput_tps / (self._facts.peak_flops * world_size))


def _device_memory_gb() -> float | None:
    return None if cpu.is_active() else torch.cuda.max_memory_reserved() / _GIB
