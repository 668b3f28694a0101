"""A bare torchtitan training script: what one would write without mmhydra, on its model and its loader.

    python benchmarks/bare_titan.py CONFIG_YAML FOLDER

CONFIG_YAML is what `python -m mmhydra.train ... dry_run=config` prints; only its numbers are used. Everything else is
stock torchtitan: Trainer, MetricsProcessor, CheckpointManager, one process, no launcher. FOLDER gets the checkpoints.
"""

import os
import socket
import sys
from functools import partial
from pathlib import Path

# Puts torchtitan on the CPU where there is no accelerator; has to come before torchtitan is imported.
import mmhydra.titan  # noqa: F401

# isort: split

import torch
from torchtitan.components.checkpointer.dcp import CheckpointManager
from torchtitan.components.loss import CrossEntropyLoss
from torchtitan.components.metrics import MetricsProcessor
from torchtitan.components.optimizer import LRSchedulersContainer, OptimizersContainer, ParamGroupConfig
from torchtitan.config.configs import CommConfig, DebugConfig, ParallelismConfig, TrainingConfig
from torchtitan.tools.logging import init_logger
from torchtitan.trainer import Trainer

from mmhydra.config.frozen import from_yaml
from mmhydra.config.schema import RunConfig
from mmhydra.data.stream.batches import open_split
from mmhydra.titan.build import NoTokenizer
from mmhydra.titan.dataloader import StreamDataLoader
from mmhydra.titan.model import model_spec


def main() -> None:
    """Trains to the last step."""
    config, folder = from_yaml(Path(sys.argv[1]).read_bytes()), Path(sys.argv[2])
    init_logger()
    one_process()
    trainer = trainer_config(config, folder).build()
    try:
        trainer.train()
    finally:
        trainer.close()
    torch.distributed.destroy_process_group()


def one_process() -> None:
    """A world of one rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ |= {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def trainer_config(config: RunConfig, folder: Path) -> Trainer.Config:
    """Written out by hand, so that nothing of mmhydra's own wiring runs in this arm."""
    training, optim, vocab_size = config.training, config.optim, config.tokens.vocab_size
    return Trainer.Config(
        model_spec=model_spec(
            config.model, config.precision, vocab_size=vocab_size, max_seq_len=training.seq_len, compile=False
        ),
        dump_folder=str(folder),
        tokenizer=NoTokenizer.Config(),
        loss=CrossEntropyLoss.Config(global_vocab_size=vocab_size),
        dataloader=StreamDataLoader.Config(
            open_split=partial(
                open_split,
                config.data,
                Path(config.paths.data),
                "train",
                seq_len=training.seq_len,
                seed=config.seed.data,
            ),
            global_batch_size=training.global_batch_size,
        ),
        optimizer=OptimizersContainer.Config(
            param_groups=[
                ParamGroupConfig(
                    pattern=r".*",
                    optimizer_name="AdamW",
                    optimizer_kwargs={
                        "lr": optim.lr,
                        "betas": (optim.beta1, optim.beta2),
                        "eps": optim.eps,
                        "weight_decay": optim.weight_decay,
                    },
                )
            ],
            implementation="fused",
        ),
        lr_scheduler=LRSchedulersContainer.Config(
            warmup_steps=optim.warmup_steps, decay_type="cosine", min_lr_factor=optim.min_lr / optim.lr
        ),
        training=TrainingConfig(
            local_batch_size=training.global_batch_size,
            global_batch_size=training.global_batch_size,
            seq_len=training.seq_len,
            max_norm=optim.clip_norm,
            steps=training.num_steps,
            disable_cuda_graphs=True,
            dtype="float32",
            mixed_precision_param="float32",
            mixed_precision_reduce="float32",
        ),
        parallelism=ParallelismConfig(data_parallel_shard_degree=1),
        activation_checkpoint=None,
        comm=CommConfig(trace_buf_size=0),
        debug=DebugConfig(
            seed=config.seed.model, deterministic=training.deterministic, enable_structured_logging=False
        ),
        metrics=MetricsProcessor.Config(log_freq=config.track.log_interval, disable_color_printing=True),
        checkpoint=CheckpointManager.Config(
            enable=config.checkpoint.enabled,
            folder="checkpoints",
            interval=config.checkpoint.interval,
            async_mode=config.checkpoint.async_mode,
            last_save_model_only=False,
            keep_latest_k=config.checkpoint.keep_latest,
        ),
    )


if __name__ == "__main__":
    main()
