"""The runs of the trainer in benchmarks/gpu.py, bf16 beside float8: which there are, in what order, and one of them.

torch, torchtitan and mmhydra are imported when a run begins: an older torch is given its missing names before that.
"""

import dataclasses
import json
import os
import socket
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_data import documents_class
from gpu_device import card
from gpu_memory import GIB, count_memory
from harness import progress

LIKE = "h100_64"  # whose peaks an MFU is counted with; an H200 computes as fast as an H100
TOKENS_PER_STEP = 32768
MICROBATCH = 2  # sequences, as in conf/model


@dataclass(frozen=True)
class Case:
    """One run of the trainer."""

    model: str
    seq_len: int
    precision: str
    deterministic: bool = True  # the default of conf/
    recompute: str = "none"

    @property
    def name(self) -> str:
        """For tables and for people who wait."""
        notes = [f"recompute={self.recompute}"] * (self.recompute != "none")
        notes += ["deterministic=false"] * (not self.deterministic)
        return " ".join([self.model, str(self.seq_len), self.precision, *notes])

    def overrides(self, steps: int, rehearse: bool) -> list[str]:
        """The command line of the run."""
        if rehearse:
            size, tokens = ["model.num_layers=2", "data=demo", "cluster=local"], 4 * self.seq_len
            emulated = {"float8_rowwise": "float8_emulated"}
            size.append(f"precision={emulated.get(self.precision, self.precision)}")
        else:
            size, tokens = ["data=mix_v0.2", f"precision={self.precision}"], TOKENS_PER_STEP
            size += ["cluster=local", "cluster.device=cuda", "cluster.compile=true"]
        return [
            f"model={self.model}",
            *size,
            "checkpoint=none",
            "training.tokens=null",
            f"training.steps={steps}",
            f"training.seq_len={self.seq_len}",
            f"training.global_batch_size={tokens // self.seq_len}",
            f"training.microbatch_size={MICROBATCH}",
            "training.validation_interval=null",
            f"training.deterministic={str(self.deterministic).lower()}",
            f"parallel.recompute={self.recompute}",
            "optim.warmup_steps=2",
        ]


def cases(rehearse: bool) -> list[Case]:
    """All runs, in their order."""
    if rehearse:
        bf16, float8 = (Case("debug", 128, precision) for precision in ("bf16", "float8_rowwise"))
        return [bf16, float8, float8, bf16, dataclasses.replace(bf16, deterministic=False)]
    pairs = {
        key: [Case(*key, precision) for precision in ("bf16", "float8_rowwise")]
        for key in (("1b", 4096), ("1b", 8192), ("100m", 4096), ("100m", 8192))
    }
    base = pairs["1b", 4096][0]
    return [
        *pairs["1b", 4096],
        *pairs["100m", 4096],
        *reversed(pairs["1b", 4096]),
        *pairs["1b", 8192],
        *reversed(pairs["100m", 4096]),
        dataclasses.replace(base, recompute="selective"),
        *pairs["100m", 8192],
        dataclasses.replace(base, deterministic=False),
        Case("1b", 4096, "float8_rowwise_gw_hp"),
        *reversed(pairs["1b", 8192]),
        *reversed(pairs["100m", 8192]),
    ]


def train(overrides: list[str], warmup: int) -> dict[str, Any]:
    """One run of mmhydra's trainer. Times in seconds, memory in bytes."""
    import mmhydra.titan  # noqa: F401 - first: it puts torchtitan on the CPU where there is no accelerator

    # isort: split
    import torch
    from torchtitan.tools.logging import init_logger

    from mmhydra.compose import known_clusters
    from mmhydra.testing import assert_legal
    from mmhydra.titan.model import linear_types

    init_logger()
    config = assert_legal(*overrides)
    peaks = known_clusters()[LIKE].peak_flops
    config = config.model_copy(update={"cluster": config.cluster.model_copy(update={"peak_flops": peaks})})
    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    os.environ["MASTER_PORT"] = str(_free_port())
    with tempfile.TemporaryDirectory() as folder:
        trainer, metrics_file = _trainer(config, Path(folder))
        peak_bytes, between_bytes = [], []
        log = trainer.metrics_processor.log

        def note(*args: Any, **kwargs: Any) -> None:
            if torch.cuda.is_available():
                peak_bytes.append(torch.cuda.max_memory_allocated())
                between_bytes.append(torch.cuda.memory_allocated())
            log(*args, **kwargs)

        trainer.metrics_processor.log = note
        linears = linear_types(trainer.model_parts)
        num_parameters = sum(parameter.numel() for parameter in trainer.model_parts[0].parameters())
        flops_per_token = trainer.metrics_processor.num_flops_per_token
        try:
            trainer.train()
        finally:
            trainer.close()
        records = [json.loads(line) for line in metrics_file.read_text().splitlines()]
    torch.distributed.destroy_process_group()
    steps = [record for record in records if record["kind"] == "train"]
    counted = steps[warmup:]
    step_s = statistics.median(record["step_time_s"] for record in counted)
    tokens = config.training.tokens_per_step
    return {
        "card": card(),
        "torch": torch.__version__,
        "overrides": overrides,
        "linears": linears,
        "num_parameters": num_parameters,
        "vocab_size": config.tokens.vocab_size,
        "tokens_per_step": tokens,
        "step_s": step_s,
        "steps_s": [record["step_time_s"] for record in steps],
        "data_s": statistics.median(record["data_time_s"] for record in counted),
        "mfu": statistics.median(record["mfu"] for record in counted),
        "flop_rate": flops_per_token * tokens / step_s,
        "loss_first": steps[0]["loss"],
        "loss_last": steps[-1]["loss"],
        "grad_norm_last": steps[-1]["grad_norm"],
        "peak_bytes": max(peak_bytes[warmup:], default=0),
        "between_bytes": max(between_bytes[warmup:], default=0),
        "reserved_bytes": round((steps[-1]["gpu_mem_used_gb"] or 0) * GIB),
        "count_bytes": count_memory(config, num_parameters),
    }


def _trainer(config: Any, folder: Path) -> tuple[Any, Path]:
    """The trainer of a frozen attempt, with random documents for data; and its metrics.jsonl."""
    import mmhydra
    from mmhydra.config.frozen import config_sha256, to_yaml
    from mmhydra.run.directory import RunDirectory
    from mmhydra.run.identity import identify
    from mmhydra.titan.build import trainer_config
    from mmhydra.titan.control import Control, Signals
    from mmhydra.titan.metrics import RunFacts

    run = RunDirectory(folder)
    run.create(identify(config, {}, None))
    attempt, text = run.new_attempt(), to_yaml(config)
    provenance = {"mmhydra": mmhydra.__version__, "run_id": "gpu", "config_sha256": config_sha256(text)}
    attempt.freeze(text, (), provenance, {})

    def open_control(longest_save_s: Any) -> Control:
        return Control(attempt, Signals([]), lease=None, end_time=None, longest_save_s=longest_save_s)

    def say(kind: str, message: str, /, **values: Any) -> None:
        progress(f"{kind}: {message}")

    wanted = trainer_config(config, attempt, say, open_control)
    peak = getattr(config.cluster.peak_flops, config.precision.compute_format)
    facts = RunFacts("gpu", config.training.tokens_per_step, peak, lambda step: "none")
    wanted = dataclasses.replace(
        wanted,
        dataloader=documents_class().Config(vocab_size=config.tokens.vocab_size),
        metrics=dataclasses.replace(wanted.metrics, facts=lambda: facts),
    )
    return wanted.build(), attempt.metrics


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
