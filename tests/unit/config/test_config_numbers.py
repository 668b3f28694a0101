"""Numbers that follow from the config."""

import pytest

CLUSTER_256 = {"cluster.nodes": 32, "cluster.gpus_per_node": 8, "cluster.max_processes": None}


@pytest.mark.parametrize(
    ("leaves", "dp", "world"),
    [
        ({}, 1, 1),
        ({"parallel.dp": "auto"}, 1, 1),
        ({"parallel.dp": "auto", "parallel.tp": 2, "parallel.pp": 2}, 1, 4),
        ({"parallel.dp": 2, "parallel.tp": 2, "parallel.pp": 2}, 2, 8),
        ({"parallel.dp": "auto", "parallel.tp": 4, "parallel.pp": 8, **CLUSTER_256}, 8, 256),
        ({"parallel.dp": "auto", **CLUSTER_256}, 256, 256),
        ({"parallel.dp": "auto", "parallel.tp": 8, "parallel.pp": 64, **CLUSTER_256}, 1, 512),  # fits nowhere
    ],
)
def test_data_parallel_degree_and_world(default_config, change, leaves, dp, world):
    config = change(default_config, leaves)
    assert (config.dp, config.world_size) == (dp, world)


@pytest.mark.parametrize(
    ("batch", "dp", "pp", "microbatch", "size", "number"),
    [
        (16, 1, 1, "auto", 16, 1),
        (16, 2, 2, "auto", 4, 2),
        (16, 2, 2, 2, 2, 4),
        (16, 1, 1, 1, 1, 16),
        (1, 2, 1, "auto", 1, 0),  # the rules refuse it; no division by zero before that
    ],
)
def test_microbatches(default_config, change, batch, dp, pp, microbatch, size, number):
    config = change(
        default_config,
        {
            "training.global_batch_size": batch,
            "training.microbatch_size": microbatch,
            "parallel.dp": dp,
            "parallel.pp": pp,
        },
    )
    assert (config.microbatch_size, config.num_microbatches) == (size, number)


@pytest.mark.parametrize(
    ("steps", "tokens", "expected"),
    [(300, None, 300), (0, None, 0), (None, 1, 1), (None, 2048, 1), (None, 2049, 2), (None, 10**13, 4_882_812_500)],
)
def test_a_token_budget_is_rounded_up_to_whole_steps(default_config, change, steps, tokens, expected):
    training = change(default_config, {"training.steps": steps, "training.tokens": tokens}).training
    assert training.tokens_per_step == 2048
    assert training.num_steps == expected


@pytest.mark.parametrize(("size", "multiple", "padded"), [(2048, 64, 2048), (2049, 64, 2112), (1, 64, 64), (5, 1, 5)])
def test_the_vocabulary_is_padded(default_config, change, size, multiple, padded):
    ranges = [{"name": "text", "modality": "text", "size": size, "start": None}]
    tokens = change(default_config, {"tokens.ranges": ranges, "tokens.pad_multiple": multiple}).tokens
    assert (tokens.used_size, tokens.vocab_size) == (size, padded)


MODEL_10B = {
    "model.num_layers": 40,
    "model.dim": 4096,
    "model.num_heads": 32,
    "model.num_kv_heads": 32,
    "model.ffn_dim": 11008,
}


def test_parameters_of_the_10b_model(default_config, change):
    model = change(default_config, MODEL_10B).model
    assert model.head_dim == 128
    assert model.num_parameters(160_000) == 9_406_058_496


def test_tied_embeddings_count_once_and_kv_heads_shrink_attention(default_config, change):
    model = change(default_config, MODEL_10B).model
    tied = change(default_config, {**MODEL_10B, "model.tie_embeddings": True}).model
    grouped = change(default_config, {**MODEL_10B, "model.num_kv_heads": 8}).model
    assert model.num_parameters(160_000) - tied.num_parameters(160_000) == 160_000 * 4096
    assert model.num_parameters(160_000) - grouped.num_parameters(160_000) == 40 * 2 * 4096 * (4096 - 1024)


@pytest.mark.parametrize(
    ("dtype", "recipe", "expected"),
    [("float32", None, "fp32"), ("bfloat16", None, "bf16"), ("bfloat16", "rowwise", "float8")],
)
def test_the_format_whose_peak_counts(default_config, change, dtype, recipe, expected):
    leaves = {"precision.param_dtype": dtype, "precision.float8_recipe": recipe}
    assert change(default_config, leaves).precision.compute_format == expected


def test_a_dataset_of_two_sources_is_named_once(default_config):
    assert {source.dataset for source in default_config.data.sources} == {"demo-v2"}
    assert len(default_config.data.sources) > 1
    assert default_config.data.datasets == ["demo-v2"]
