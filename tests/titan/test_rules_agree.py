"""The rules against torchtitan itself: what they let through it takes, and what they refuse it refuses or they say why.

`right` is just inside a rule and `wrong` just outside. Where torchtitan takes `wrong` all the same, `stricter` says why
the rule stands. A test that fails here after an upgrade names the rule to think about.
"""

import os
import random
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pytest
from fake_world import Cell, linear_verdicts, verdicts
from random_config import PRECISIONS, random_leaves

from mmhydra.config.facts import Facts
from mmhydra.config.rules import check
from mmhydra.config.schema import RunConfig
from mmhydra.testing import assert_legal

Change = Callable[[RunConfig, Mapping[str, Any]], RunConfig]

_FUZZ_CONFIGS = int(os.environ.get("MMHYDRA_FUZZ", "10"))

# Seconds, not minutes, for a few hundred trainers.
SMALL = {
    "cluster.max_processes": 1 << 20,
    "model.dim": 32,
    "model.num_heads": 4,
    "model.num_kv_heads": 4,
    "model.num_layers": 2,
    "model.ffn_dim": 64,
    "tokens.ranges.0.size": 64,
    "training.seq_len": 16,
    "training.global_batch_size": 8,
    "training.microbatch_size": 2,
    "training.validation_interval": 1,
}
FLOAT8 = {f"precision.{key}": value for key, value in PRECISIONS["float8_emulated"].items()}
PIPELINE = {"parallel.pp": 2, "parallel.sequence_parallel": False}
DEEP = {"parallel.pp": 4, "model.num_layers": 6, "training.microbatch_size": 1}
INTERLEAVED = {"parallel.schedule": "Interleaved1F1B", "model.num_layers": 14}


class Boundary(NamedTuple):
    """Changes of SMALL on both sides of a rule. `stricter`: why we refuse what torchtitan takes."""

    both: dict[str, Any]
    right: dict[str, Any]
    wrong: dict[str, Any]
    stricter: str = ""
    exact: bool = False  # with the cluster as it is, for rules about the device


BOUNDARIES = {
    "heads over tp": Boundary(
        {"parallel.tp": 3, "model.dim": 96, "model.ffn_dim": 96, "tokens.pad_multiple": 3, "training.seq_len": 15},
        {"model.num_heads": 6, "model.num_kv_heads": 6},
        {"model.num_heads": 4, "model.num_kv_heads": 4},
    ),
    "kv heads over tp": Boundary({"parallel.tp": 2}, {"model.num_kv_heads": 2}, {"model.num_kv_heads": 1}),
    "ffn over tp": Boundary(
        {"parallel.tp": 2},
        {"model.ffn_dim": 62},
        {"model.ffn_dim": 63},
        "FSDP pads the last rank's shard, and what it pads with takes part (see the vocabulary's refusal)",
    ),
    "vocabulary over tp": Boundary(
        {"parallel.tp": 2, "tokens.pad_multiple": 1},
        {"tokens.ranges.0.size": 62},
        {"tokens.ranges.0.size": 63},
    ),
    "sequence over tp": Boundary(
        {"parallel.tp": 2, "parallel.sequence_parallel": True}, {"training.seq_len": 14}, {"training.seq_len": 15}
    ),
    "sequence over tp, no sequence parallelism": Boundary(
        {"parallel.tp": 2, "training.seq_len": 15},
        {"parallel.sequence_parallel": False},
        {"parallel.sequence_parallel": True},
    ),
    "even heads": Boundary({}, {"model.dim": 40}, {"model.dim": 36}),
    "dim over heads": Boundary(
        {},
        {"model.dim": 40},
        {"model.dim": 42},
        "torchtitan rounds the size of a head down; the heads then are narrower than the printed dim",
    ),
    "heads over kv heads": Boundary({}, {"model.num_kv_heads": 2}, {"model.num_kv_heads": 3}),
    "replicas": Boundary(
        {"parallel.dp_replicate": 2, "training.global_batch_size": 12},
        {"parallel.dp": 2},
        {"parallel.dp": 3},
    ),
    "batch": Boundary(
        {"parallel.dp": 2},
        {"training.global_batch_size": 12},
        {"training.global_batch_size": 14},
    ),
    "batch over dp": Boundary(
        {"training.microbatch_size": 1, "training.global_batch_size": 9}, {"parallel.dp": 3}, {"parallel.dp": 2}
    ),
    "batch of a pipeline": Boundary(
        {**PIPELINE, "parallel.dp": 2},
        {"training.global_batch_size": 12},
        {"training.global_batch_size": 14},
    ),
    "tied embeddings": Boundary(PIPELINE, {"model.tie_embeddings": False}, {"model.tie_embeddings": True}),
    "tied embeddings, one stage": Boundary(
        {"model.tie_embeddings": True}, {"parallel.pp": 1}, {"parallel.pp": 2, "model.num_layers": 4}
    ),
    # Embedding and head count as a layer each, so that a stage may hold no layer.
    "layers": Boundary(DEEP, {"model.num_layers": 2}, {"model.num_layers": 1}),
    "layers, interleaved": Boundary(
        {**PIPELINE, "parallel.schedule": "Interleaved1F1B"}, {"model.num_layers": 2}, {"model.num_layers": 1}
    ),
    "1F1B": Boundary(DEEP, {"training.global_batch_size": 4}, {"training.global_batch_size": 3}),
    "GPipe, fewer than stages": Boundary(
        {**DEEP, "training.global_batch_size": 3}, {"parallel.schedule": "GPipe"}, {"parallel.schedule": "1F1B"}
    ),
    "Interleaved1F1B, fewer than stages": Boundary(
        {**DEEP, "model.num_layers": 14, "training.global_batch_size": 3},
        {"parallel.schedule": "Interleaved1F1B"},
        {"parallel.schedule": "1F1B"},
    ),
    "rows of q, k and v": Boundary(
        {
            "model.dim": 4,
            "model.num_heads": 2,
            "model.num_kv_heads": 2,
            "training.global_batch_size": 156,
            "training.microbatch_size": 1,
        },
        {"parallel.dp": 12},
        {"parallel.dp": 13},
    ),
    "Interleaved1F1B, no whole rounds": Boundary(
        {**DEEP, **INTERLEAVED}, {"training.global_batch_size": 6}, {"training.global_batch_size": 9}
    ),
    "CUDA graphs of a pipeline": Boundary(
        PIPELINE, {"cluster.cuda_graphs": False}, {"cluster.cuda_graphs": True}, exact=True
    ),
    "float8 sizes, dim": Boundary(
        FLOAT8,
        {"model.dim": 48},
        {"model.dim": 40},
        "torchtitan leaves such layers in bf16 without a word",
    ),
    "float8 sizes, ffn": Boundary(
        FLOAT8,
        {"model.ffn_dim": 48},
        {"model.ffn_dim": 40},
        "torchtitan leaves such layers in bf16 without a word",
    ),
    "float8 emulated and compiled": Boundary(FLOAT8, {"cluster.compile": False}, {"cluster.compile": True}, exact=True),
    "float8 without hardware": Boundary(
        FLOAT8, {"precision.float8_emulate": True}, {"precision.float8_emulate": False}, exact=True
    ),
    "warmup": Boundary(
        {"training.steps": 10},
        {"optim.warmup_steps": 10},
        {"optim.warmup_steps": 11},
        "torchtitan shortens the warmup with a line in the log",
    ),
    "rate": Boundary(
        {"optim.lr": 1e-3},
        {"optim.min_lr": 1e-3},
        {"optim.min_lr": 2e-3},
        "a rate that grows in its decay",
    ),
    "wsd": Boundary(
        {"optim.schedule": "wsd"},
        {"optim.decay_fraction": 0.1},
        {"optim.decay_fraction": None},
        "torchtitan decays from the end of the warmup: no stable part",
    ),
}


def refused(config: RunConfig) -> list[str]:
    """What the rules say. The one place that calls them."""
    return [str(problem) for problem in check(config, Facts()) if not problem.is_note]


class Sides(NamedTuple):
    """Both configs of a boundary and what torchtitan says to them."""

    right: RunConfig
    wrong: RunConfig
    to_right: str | None
    to_wrong: str | None


@pytest.fixture(scope="module")
def sides(default_config: RunConfig, change: Change) -> dict[str, Sides]:
    """All boundaries, asked in one process."""
    pairs = {
        name: [change(default_config, {**SMALL, **case.both, **side}) for side in (case.right, case.wrong)]
        for name, case in BOUNDARIES.items()
    }
    cells = [
        # One rank of `right` shows enough: the sample below tries all three.
        Cell(config, ranks, BOUNDARIES[name].exact)
        for name, pair in pairs.items()
        for config, ranks in zip(pair, [(pair[0].world_size - 1,), ()], strict=True)
    ]
    answers = iter(verdicts(cells))
    return {name: Sides(*pair, next(answers), next(answers)) for name, pair in pairs.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", BOUNDARIES)
def test_rule_agrees_with_torchtitan(name: str, sides: dict[str, Sides]) -> None:
    case = sides[name]
    assert refused(case.right) == []
    assert case.to_right is None
    assert refused(case.wrong)
    if BOUNDARIES[name].stricter:
        assert case.to_wrong is None, "torchtitan refuses it too by now: drop `stricter`"
    else:
        assert case.to_wrong is not None, "torchtitan takes it by now: drop the rule, or say why it is stricter"


@pytest.mark.slow
def test_torchtitan_takes_what_the_rules_let_through(default_config: RunConfig, change: Change) -> None:
    rng = random.Random(0)
    legal: list[dict[str, Any]] = []
    while len(legal) < _FUZZ_CONFIGS:
        leaves = random_leaves(rng)
        if not refused(change(default_config, leaves)):
            legal.append(leaves)
    answers = verdicts(Cell(change(default_config, leaves)) for leaves in legal)
    laxer = [f"{answer}\n{leaves}" for leaves, answer in zip(legal, answers, strict=True) if answer is not None]
    assert not laxer, "\n\n".join(laxer)


@pytest.mark.slow
def test_torchtitan_takes_the_mission() -> None:
    """10B at TP 4 x PP 8 x DP 8: the first rank and the last, which hold the embedding and the head."""
    config = assert_legal("model=10b", "parallel=tp4pp8", "data=mix_v0.2", "cluster=h100_256")
    assert verdicts([Cell(config, (0, config.world_size - 1))]) == [None]


Linear = tuple[int, int, int, str]

# What float8 kernels take of one linear layer on one rank: (tokens, in, out). They refuse where a part of why is given.
LINEARS = {
    (32, 48, 64, "rowwise"): "",
    (32, 24, 64, "rowwise"): "size(1)",
    (32, 48, 24, "rowwise"): "mat2",
    (24, 48, 64, "rowwise"): "size(1)",  # tokens are the inner size of the weight's gradient
    (24, 48, 64, "rowwise_with_gw_hp"): "",
    (24, 24, 64, "rowwise_with_gw_hp"): "size(1)",
}

# Configs with a layer that the kernels refuse (or that torchtitan leaves in bf16 without a word, where it is the whole
# layer's size that is no multiple of 16), each beside one without.
GPU = {"cluster.device": "cuda", "precision.param_dtype": "bfloat16", "precision.float8_recipe": "rowwise"}
TWO_HEADS = {"model.num_heads": 2, "model.num_kv_heads": 2}
LOCAL_SIZES = {
    "dim": ({**TWO_HEADS, "parallel.tp": 2}, {"model.dim": 64}, {"model.dim": 80}),
    "ffn": ({**TWO_HEADS, "parallel.tp": 2}, {"model.ffn_dim": 64}, {"model.ffn_dim": 48}),
    "fused qkv": ({"model.dim": 80}, {"model.num_kv_heads": 2}, {"model.num_kv_heads": 1}),
    "tokens": ({**TWO_HEADS, "training.microbatch_size": 1}, {"training.seq_len": 16}, {"training.seq_len": 24}),
}


def local_linears(config: RunConfig) -> list[Linear]:
    """Tokens, in and out of the linear layers that one rank holds of one block."""
    model, tp, recipe = config.model, config.parallel.tp, config.precision.float8_recipe
    assert recipe is not None
    tokens = config.microbatch_size * config.training.seq_len  # gathered before each layer, also under SP
    wqkv = (model.num_heads + 2 * model.num_kv_heads) * model.head_dim
    sizes = [
        (model.dim, wqkv // tp),
        (model.dim // tp, model.dim),
        (model.dim, model.ffn_dim // tp),
        (model.ffn_dim // tp, model.dim),
    ]
    return [(tokens, *size, recipe) for size in sizes]


@pytest.fixture(scope="module")
def gpu_sides(default_config: RunConfig, change: Change) -> dict[str, list[RunConfig]]:
    """Right and wrong of LOCAL_SIZES."""
    return {
        name: [change(default_config, {**SMALL, **GPU, **both, **side}) for side in sides]
        for name, (both, *sides) in LOCAL_SIZES.items()
    }


@pytest.fixture(scope="module")
def kernels(gpu_sides: dict[str, list[RunConfig]]) -> dict[Linear, str | None]:
    """What the kernels say to all layers of this file, asked in one process."""
    layers = [layer for pair in gpu_sides.values() for side in pair for layer in local_linears(side)]
    wanted = list(dict.fromkeys([*LINEARS, *layers]))
    return dict(zip(wanted, linear_verdicts(wanted), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("linear", LINEARS)
def test_float8_kernels_take_multiples_of_16(linear: Linear, kernels: dict[Linear, str | None]) -> None:
    answer, reason = kernels[linear], LINEARS[linear]
    assert (answer is None) if not reason else (answer is not None and reason in answer)


@pytest.mark.slow
@pytest.mark.parametrize("name", LOCAL_SIZES)
def test_rules_know_the_float8_sizes_of_a_rank(
    name: str, gpu_sides: dict[str, list[RunConfig]], kernels: dict[Linear, str | None]
) -> None:
    right, wrong = gpu_sides[name]
    assert not any(kernels[layer] for layer in local_linears(right))
    assert any(kernels[layer] for layer in local_linears(wrong))
    assert refused(right) == []
    assert refused(wrong)
