"""One rank from its frozen attempt to its exit code: read, verify, train, say how it ended."""

import ctypes
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torchtitan.tools.logging import init_logger, logger
from torchtitan.trainer import Trainer

from mmhydra.config.schema import RunConfig
from mmhydra.config.secrets import masked, names_in
from mmhydra.data.datasets import DataError, digests, load
from mmhydra.errors import ExitCode, NotFinite, UserError
from mmhydra.files import write_json
from mmhydra.run.directory import Attempt
from mmhydra.run.status import Status, state_of
from mmhydra.titan import cpu
from mmhydra.titan.build import trainer_config
from mmhydra.titan.metrics import JsonlMetrics
from mmhydra.titan.model import linear_types
from mmhydra.track.follow import Follower
from mmhydra.track.jsonl import JsonlWriter
from mmhydra.track.registry import build_sinks
from mmhydra.track.sink import RunInfo

_SINKS_TIMEOUT_S = 20.0
_PR_SET_PDEATHSIG = 1


def run_attempt(attempt: Attempt) -> int:
    """Runs this process's rank (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT) and returns its exit code."""
    rank = int(os.environ["RANK"])
    if os.environ.get("MMHYDRA_DIE_WITH_PARENT"):
        _die_with_parent()
    _log_to(attempt.logs / f"rank-{rank:04d}.log")
    init_logger()
    job = _Job(attempt, rank)
    try:
        job.train()
    except BaseException as error:  # the way out of a rank is always written down
        code = _exit_code(error)
        traceback.print_exc()
        job.ended(code, str(error) or type(error).__name__)
        return code
    job.ended(ExitCode.DONE, "the run is complete")
    return ExitCode.DONE


def _die_with_parent() -> None:
    """An orphan must not go on writing: torch elastic starts workers in sessions of their own."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == 1:
        os._exit(ExitCode.FAILED)


def _log_to(path: Path) -> None:
    """Everything that this process prints, C++ libraries included, goes to its own log."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def _exit_code(error: BaseException) -> ExitCode:
    if isinstance(error, UserError):
        return ExitCode.CONFIG
    return ExitCode.STOPPED if isinstance(error, NotFinite) else ExitCode.FAILED


class _Job:
    """The state of one rank, so that the end can be told from wherever it comes."""

    def __init__(self, attempt: Attempt, rank: int) -> None:
        self._attempt = attempt
        self._rank = rank
        self._trainer: Trainer | None = None
        name = "events.jsonl" if rank == 0 else f"events-rank-{rank:04d}.jsonl"
        self._events_path = attempt.path / name

    def train(self) -> None:
        config, _ = self._attempt.read_frozen()
        provenance = self._attempt.provenance()
        logger.info(
            "mmhydra %s run %s attempt %d config sha256 %s commit %s%s",
            provenance["mmhydra"],
            provenance["run_id"],
            self._attempt.number,
            provenance["config_sha256"],
            provenance["git"]["commit"],
            " with uncommitted changes (code.patch)" if provenance["git"]["dirty"] else "",
        )
        self._say("running", None, "starting")
        _require_world(config)
        _require_data(config, provenance)
        self._trainer = trainer_config(config, self._attempt, self.event).build()
        self.event("model", f"linear layers of rank {self._rank}: {linear_types(self._trainer.model_parts)}")
        logger.info("computing with %d threads", torch.get_num_threads())
        with self._sinks(config, provenance), _not_finite_is_named():
            try:
                if config.training.num_steps == 0:
                    self._trainer.checkpointer.save(0, last_step=True)  # a seed checkpoint
                else:
                    self._trainer.train()
            finally:
                self._trainer.close()
        torch.distributed.destroy_process_group()

    def event(self, kind: str, message: str) -> None:
        """Appends to this rank's events and to its log."""
        logger.info("%s: %s", kind, message)
        writer = JsonlWriter(self._events_path)
        writer.write({"timestamp": datetime.now(UTC).isoformat(), "kind": kind, "message": message})
        writer.close()

    def ended(self, code: ExitCode, message: str) -> None:
        """Writes how this rank ended: status.json on rank 0, a failure file on any rank that failed."""
        if code is not ExitCode.DONE:
            failures = self._attempt.path / "failures"
            failures.mkdir(exist_ok=True)
            failure = {"rank": self._rank, "time": time.time(), "exit_code": int(code), "message": message}
            write_json(failures / f"rank-{self._rank:04d}.json", failure)
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
