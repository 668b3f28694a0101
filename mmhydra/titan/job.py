"""One rank from its frozen attempt to its exit code: read, verify, train, say how it ended."""

import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torchtitan.tools.logging import init_logger, logger

from mmhydra.config.schema import RunConfig
from mmhydra.config.secrets import masked, names_in
from mmhydra.data.datasets import DataError, digests, load
from mmhydra.errors import ExitCode, NotFinite, UserError
from mmhydra.run.directory import Attempt
from mmhydra.run.lease import JobLease
from mmhydra.run.outcome import Failure
from mmhydra.run.status import Status, state_of
from mmhydra.titan import cpu
from mmhydra.titan.build import trainer_config
from mmhydra.titan.control import REASONS, SIGNALS, Control, Signals
from mmhydra.titan.metrics import JsonlMetrics
from mmhydra.titan.model import linear_types
from mmhydra.titan.trainer import ControlledTrainer
from mmhydra.track.follow import Follower
from mmhydra.track.jsonl import JsonlWriter
from mmhydra.track.registry import build_sinks
from mmhydra.track.sink import RunInfo

_SINKS_TIMEOUT_S = 20.0


def run_attempt(attempt: Attempt) -> int:
    """Runs this process's rank (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT) and returns its exit code."""
    rank = int(os.environ["RANK"])
    init_logger()
    job = _Job(attempt, rank, Signals(_signals()))
    try:
        return job.train()
    except BaseException as error:  # the way out of a rank is always written down
        code = _exit_code(error)
        traceback.print_exc()
        job.failed(code, error)
        return code


def _signals() -> list[signal.Signals]:
    """SIGTERM is a request to save only where SLURM sends it; elsewhere a person wants the process to end."""
    return [*SIGNALS, signal.SIGTERM] if os.environ.get("MMHYDRA_SLURM") else [*SIGNALS]


def _exit_code(error: BaseException) -> ExitCode:
    if isinstance(error, UserError):
        return error.exit_code
    return ExitCode.STOPPED if isinstance(error, NotFinite) else ExitCode.FAILED


class _Job:
    """The state of one rank, so that the end can be told from wherever it comes."""

    def __init__(self, attempt: Attempt, rank: int, signals: Signals) -> None:
        self._attempt = attempt
        self._rank = rank
        self._signals = signals
        self._trainer: ControlledTrainer | None = None
        name = "events.jsonl" if rank == 0 else f"events-rank-{rank:04d}.jsonl"
        self._events_path = attempt.path / name

    def train(self) -> ExitCode:
        """Trains to the end, or to an order that ends it. Raises whatever goes wrong."""
        config, _ = self._attempt.read_frozen()
        provenance = self._attempt.provenance()
        self._say("running", None, "starting")
        _require_world(config)
        _require_data(config, provenance)
        lease = JobLease.of(self._attempt)
        with lease.beating() if lease is not None and self._rank == 0 else nullcontext():
            return self._train(config, provenance, lease)

    def _train(self, config: RunConfig, provenance: dict[str, Any], lease: JobLease | None) -> ExitCode:
        open_control = partial(_open_control, self._attempt, self._signals, lease)
        trainer = self._trainer = trainer_config(config, self._attempt, self.event, open_control).build()
        self.event("model", f"linear layers of rank {self._rank}: {linear_types(self._trainer.model_parts)}")
        logger.info("computing with %d threads", torch.get_num_threads())
        with self._sinks(config, provenance), _not_finite_is_named():
            try:
                if config.evaluates:
                    trainer.evaluate()
                elif config.training.num_steps == 0:
                    trainer.checkpointer.save(0, last_step=True)  # a seed checkpoint
                else:
                    trainer.train()
            finally:
                trainer.close()
        order = trainer.ended_by
        if order is None:
            self._ended(ExitCode.DONE, "the run is complete")
        else:
            self._ended(order.exit_code, f"{REASONS[order]}; {trainer.saved}", order.name.lower())
        # The first rank that exits with another code than 0 takes the others along: none may, before all is written.
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
        return ExitCode.DONE if order is None else order.exit_code

    def event(self, kind: str, message: str, /, **values: Any) -> None:
        """Appends to this rank's events and to its log."""
        logger.info("%s: %s", kind, message)
        writer = JsonlWriter(self._events_path)
        writer.write({"timestamp": datetime.now(UTC).isoformat(), "kind": kind, "message": message, **values})
        writer.close()

    def failed(self, code: ExitCode, error: BaseException) -> None:
        """Writes how this rank failed; which was the first, and so the cause, is found out when all have ended."""
        message = str(error) or type(error).__name__
        told = "".join(traceback.format_exception(error))
        Failure(self._rank, time.time(), int(code), message, told).write(self._attempt)
        if self._rank == 0:
            step = self._trainer.step if self._trainer is not None else 0
            Status(state_of(code), int(code), step, message, 0, told).write(self._attempt.status)

    def _ended(self, code: ExitCode, message: str, order: str | None = None) -> None:
        """Writes an end that all ranks come to together."""
        if code is not ExitCode.DONE and self._rank == 0:
            Failure(0, time.time(), int(code), message, order=order).write(self._attempt)
        self._say(state_of(code), int(code), message)

    def _say(self, state: Any, code: int | None, message: str) -> None:
        if self._rank == 0:
            step = self._trainer.step if self._trainer is not None else 0
            Status(state, code, step, message).write(self._attempt.status)

    @contextmanager
    def _sinks(self, config: RunConfig, provenance: dict[str, Any]) -> Iterator[None]:
        """Aim, TensorBoard and Prometheus follow metrics.jsonl from the rank that writes it."""
        settings = {name: options for name, options in config.track.model_dump().items() if name != "log_interval"}
        assert self._trainer is not None
        metrics = self._trainer.metrics_processor
        assert isinstance(metrics, JsonlMetrics)
        if not metrics.is_writer or not any(settings.values()):
            yield
            return
        run = RunInfo(
            run_id=provenance["run_id"],
            run_name=provenance["run_name"],
            model=config.model.name,
            config=config.model_dump(mode="json"),
            config_sha256=provenance["config_sha256"],
            git_commit=provenance["git"]["commit"],
            attempt=self._attempt.number,
        )
        if settings["prometheus"]:
            settings["prometheus"]["rank"] = self._rank
        sinks = build_sinks(settings, run, self._attempt.path)
        secret = names_in(value for options in settings.values() if options for value in options.values())

        def failed(sink: str, message: str) -> None:
            self.event("sink_failed", masked(f"{sink}: {message}", secret))

        follower = Follower(self._attempt.metrics, sinks, failed)
        try:
            yield
        finally:
            follower.stop(_SINKS_TIMEOUT_S)


def _open_control(
    attempt: Attempt, signals: Signals, lease: JobLease | None, longest_save_s: Callable[[], float | None]
) -> Control:
    end_time = os.environ.get("MMHYDRA_END_TIME", "")
    return Control(
        attempt,
        signals,
        lease=lease,
        end_time=float(end_time) if end_time.isdigit() else None,
        longest_save_s=longest_save_s,
    )


@contextmanager
def _not_finite_is_named() -> Iterator[None]:
    """torchtitan raises a RuntimeError for a loss that is no number; a person has to decide what then."""
    try:
        yield
    except RuntimeError as error:
        if "Loss is not finite" in str(error):
            raise NotFinite(str(error)) from error
        raise


def _require_world(config: RunConfig) -> None:
    world_size = int(os.environ["WORLD_SIZE"])
    if world_size != config.world_size:
        raise UserError(f"the config needs {config.world_size} processes, {world_size} were started")
    if config.cluster.device == "cuda" and cpu.is_active():
        raise UserError(f"cluster={config.cluster.name} needs GPUs and this host has none; type cluster=local")


def _require_data(config: RunConfig, provenance: dict[str, Any]) -> None:
    """Refuses data whose manifests are not those of the frozen run."""
    found = digests(load(config.data, config.tokens, Path(config.paths.data)))
    changed = [
        f"  {name}: {provenance['manifests'].get(name)} -> {digest}"
        for name, digest in found.items()
        if digest != provenance["manifests"].get(name)
    ]
    if changed:
        raise DataError("\n".join(["the data is not what this run was frozen with (manifest, then -> now):", *changed]))
