"""RunConfig to torchtitan's Trainer.Config: the one place where our names meet torchtitan's."""

from functools import partial
from typing import Any

import torch
from torchtitan.components.optimizer import OptimizersContainer, ParamGroupConfig
from torchtitan.components.tokenizer import BaseTokenizer
from torchtitan.config.configs import (
    CommConfig,
    CompileConfig,
    DebugConfig,
    ParallelismConfig,
    TrainingConfig,
)
from torchtitan.distributed.activation_checkpoint import FullAC, SelectiveAC

from mmhydra.checkpoint.keeper import Event, Keeper, World
from mmhydra.checkpoint.stamp import Mesh
from mmhydra.config.optim import Optim
from mmhydra.config.parallel import Parallel
from mmhydra.config.schema import RunConfig
from mmhydra.config.stages import stages
from mmhydra.data.stream import ALGORITHM
from mmhydra.run.directory import Attempt
from mmhydra.titan import cpu
from mmhydra.titan.checkpointer import StampedCheckpointManager
from mmhydra.titan.control import Control
from mmhydra.titan.data import RunData
from mmhydra.titan.losses import ModalityLoss, modality_edges
from mmhydra.titan.lr import StagedLRSchedulers
from mmhydra.titan.metrics import JsonlMetrics, RunFacts
from mmhydra.titan.model import model_spec
from mmhydra.titan.nodes import NodeWatch
from mmhydra.titan.trainer import ControlledTrainer, OpenControl
from mmhydra.titan.validator import HeldoutValidator
from mmhydra.track.jsonl import JsonlWriter

_FOREVER = 1 << 62  # steps; a validation interval that only the last step meets


class NoTokenizer(BaseTokenizer):
    """The shards hold ids already; torchtitan asks for a tokenizer all the same."""

    class Config(BaseTokenizer.Config):
        """Takes no settings."""

        __slots__ = ()

    def __init__(self, config: Config, *, tokenizer_path: str) -> None:
        super().__init__()

    def encode(self, *args: Any, **kwargs: Any) -> list[int]:
        """Never called."""
        raise NotImplementedError("shards hold ids")

    def decode(self, *args: Any, **kwargs: Any) -> str:
        """Never called."""
        raise NotImplementedError("shards hold ids")

    def get_vocab_size(self) -> int:
        """Never called."""
        raise NotImplementedError("shards hold ids")


def trainer_config(
    config: RunConfig, attempt: Attempt, on_event: Event, open_control: OpenControl
) -> ControlledTrainer.Config:
    """The trainer of a frozen attempt. Nothing is opened or computed yet."""
    training, dp = config.training, config.dp
    pipelined = config.parallel.pp > 1
    vocab_size = config.tokens.vocab_size
    starts, modalities = modality_edges(config.tokens)
    data = RunData(config, on_event)
    return ControlledTrainer.Config(
        open_control=open_control,
        open_nodes=partial(_open_nodes, config, attempt, on_event),
        close_data=data.close,
        on_order=on_event,
        model_spec=model_spec(
            config.model,
            config.precision,
            vocab_size=vocab_size,
            max_seq_len=training.seq_len,
            compile=config.cluster.compile,
        ),
        dump_folder=str(attempt.path),
        tokenizer=NoTokenizer.Config(),
        loss=ModalityLoss.Config(global_vocab_size=vocab_size, starts=starts, modalities=modalities),
        # An evaluation draws nothing to train on, and its datasets need not have any.
        dataloader=data.heldout_loader() if config.evaluates else data.train_loader(),
        optimizer=_optimizer(config.optim),
        lr_scheduler=_lr_scheduler(config),
        training=TrainingConfig(
            # Under pipeline parallelism all microbatches of a step go through one schedule.
            local_batch_size=training.global_batch_size // dp if pipelined else config.microbatch_size,
            global_batch_size=training.global_batch_size,
            seq_len=training.seq_len,
            max_norm=config.optim.clip_norm,
            steps=training.num_steps,
            disable_cuda_graphs=not config.cluster.cuda_graphs,
            dtype="float32",
            mixed_precision_param=config.precision.param_dtype,
            mixed_precision_reduce="float32",
        ),
        parallelism=_parallelism(config.parallel, dp, config.microbatch_size),
        activation_checkpoint=_recompute(config.parallel),
        compile=CompileConfig(enable=config.cluster.compile),
        comm=CommConfig(trace_buf_size=0 if cpu.is_active() else 20000),
        debug=DebugConfig(
            seed=config.seed.model, deterministic=training.deterministic, enable_structured_logging=False
        ),
        metrics=JsonlMetrics.Config(
            log_freq=config.track.log_interval,
            disable_color_printing=True,
            open_writer=partial(JsonlWriter, attempt.metrics),
            facts=partial(_facts, config, attempt, data),
            last_step=training.num_steps,
        ),
        validator=HeldoutValidator.Config(
            enable=config.evaluates or (training.validation_interval is not None and training.num_steps > 0),
            freq=training.validation_interval or _FOREVER,
            steps=training.validation_batches * (1 if pipelined else config.num_microbatches),
            last_step=training.num_steps,
            dataloader=data.heldout_loader(),
        ),
        checkpoint=StampedCheckpointManager.Config(
            enable=config.checkpoint.enabled,
            folder=str(attempt.run.checkpoints),
            interval=config.checkpoint.interval,
            async_mode=config.checkpoint.async_mode,
            initial_load_path=config.checkpoint.extend_from or config.checkpoint.init_from,
            initial_load_model_only=config.checkpoint.extend_from is None,
            last_save_model_only=False,  # the last step can be continued like any other
            keep_latest_k=0,  # retention is the Keeper's
            open_keeper=partial(_keeper, config, attempt, data, on_event),
        ),
    )


def _open_nodes(config: RunConfig, attempt: Attempt, on_event: Event, control: Control) -> NodeWatch:
    return NodeWatch(
        attempt,
        on_event,
        control.group,
        interval=config.track.log_interval,
        comparable=config.parallel.pp == 1,
    )


def _facts(config: RunConfig, attempt: Attempt, data: RunData) -> RunFacts:
    return RunFacts(
        run_id=attempt.provenance()["run_id"],
        tokens_per_step=config.training.tokens_per_step,
        peak_flops=getattr(config.cluster.peak_flops, config.precision.compute_format),
        data_shard=data.shard_of_step,
        seen=data.seen,
    )


def _keeper(config: RunConfig, attempt: Attempt, data: RunData, on_event: Event) -> Keeper:
    parallel, dp = config.parallel, config.dp
    mesh = Mesh(
        world_size=torch.distributed.get_world_size(),
        dp_replicate=parallel.dp_replicate,
        dp_shard=dp // parallel.dp_replicate,
        tp=parallel.tp,
        pp=parallel.pp,
    )
    return Keeper(attempt, World(mesh, data.tokens, ALGORITHM), on_event)


def _optimizer(optim: Optim) -> OptimizersContainer.Config:
    adamw = {
        "lr": optim.lr,
        "betas": (optim.beta1, optim.beta2),
        "eps": optim.eps,
        "weight_decay": optim.weight_decay,
    }
    return OptimizersContainer.Config(
        param_groups=[ParamGroupConfig(pattern=r".*", optimizer_name="AdamW", optimizer_kwargs=adamw)],
        implementation="fused",
    )


def _lr_scheduler(config: RunConfig) -> StagedLRSchedulers.Config:
    optim = config.optim
    return StagedLRSchedulers.Config(
        warmup_steps=optim.warmup_steps,
        decay_ratio=optim.decay_fraction,
        decay_type="cosine" if optim.schedule == "cosine" else "linear",
        min_lr_factor=optim.min_lr / optim.lr,
        spans=stages(config),
    )


def _parallelism(parallel: Parallel, dp: int, microbatch_size: int) -> ParallelismConfig:
    return ParallelismConfig(
        data_parallel_replicate_degree=parallel.dp_replicate,
        data_parallel_shard_degree=dp // parallel.dp_replicate,
        fsdp_reshard_after_forward=parallel.reshard_after_forward,
        tensor_parallel_degree=parallel.tp,
        enable_sequence_parallel=parallel.sequence_parallel,
        pipeline_parallel_degree=parallel.pp,
        pipeline_parallel_schedule=parallel.schedule,
        pipeline_parallel_microbatch_size=microbatch_size,
    )


def _recompute(parallel: Parallel) -> Any:
    return {"none": None, "selective": SelectiveAC.Config(), "full": FullAC.Config()}[parallel.recompute]
