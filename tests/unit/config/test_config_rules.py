"""Every rule: a config that breaks it and no other, and one just inside."""

import re
from typing import Any, NamedTuple

import pytest

from mmhydra.compose import known_clusters
from mmhydra.config.facts import Facts, TokenCount
from mmhydra.config.rules import RULES, check, divisors
from mmhydra.config.slurm_rules import SLURM_RULES


class Case(NamedTuple):
    """`wrong` and `right` are changes of the default config; `problems` the keys of each problem in order."""

    wrong: dict[str, Any]
    problems: list[tuple[str, ...]]
    texts: list[str]
    right: dict[str, Any]


FLOAT8 = {"precision.float8_recipe": "rowwise", "precision.param_dtype": "bfloat16", "precision.float8_emulate": True}
BOTH = {"training.steps": None, "training.tokens": 409_600}
STAGE = {"name": "warm", "fraction": 1.0, "lr_multiplier": [1.0, 1.0]}
HARDWARE = {**FLOAT8, "precision.float8_emulate": False, "cluster.device": "cuda", "cluster.compile": True}
SECTION = known_clusters()["h100_64"].slurm.model_dump()
JOBS = {"cluster.kind": "slurm", "cluster.time_limit_min": 60, "cluster.slurm": SECTION}
SLURM = {**JOBS, "cluster.nodes": 1, "cluster.gpus_per_node": 1}
TINY = {"model.dim": 4, "model.num_heads": 2, "model.num_kv_heads": 2, "training.microbatch_size": 1}
RANGE = {"name": "text", "modality": "text", "size": 1024, "start": None}
WORLD = ("parallel.dp", "parallel.tp", "parallel.pp", "cluster.max_processes")
MICROBATCHES = (
    *("parallel.schedule", "parallel.pp", "training.microbatch_size", "training.global_batch_size", "parallel.dp"),
)
STEP = "/outputs/debug/3f83c51a9fd0/checkpoints/step-00000100"
GPUS_64 = {"cluster.nodes": 8, "cluster.gpus_per_node": 8, "cluster.max_processes": None}


def stage(**shares: list[float]) -> dict[str, Any]:
    return {"data.schedule": [{**STAGE, "shares": shares}]}


def stages(*lengths: dict[str, float]) -> dict[str, Any]:
    """Stages of nothing but code, by their lengths."""
    shares = {"stdlib_code": [1.0, 1.0]}
    return {
        "data.schedule": [
            {"name": f"s{number}", **length, "lr_multiplier": [1.0, 1.0], "shares": shares}
            for number, length in enumerate(lengths)
        ]
    }


CASES = {
    "no length": Case(
        {"training.steps": None},
        [("training.steps", "training.tokens")],
        ["training.steps=N or training.tokens=N"],
        BOTH,
    ),
    "two lengths": Case(
        {"training.tokens": 409_600},
        [("training.steps", "training.tokens")],
        ["200 steps", "409600 tokens", "training.tokens=null", "training.steps=null"],
        BOTH,
    ),
    "warmup": Case(
        {"optim.warmup_steps": 201},
        [("optim.warmup_steps", "training.steps", "training.tokens")],
        ["201 steps", "200 steps", "type optim.warmup_steps=4"],
        {"optim.warmup_steps": 200},
    ),
    "warmup of a token budget": Case(
        {**BOTH, "optim.warmup_steps": 201},
        [("optim.warmup_steps", "training.steps", "training.tokens")],
        ["into 200 steps"],
        {"training.steps": 0},  # a seed checkpoint needs no warmup
    ),
    "rate": Case(
        {"optim.min_lr": 0.0031},
        [("optim.min_lr", "optim.lr")],
        ["min_lr 0.0031", "lr 0.003", "type optim.min_lr=0.0003"],
        {"optim.min_lr": 0.003},
    ),
    "wsd": Case(
        {"optim.schedule": "wsd"},
        [("optim.schedule", "optim.decay_fraction")],
        ["type optim.decay_fraction=0.1"],
        {"optim.schedule": "wsd", "optim.decay_fraction": 0.1},
    ),
    "warmup into decay": Case(
        {"optim.schedule": "wsd", "optim.decay_fraction": 0.9, "optim.warmup_steps": 21},
        [("optim.warmup_steps", "optim.decay_fraction", "training.steps", "training.tokens")],
        ["21 steps", "0.9 of 200 steps overlap", "type optim.decay_fraction=0.4"],
        {"optim.schedule": "wsd", "optim.decay_fraction": 0.9, "optim.warmup_steps": 20},
    ),
    "no checkpoint on a cluster": Case(
        {**SLURM, "checkpoint.interval": 201},
        [("checkpoint.interval", "training.steps", "training.tokens")],
        ["never comes within 200 steps", "type checkpoint.interval=20"],
        {**SLURM, "checkpoint.interval": 200},
    ),
    "a cluster without a size": Case(
        JOBS,
        [("cluster.kind", "cluster.nodes", "cluster.gpus_per_node")],
        ["type cluster.nodes=N"],
        SLURM,
    ),
    "no limit to processes": Case(
        {"cluster.max_processes": None},
        [WORLD, ("cluster.max_processes", "cluster.nodes")],
        ["type cluster.max_processes=8"],
        {"cluster.max_processes": 1},
    ),
    "heads of flex attention": Case(
        {"cluster.device": "cuda", "model.num_heads": 16, "model.num_kv_heads": 16},
        [("model.dim", "model.num_heads", "cluster.device")],
        ["heads of 8", "takes 16 and more", "type model.num_heads=8"],
        {"cluster.device": "cuda", "model.num_heads": 8, "model.num_kv_heads": 8},
    ),
    "too many shards": Case(
        {**TINY, "parallel.dp": 13, "training.global_batch_size": 156, "cluster.max_processes": 13},
        [("parallel.dp", "parallel.dp_replicate", "parallel.tp", "model.dim")],
        ["12 rows", "over 13 data-parallel ranks", "type parallel.dp=12"],
        {**TINY, "parallel.dp": 12, "training.global_batch_size": 156, "cluster.max_processes": 12},
    ),
    "CUDA graphs of a pipeline": Case(
        {"cluster.device": "cuda", "cluster.cuda_graphs": True, "parallel.pp": 2},
        [("cluster.cuda_graphs", "parallel.pp")],
        ["type cluster.cuda_graphs=false"],
        {"cluster.device": "cuda", "cluster.cuda_graphs": True},
    ),
    "CUDA graphs of a CPU": Case(
        {"cluster.cuda_graphs": True},
        [("cluster.cuda_graphs", "cluster.device")],
        ["need a GPU"],
        {"cluster.cuda_graphs": False},
    ),
    "float8 without a recipe": Case(
        {"precision.float8_emulate": True},
        [("precision.float8_emulate", "precision.float8_recipe")],
        ["nothing to emulate"],
        FLOAT8,
    ),
    "float8 on each rank": Case(
        {**FLOAT8, "model.ffn_dim": 400, "parallel.tp": 2},
        [("model.dim", "model.ffn_dim", "model.num_kv_heads", "parallel.tp")],
        ["tp=2 leaves {'ffn_dim': 200}"],
        {**FLOAT8, "model.ffn_dim": 416, "parallel.tp": 2},
    ),
    "float8 weight gradients": Case(
        {**HARDWARE, "training.seq_len": 129, "training.microbatch_size": 1},
        [("training.seq_len", "training.microbatch_size", "precision.float8_recipe")],
        ["129 tokens", "precision=float8_rowwise_gw_hp"],
        {
            **HARDWARE,
            "precision.float8_recipe": "rowwise_with_gw_hp",
            "training.seq_len": 129,
            "training.microbatch_size": 1,
        },
    ),
    "ranges twice": Case(
        {"tokens.ranges": [RANGE, RANGE]},
        [("tokens.ranges",)],
        ["range text is declared twice"],
        {"tokens.ranges": [RANGE, {**RANGE, "name": "more"}]},
    ),
    "specials twice": Case(
        {"tokens.special": ["<|endoftext|>", "<a>", "<a>"]},
        [("tokens.special",)],
        ["special token <a> is declared twice"],
        {"tokens.special": ["<|endoftext|>", "<a>", "<b>"]},
    ),
    "specials without ids": Case(
        {
            "tokens.ranges": [RANGE, {"name": "special", "modality": "special", "size": 1, "start": None}],
            "tokens.special": ["<|endoftext|>", "<b>"],
        },
        [("tokens.special", "tokens.ranges")],
        ["2 special tokens", "has 1"],
        {
            "tokens.ranges": [RANGE, {"name": "special", "modality": "special", "size": 2, "start": None}],
            "tokens.special": ["<|endoftext|>", "<b>"],
        },
    ),
    "a modality without a range": Case(
        {"data.sources.1.modality": "image_text"},
        [("data.sources.1.modality", "tokens.ranges")],
        ["source stdlib_docs holds image", "ranges for text", "tokens=qwen_full"],
        {
            "data.sources.1.modality": "image_text",
            "tokens.ranges": [RANGE, {"name": "image", "modality": "image", "size": 64, "start": None}],
        },
    ),
    "sources twice": Case(
        {"data.sources.1.name": "stdlib_code"},
        [("data.sources",)],
        ["source stdlib_code is named twice"],
        {"data.sources.1.name": "other"},
    ),
    "a stage without a length": Case(
        {"data.schedule": [{"name": "warm", "lr_multiplier": [1.0, 1.0], "shares": {"stdlib_code": [1.0, 1.0]}}]},
        [("data.schedule.0.steps", "data.schedule.0.tokens", "data.schedule.0.fraction")],
        ["stage warm has no length; give it one of steps: N, tokens: N and fraction: 0.5"],
        stages({"steps": 200}),
    ),
    "a stage of two lengths": Case(
        stages({"steps": 200, "fraction": 1.0}),
        [("data.schedule.0.steps", "data.schedule.0.fraction")],
        ["stage s0 has steps and fraction"],
        stages({"fraction": 1.0}),
    ),
    "stages of fixed length that are too long": Case(
        {**stages({"steps": 150}, {"tokens": 100_000}, {"fraction": 1.0}), "training.steps": 198},
        [("training.steps", "training.tokens", "data.schedule.0.steps", "data.schedule.1.tokens")],
        ["of fixed length have 199 steps, the run has 198; type training.steps=200 or more"],
        stages({"steps": 150}, {"tokens": 100_000}, {"fraction": 1.0}),
    ),
    "stages of fixed length that are too short": Case(
        stages({"steps": 150}, {"tokens": 100_000}),
        [("training.steps", "training.tokens", "data.schedule.0.steps", "data.schedule.1.tokens")],
        ["the stages have 199 steps, the run has 200; type training.steps=199, or fraction: 1.0 instead"],
        stages({"steps": 150}, {"tokens": 100_353}),
    ),
    "a fraction of nothing": Case(
        stages({"steps": 200}, {"fraction": 1.0}),
        [("training.steps", "training.tokens", "data.schedule.1.fraction")],
        ["stage s1 has 1 of the steps that stages of fixed length leave", "none of 200; type training.steps=201"],
        stages({"steps": 199}, {"fraction": 1.0}),
    ),
    "a stage of less than a step": Case(
        stages({"fraction": 0.002}, {"fraction": 0.998}),
        [("training.steps", "training.tokens", "data.schedule.0.fraction")],
        ["stage s0 has 0.002 of 200 steps, which is none; give it at least 0.005"],
        stages({"fraction": 0.005}, {"fraction": 0.995}),
    ),
    "a stage named twice": Case(
        {"data.schedule": [*stages({"steps": 50})["data.schedule"], *stages({"steps": 150})["data.schedule"]]},
        [("data.schedule",)],
        ["stage s0 is named twice"],
        stages({"steps": 50}, {"steps": 150}),
    ),
    "too many epochs in a schedule": Case(
        {**stages({"steps": 100}, {"fraction": 1.0}), "data.max_epochs": 4.0},
        [("training.steps", "training.tokens", "data.schedule", "data.max_epochs")],
        ["409,600 are needed: 4.1 epochs, at most 4", "a smaller share in data.schedule, or data.max_epochs=4.1"],
        {**stages({"steps": 100}, {"fraction": 1.0}), "data.max_epochs": 4.1},
    ),
    "too many epochs of one source": Case(
        {"data.max_epochs": 3.5, "data.sources.0.max_epochs": 3.0},
        [("training.steps", "training.tokens", "data.sources.0.weight", "data.sources.0.max_epochs")],
        ["at most 3 are allowed", "or data.sources.0.max_epochs=3.3"],
        {"data.max_epochs": 3.0, "data.sources.0.max_epochs": 3.3},
    ),
    "stages of half a run": Case(
        {"data.schedule": [{**STAGE, "fraction": 0.5, "shares": {"stdlib_code": [1.0, 1.0]}}]},
        [("data.schedule.0.fraction",)],
        ["fill 0.5 of the run"],
        {"data.schedule": [{**STAGE, "shares": {"stdlib_code": [1.0, 1.0]}}]},
    ),
    "too many epochs": Case(
        {"data.max_epochs": 3.0},
        [("training.steps", "training.tokens", "data.sources.0.weight", "data.max_epochs")],
        [
            "holds 100,000 tokens, 327,680 are needed: 3.3 epochs, at most 3",
            "training.steps=183",
            "data.max_epochs=3.3",
        ],
        {"data.max_epochs": 3.3},
    ),
    "too many epochs of a token budget": Case(
        {**BOTH, "data.max_epochs": 3.0},
        [("training.steps", "training.tokens", "data.sources.0.weight", "data.max_epochs")],
        ["training.tokens=374784"],
        {**BOTH, "training.tokens": 374_784, "data.max_epochs": 3.0},
    ),
    "no document held out": Case(
        {"data.sources.0.dataset": "all-train"},
        [("data.sources", "training.validation_interval")],
        ["the held-out split of source stdlib_code has no document", "type training.validation_interval=null"],
        {"data.sources.0.dataset": "all-train", "training.validation_interval": None},
    ),
    "no document to train on": Case(
        {"data.sources.0.dataset": "all-heldout"},
        [("data.sources",)],
        ["the train split of source stdlib_code has no document", "leave the source out"],
        {"data.sources.0.dataset": "all-heldout", "training.steps": 0, "checkpoint.init_from": "/seed"},
    ),
    "a unit that no sequence holds": Case(
        {"data.sources.0.dataset": "images", "data.sources.1.dataset": "audio", "training.seq_len": 128},
        [("training.seq_len",)] * 2,
        ["source stdlib_docs has a unit of 130 ids", "a sequence has 128", "type training.seq_len=258 or more"],
        {"data.sources.0.dataset": "images", "data.sources.1.dataset": "audio", "training.seq_len": 258},
    ),
    "a name that is too long": Case(
        {"checkpoint.init_from": f"/a/{'ü' * 128}"},
        [("checkpoint.init_from",)],
        ["a name of 256 bytes", "no folder takes more than 255"],
        {"checkpoint.init_from": f"/a/{'ü' * 127}"},
    ),
    "a path that is too long": Case(
        {"checkpoint.extend_from": "/a" * 2048},
        [("checkpoint.extend_from",)],
        ["a path of 4096 bytes"],
        {"checkpoint.extend_from": "/a" * 2047},
    ),
    "weights and a state": Case(
        {"checkpoint.init_from": "/a", "checkpoint.extend_from": "/b"},
        [("checkpoint.init_from", "checkpoint.extend_from")],
        ["type checkpoint.init_from=null"],
        {"checkpoint.extend_from": "/b"},
    ),
    "cosine": Case(
        {"optim.decay_fraction": 0.1},
        [("optim.schedule", "optim.decay_fraction")],
        ["type optim.decay_fraction=null"],
        {"optim.decay_fraction": None},
    ),
    "head size": Case(
        {"model.num_heads": 6, "model.num_kv_heads": 6},
        [("model.dim", "model.num_heads")],
        ["dim 128", "6 heads", "legal: [1, 2, 4, 8, 16, 32, 64]"],
        {"model.num_heads": 8, "model.num_kv_heads": 8},
    ),
    "kv heads": Case(
        {"model.num_kv_heads": 3},
        [("model.num_heads", "model.num_kv_heads")],
        ["4 heads", "3 kv heads", "legal: [1, 2, 4]"],
        {"model.num_kv_heads": 2},
    ),
    "tp of heads": Case(
        {"parallel.tp": 8},
        [("model.num_heads", "parallel.tp"), ("model.num_kv_heads", "parallel.tp")],
        ["model.num_heads is 4", "tp=8", "legal tp: [1, 2, 4]"],
        {"parallel.tp": 4},
    ),
    "tp of kv heads": Case(
        {"model.num_kv_heads": 2, "parallel.tp": 4},
        [("model.num_kv_heads", "parallel.tp")],
        ["model.num_kv_heads is 2", "legal tp: [1, 2]"],
        {"model.num_kv_heads": 2, "parallel.tp": 2},
    ),
    "tp of ffn": Case(
        {"model.ffn_dim": 386, "parallel.tp": 4},
        [("model.ffn_dim", "parallel.tp")],
        ["model.ffn_dim is 386", "legal tp: [1, 2]"],
        {"model.ffn_dim": 388, "parallel.tp": 4},
    ),
    "tp of the vocabulary": Case(
        {"tokens.ranges.0.size": 2049, "tokens.pad_multiple": 1, "parallel.tp": 2},
        [("tokens.pad_multiple", "parallel.tp")],
        ["the padded vocabulary is 2049", "legal tp: [1, 3]"],
        {"tokens.ranges.0.size": 2049, "tokens.pad_multiple": 2, "parallel.tp": 2},
    ),
    "sequence parallel": Case(
        {"training.seq_len": 126, "parallel.tp": 4, "parallel.sequence_parallel": True},
        [("training.seq_len", "parallel.tp", "parallel.sequence_parallel")],
        ["seq_len 126", "legal tp: [1, 2, 3, 6, 7, 9, 14, 18, 21, 42, 63]"],
        {"training.seq_len": 126, "parallel.tp": 4, "parallel.sequence_parallel": False},
    ),
    "replicas": Case(
        {"parallel.dp": 4, "parallel.dp_replicate": 3},
        [("parallel.dp_replicate", "parallel.dp")],
        ["3 replicas", "dp=4", "legal: [1, 2, 4]"],
        {"parallel.dp": 4, "parallel.dp_replicate": 4},
    ),
    "microbatch": Case(
        {"training.microbatch_size": 3},
        [("training.global_batch_size", "training.microbatch_size", "parallel.dp")],
        ["16 sequences", "microbatch 3", "legal microbatch sizes: [1, 2, 4, 8, 16]"],
        {"training.microbatch_size": 4},
    ),
    "dp of the batch": Case(
        {"parallel.dp": 3},
        [("training.global_batch_size", "training.microbatch_size", "parallel.dp")],
        ["dp 3", "legal dp: [1, 2, 4, 8, 16]"],
        {"parallel.dp": 4},
    ),
    "stages": Case(
        {"model.num_layers": 1, "parallel.pp": 4},
        [("model.num_layers", "parallel.pp", "parallel.schedule")],
        ["1 layers", "4 pipeline stages", "at least 2", "legal pp: [1, 2, 3]"],
        {"model.num_layers": 2, "parallel.pp": 4},
    ),
    "interleaved stages": Case(
        {"model.num_layers": 1, "parallel.pp": 2, "parallel.schedule": "Interleaved1F1B"},
        [("model.num_layers", "parallel.pp", "parallel.schedule")],
        ["4 pipeline stages", "at least 2", "legal pp: [1]"],
        {"model.num_layers": 2, "parallel.pp": 2, "parallel.schedule": "Interleaved1F1B"},
    ),
    "tied embeddings": Case(
        {"model.tie_embeddings": True, "parallel.pp": 2},
        [("model.tie_embeddings", "parallel.pp")],
        ["type model.tie_embeddings=false"],
        {"model.tie_embeddings": True},
    ),
    "microbatches of the pipeline": Case(
        {"training.microbatch_size": 16, "parallel.pp": 2},
        [MICROBATCHES],
        ["at least 2 microbatches", "there are 1", "training.microbatch_size"],
        {"training.microbatch_size": 8, "parallel.pp": 2},
    ),
    "float8 on CPU": Case(
        {**FLOAT8, "precision.float8_emulate": False},
        [("precision.float8_recipe", "precision.float8_emulate", "cluster.device")],
        ["type precision=float8_emulated"],
        FLOAT8,
    ),
    "emulated float8 compiled": Case(
        {**FLOAT8, "cluster.compile": True},
        [("precision.float8_emulate", "cluster.compile")],
        ["type cluster.compile=false"],
        {"cluster.compile": True},
    ),
    "float8 of odd sizes": Case(
        {**FLOAT8, "model.dim": 120, "model.ffn_dim": 392},
        [("model.dim", "model.ffn_dim")],
        ["multiples of 16", "'dim': 120", "'ffn_dim': 392", "precision=bf16"],
        {**FLOAT8, "model.dim": 112, "model.ffn_dim": 400},
    ),
    "keep one": Case(
        {"checkpoint.keep_latest": 1}, [("checkpoint.keep_latest",)], ["0 keeps all"], {"checkpoint.keep_latest": 2}
    ),
    "seed checkpoint without checkpoints": Case(
        {"training.steps": 0, "checkpoint.enabled": False},
        [("training.steps", "checkpoint.enabled")],
        ["type checkpoint=default"],
        {"training.steps": 0},
    ),
    "no steps from a state": Case(
        {"training.steps": 0, "checkpoint.extend_from": "/seed"},
        [("training.steps", "checkpoint.extend_from")],
        ["type training.steps=N", "type checkpoint.init_from=/seed checkpoint.extend_from=null"],
        {"training.steps": 0, "checkpoint.init_from": "/seed"},
    ),
    "an evaluation without a checkpointer": Case(
        {"training.steps": 0, "checkpoint.init_from": "/seed", "checkpoint.enabled": False},
        [("checkpoint.init_from", "checkpoint.enabled"), ("training.steps", "checkpoint.enabled")],
        ["weights are loaded by the checkpointer", "type checkpoint=default"],
        {"training.steps": 0, "checkpoint.init_from": "/seed"},
    ),
    "an evaluation of nothing held out": Case(
        {
            "data.sources.0.dataset": "all-train",
            "training.steps": 0,
            "training.validation_interval": None,
            "checkpoint.init_from": "/seed",
        },
        [("data.sources", "training.steps")],
        ["the held-out split of source stdlib_code has no document", "leave the source out"],
        {"training.steps": 0, "training.validation_interval": None, "checkpoint.init_from": "/seed"},
    ),
    "nothing that is awaited": Case(
        {"checkpoint.awaits": True},
        [("checkpoint.awaits",)],
        ["type checkpoint.extend_from=OUTPUTS/NAME/RUN_ID/checkpoints/step-NNNNNNNN", "or checkpoint.awaits=false"],
        {"checkpoint.awaits": True, "checkpoint.extend_from": STEP},
    ),
    "a seed that is awaited of no run": Case(
        {"checkpoint.awaits": True, "checkpoint.init_from": "/seeds/step-00000000"},
        [("checkpoint.awaits", "checkpoint.init_from")],
        ["/seeds/step-00000000 is no checkpoint that a run will save", "type checkpoint.init_from=OUTPUTS/NAME"],
        {"checkpoint.awaits": True, "checkpoint.init_from": STEP},
    ),
    "awaiting a step by another name": Case(
        {"checkpoint.awaits": True, "checkpoint.extend_from": STEP.replace("step-", "step-0")},
        [("checkpoint.awaits", "checkpoint.extend_from")],
        ["or checkpoint.awaits=false for one that is there"],
        {"checkpoint.extend_from": STEP.replace("step-", "step-0")},
    ),
    "odd heads": Case({"model.dim": 36}, [("model.dim", "model.num_heads")], ["heads of 9", "even"], {"model.dim": 40}),
    "rounds of interleaved": Case(
        {
            "parallel.schedule": "Interleaved1F1B",
            "parallel.pp": 2,
            "model.num_layers": 6,
            "training.global_batch_size": 15,
            "training.microbatch_size": 3,
        },
        [MICROBATCHES],
        ["equal rounds of at least 2, 5 can't", "parallel.schedule=1F1B"],
        {"parallel.schedule": "Interleaved1F1B", "parallel.pp": 2, "model.num_layers": 6},
    ),
    "pinned memory": Case(
        {"checkpoint.async_mode": "async_with_pinned_mem"},
        [("checkpoint.async_mode", "cluster.device")],
        ["type checkpoint.async_mode=async"],
        {"checkpoint.async_mode": "async"},
    ),
    "weights without a checkpointer": Case(
        {"checkpoint.init_from": "/run", "checkpoint.enabled": False},
        [("checkpoint.init_from", "checkpoint.enabled")],
        ["type checkpoint=default"],
        {"checkpoint.enabled": False},
    ),
    "unknown source": Case(
        stage(stdlib_code=[0.5, 0.5], nothing=[0.5, 0.5]),
        [("data.schedule.0.shares",)],
        ["stage warm", "['nothing']", "legal: ['stdlib_code', 'stdlib_docs']"],
        stage(stdlib_code=[0.5, 0.5], stdlib_docs=[0.5, 0.5]),
    ),
    "shares": Case(
        stage(stdlib_code=[0.5, 0.5], stdlib_docs=[0.5, 0.4]),
        [("data.schedule.0.shares",)],
        ["stage warm at its end", "0.9, not 1"],
        stage(stdlib_code=[0.3, 1.0], stdlib_docs=[0.7, 0.0]),
    ),
    "relative data": Case(
        {"paths.data": "data"}, [("paths.data",)], ["type paths.data=/", "/data"], {"paths.data": "/data"}
    ),
    "relative outputs": Case(
        {"paths.outputs": "~/outputs"},
        [("paths.outputs",)],
        ["type paths.outputs=/", "/outputs"],
        {"paths.outputs": "/outputs"},
    ),
    "relative weights": Case(
        {"checkpoint.init_from": "run"},
        [("checkpoint.init_from",)],
        ["type checkpoint.init_from=/"],
        {"checkpoint.init_from": "/run"},
    ),
    "too many processes": Case(
        {"parallel.dp": 9, "training.global_batch_size": 18},
        [WORLD],
        ["exactly 9 GPUs", "cluster=local has at most 8 processes", "parallel.dp=auto", "no known cluster fits"],
        {"parallel.dp": 8},
    ),
    "not the whole cluster": Case(
        {**GPUS_64, "parallel.dp": 8},
        [("parallel.dp", "parallel.tp", "parallel.pp", "cluster.nodes", "cluster.gpus_per_node")],
        ["exactly 8 GPUs", "has 64 GPUs, 8 a node", "clusters that fit: local (8), slurm_dev (8); type cluster=NAME"],
        {**GPUS_64, "parallel.dp": 64, "training.global_batch_size": 64},
    ),
    "tp across nodes": Case(
        {**GPUS_64, "cluster.nodes": 4, "cluster.gpus_per_node": 2, "parallel.tp": 4, "parallel.dp": "auto"},
        [("parallel.tp", "cluster.gpus_per_node")],
        ["tp=4 does not divide the 2 GPUs of a node", "legal tp: [1, 2]", "slurm_dev (8)"],
        {**GPUS_64, "cluster.nodes": 4, "cluster.gpus_per_node": 4, "parallel.tp": 4, "parallel.dp": "auto"},
    ),
}


# Text alone, from two sources: the cases are about what they change.
SOURCES = [
    {"name": "stdlib_code", "dataset": "demo-v2", "modality": "text", "weight": 0.8},
    {"name": "stdlib_docs", "dataset": "demo-v2", "modality": "text", "weight": 0.2},
]
TEXT_ONLY = {
    "tokens.ranges": [{**RANGE, "size": 2048}],
    "tokens.special": ["<|endoftext|>"],
    "data.sources": SOURCES,
}


@pytest.fixture
def default_config(default_config, change):
    return change(default_config, TEXT_ONLY)


@pytest.fixture(scope="module")
def facts():
    """The shipped clusters, a demo dataset of 100,000 tokens a source, and datasets that lack something."""
    tokens = {("demo-v2", source): TokenCount(100_000, 5_000) for source in ("stdlib_code", "stdlib_docs")}
    tokens |= {
        ("all-train", "stdlib_code"): TokenCount(100_000, 0),
        ("all-heldout", "stdlib_code"): TokenCount(0, 5_000),
        ("images", "stdlib_code"): TokenCount(100_000, 5_000, largest_unit=258),
        ("audio", "stdlib_docs"): TokenCount(100_000, 5_000, largest_unit=130),
    }
    return Facts(known_clusters(), tokens)


def refused(config, facts):
    """The problems that stop a run."""
    return [problem for problem in check(config, facts) if not problem.is_note]


def test_the_default_config_has_no_problem(default_config, facts):
    assert check(default_config, facts) == []


@pytest.mark.parametrize("name", CASES)
def test_a_rule_alone(default_config, change, facts, name):
    case = CASES[name]
    problems = refused(change(default_config, case.wrong), facts)
    assert [problem.keys for problem in problems] == case.problems
    text = "\n".join(str(problem) for problem in problems)
    assert [fragment for fragment in case.texts if fragment not in text] == [], text
    assert refused(change(default_config, case.right), facts) == []


def test_every_rule_has_a_case(default_config, change, facts):
    silent = {rule.__name__ for rule in RULES if rule not in SLURM_RULES}  # those are in test_slurm_rules.py
    for case in CASES.values():
        silent -= {problem.rule for problem in refused(change(default_config, case.wrong), facts)}
    assert silent == set()


NOTES: dict[str, tuple[dict[str, Any], str]] = {
    "checkpoint interval": ({"checkpoint.interval": 201}, "intervals"),
    "validation interval": ({"training.validation_interval": 201}, "intervals"),
    "log interval": ({"track.log_interval": 201}, "intervals"),
    "no checkpoints": ({**SLURM, "checkpoint.enabled": False}, "intervals"),
    "a stage without a layer": ({"model.num_layers": 2, "parallel.pp": 4}, "stages"),
    "GPipe idles": (
        {"parallel.schedule": "GPipe", "training.microbatch_size": 16, "parallel.pp": 2},
        "microbatches",
    ),
    "float8 in eager mode": ({**HARDWARE, "cluster.compile": False}, "float8"),
    "a source that no stage reads": (stages({"fraction": 1.0}), "shares"),
}


@pytest.mark.parametrize("name", NOTES)
def test_what_is_only_noted(default_config, change, facts, name):
    leaves, rule = NOTES[name]
    problems = check(change(default_config, leaves), facts)
    assert [(problem.rule, problem.is_note) for problem in problems] == [(rule, True)]


def test_rules_about_tokens_keep_silent_where_the_data_is_not_at_hand(default_config, change):
    config = change(default_config, {"data.max_epochs": 0.001, "training.seq_len": 8192})
    assert {"token_budget", "validation"}.isdisjoint(problem.rule for problem in check(config, Facts()))


def test_what_another_cluster_cures_is_marked(default_config, change, facts):
    cured = {"too many processes", "not the whole cluster", "tp across nodes", "float8 on CPU", "pinned memory"}
    for name, case in CASES.items():
        marks = {problem.placement for problem in refused(change(default_config, case.wrong), facts)}
        assert (True in marks) == (name in {*cured, "no limit to processes"}), name


def test_all_problems_come_at_once_in_a_fixed_order(default_config, change, facts):
    names = ["too many processes", "warmup", "rate", "keep one", "relative data"]
    leaves: dict[str, Any] = {"training.global_batch_size": 19, "parallel.dp_replicate": 2}
    for name in names:
        leaves = CASES[name].wrong | leaves
    keys = [problem.keys for problem in refused(change(default_config, leaves), facts)]
    assert keys == [
        WORLD,
        ("optim.warmup_steps", "training.steps", "training.tokens"),
        ("optim.min_lr", "optim.lr"),
        ("parallel.dp_replicate", "parallel.dp"),
        ("training.global_batch_size", "training.microbatch_size", "parallel.dp"),
        ("checkpoint.keep_latest",),
        ("paths.data",),
    ]


def test_a_message_names_its_keys(default_config, change, facts):
    (problem,) = check(change(default_config, {"checkpoint.keep_latest": 1}), facts)
    assert re.match(r"checkpoint\.keep_latest: 1 is not legal; ", str(problem))


def test_divisors_stop_at_the_limit():
    assert divisors(12) == [1, 2, 3, 4, 6, 12]
    assert divisors(128) == [1, 2, 4, 8, 16, 32, 64]
