"""Every rule: a config that breaks it and no other, and one just inside."""

import re
from typing import Any, NamedTuple

import pytest

from mmhydra.compose import known_clusters
from mmhydra.config.rules import RULES, check, divisors


class Case(NamedTuple):
    """`wrong` and `right` are changes of the default config; `problems` the keys of each problem in order."""

    wrong: dict[str, Any]
    problems: list[tuple[str, ...]]
    texts: list[str]
    right: dict[str, Any]


FLOAT8 = {"precision.float8_recipe": "rowwise", "precision.param_dtype": "bfloat16", "precision.float8_emulate": True}
BOTH = {"training.steps": None, "training.tokens": 409_600}
STAGE = {"name": "warm", "fraction": 1.0, "lr_multiplier": [1.0, 1.0]}
GPUS_64 = {"cluster.nodes": 8, "cluster.gpus_per_node": 8, "cluster.max_processes": None}


def stage(**shares: list[float]) -> dict[str, Any]:
    return {"data.schedule": [{**STAGE, "shares": shares}]}


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
        [("optim.warmup_steps", "training.steps")],
        ["201 steps", "200 steps", "type optim.warmup_steps=4"],
        {"optim.warmup_steps": 200},
    ),
    "warmup of a token budget": Case(
        {**BOTH, "training.tokens": 409_600, "optim.warmup_steps": 201},
        [("optim.warmup_steps", "training.steps")],
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
        [("training.seq_len", "parallel.tp")],
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
        {"model.num_layers": 5, "parallel.pp": 4},
        [("model.num_layers", "parallel.pp")],
        ["5 layers", "4 pipeline stages", "at least 6"],
        {"model.num_layers": 6, "parallel.pp": 4},
    ),
    "interleaved stages": Case(
        {"model.num_layers": 5, "parallel.pp": 2, "parallel.schedule": "Interleaved1F1B"},
        [("model.num_layers", "parallel.pp")],
        ["4 pipeline stages", "at least 6"],
        {"model.num_layers": 6, "parallel.pp": 2, "parallel.schedule": "Interleaved1F1B"},
    ),
    "tied embeddings": Case(
        {"model.tie_embeddings": True, "parallel.pp": 2},
        [("model.tie_embeddings", "parallel.pp")],
        ["type model.tie_embeddings=false"],
        {"model.tie_embeddings": True},
    ),
    "microbatches of the pipeline": Case(
        {"training.microbatch_size": 16, "parallel.pp": 2},
        [("parallel.schedule", "training.microbatch_size", "parallel.pp")],
        ["at least 2 microbatches", "there are 1", "training.microbatch_size"],
        {"training.microbatch_size": 8, "parallel.pp": 2},
    ),
    "float8 on CPU": Case(
        {**FLOAT8, "precision.float8_emulate": False},
        [("precision.float8_emulate", "cluster.device")],
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
    "seed checkpoint from weights": Case(
        {"training.steps": 0, "checkpoint.init_from": "/seed"},
        [("training.steps", "checkpoint.init_from")],
        ["checkpoint.init_from=null"],
        {"checkpoint.init_from": "/seed"},
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
        [("parallel.schedule", "training.microbatch_size", "parallel.pp")],
        ["rounds of 2", "parallel.schedule=1F1B"],
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
        [("data.schedule",)],
        ["stage warm", "['nothing']", "legal: ['stdlib_code', 'stdlib_docs']"],
        stage(stdlib_code=[0.5, 0.5], stdlib_docs=[0.5, 0.5]),
    ),
    "shares": Case(
        stage(stdlib_code=[0.5, 0.5], stdlib_docs=[0.5, 0.4]),
        [("data.schedule",)],
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
        [("parallel", "cluster")],
        ["exactly 9 GPUs", "cluster=local has at most 8 processes", "parallel.dp=auto", "no known cluster fits"],
        {"parallel.dp": 8},
    ),
    "not the whole cluster": Case(
        {**GPUS_64, "parallel.dp": 8},
        [("parallel", "cluster")],
        ["exactly 8 GPUs", "has 64 GPUs, 8 a node", "clusters that fit: local (8), slurm_dev (8); type cluster=NAME"],
        {**GPUS_64, "parallel.dp": 64, "training.global_batch_size": 64},
    ),
    "tp across nodes": Case(
        {**GPUS_64, "cluster.nodes": 4, "cluster.gpus_per_node": 2, "parallel.tp": 4, "parallel.dp": "auto"},
        [("parallel", "cluster")],
        ["a multiple of 4 GPUs", "8 GPUs, 2 a node", "slurm_dev (8)"],
        {**GPUS_64, "cluster.nodes": 4, "cluster.gpus_per_node": 4, "parallel.tp": 4, "parallel.dp": "auto"},
    ),
}


@pytest.fixture(scope="module")
def clusters():
    return known_clusters()


def test_the_default_config_has_no_problem(default_config, clusters):
    assert check(default_config, clusters) == []


@pytest.mark.parametrize("name", CASES)
def test_a_rule_alone(default_config, change, clusters, name):
    case = CASES[name]
    problems = check(change(default_config, case.wrong), clusters)
    assert [problem.keys for problem in problems] == case.problems
    text = "\n".join(str(problem) for problem in problems)
    assert [fragment for fragment in case.texts if fragment not in text] == [], text
    assert check(change(default_config, case.right), clusters) == []


def test_every_rule_has_a_case(default_config, change):
    silent = {rule.__name__ for rule in RULES}
    for case in CASES.values():
        config = change(default_config, case.wrong)
        silent -= {rule.__name__ for rule in RULES if any(rule(config))}
    assert silent == set()


def test_what_another_cluster_cures_is_marked(default_config, change, clusters):
    cured = {"too many processes", "not the whole cluster", "tp across nodes", "float8 on CPU", "pinned memory"}
    for name, case in CASES.items():
        marks = [problem.placement for problem in check(change(default_config, case.wrong), clusters)]
        assert marks == [name in cured] * len(marks), name


def test_all_problems_come_at_once_in_a_fixed_order(default_config, change, clusters):
    names = ["too many processes", "warmup", "rate", "keep one", "relative data"]
    leaves: dict[str, Any] = {"training.global_batch_size": 19, "parallel.dp_replicate": 2}
    for name in names:
        leaves = CASES[name].wrong | leaves
    keys = [problem.keys for problem in check(change(default_config, leaves), clusters)]
    assert keys == [
        ("parallel", "cluster"),
        ("optim.warmup_steps", "training.steps"),
        ("optim.min_lr", "optim.lr"),
        ("parallel.dp_replicate", "parallel.dp"),
        ("training.global_batch_size", "training.microbatch_size", "parallel.dp"),
        ("checkpoint.keep_latest",),
        ("paths.data",),
    ]


def test_a_message_names_its_keys(default_config, change, clusters):
    (problem,) = check(change(default_config, {"checkpoint.keep_latest": 1}), clusters)
    assert re.match(r"checkpoint\.keep_latest: 1 is not legal; ", str(problem))


def test_divisors_stop_at_the_limit():
    assert divisors(12) == [1, 2, 3, 4, 6, 12]
    assert divisors(128) == [1, 2, 4, 8, 16, 32, 64]
