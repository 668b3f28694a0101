"""Small configs at random, legal or not, for tests that ask the rules and torchtitan about the same ones."""

import random
from typing import Any

PRECISIONS = {
    "fp32": {"param_dtype": "float32", "float8_recipe": None, "float8_emulate": False},
    "bf16": {"param_dtype": "bfloat16", "float8_recipe": None, "float8_emulate": False},
    "float8_emulated": {"param_dtype": "bfloat16", "float8_recipe": "rowwise", "float8_emulate": True},
    "float8_gw_hp": {"param_dtype": "bfloat16", "float8_recipe": "rowwise_with_gw_hp", "float8_emulate": True},
}
_DEGREES = [1, 1, 2, 2, 3, 4]


def random_leaves(rng: random.Random) -> dict[str, Any]:
    """Changes of the default config. Sizes are often multiples of what divides them, so that many are legal."""

    def times(divisor: int, *factors: int) -> int:
        stray = rng.choice([-1, 1]) if rng.random() < 0.03 else 0
        return max(1, divisor * rng.choice(factors) + stray)

    tp, pp = rng.choice([*_DEGREES, 6, 8]), rng.choice([*_DEGREES, 5])
    dp_replicate = rng.choice(_DEGREES)
    dp = times(dp_replicate, 1, 2, 3, 5, 8)
    schedule = rng.choice(["1F1B", "GPipe", "Interleaved1F1B"])
    stages = pp * (2 if schedule == "Interleaved1F1B" else 1)
    kv_heads = times(tp, 1, 1, 2, 3)
    heads = times(kv_heads, 1, 1, 2, 3)
    precision = rng.choice(list(PRECISIONS))
    microbatch_size = rng.choice([1, 1, 2, 3, 4])
    num_microbatches = rng.choice([1, 2, 3, pp, pp, pp + 1, 2 * pp, 2 * pp + 1, 3 * pp])
    # Exactly enough layers, one too few, and more; at least one.
    layers = max(1, rng.choice([2 * stages - 2, 2 * stages - 3, 2 * stages, rng.randint(1, 2 * stages + 3)]))
    leaves: dict[str, Any] = {
        "cluster.max_processes": 1 << 20,  # as many as it takes: nothing is started
        "model.num_layers": layers,
        "model.dim": heads * rng.choice([2, 4, 6, 8, 10, 16, 16, 32]),
        "model.num_heads": heads,
        "model.num_kv_heads": kv_heads,
        "model.ffn_dim": times(tp, 1, 5, 16, 16, 32, 48),
        "model.tie_embeddings": rng.random() < 0.2,
        "tokens.ranges.0.size": rng.choice([1, 7, 40, 255, 256]),
        "tokens.pad_multiple": rng.choice([1, tp, 2 * tp, 64]),
        "training.seq_len": times(tp, 1, 2, 5, 16),
        "training.microbatch_size": rng.choice([microbatch_size, microbatch_size, "auto"]),
        "training.global_batch_size": times(dp * microbatch_size, num_microbatches),
        "training.validation_interval": rng.choice([None, 1]),
        "training.deterministic": rng.random() < 0.3,
        "parallel.dp": dp,
        "parallel.dp_replicate": dp_replicate,
        "parallel.tp": tp,
        "parallel.pp": pp,
        "parallel.schedule": schedule,
        "parallel.sequence_parallel": rng.random() < 0.6,
        "parallel.recompute": rng.choice(["none", "selective", "full"]),
        "parallel.reshard_after_forward": rng.choice(["default", "always", "never"]),
        "precision.name": precision,
    }
    return leaves | {f"precision.{key}": value for key, value in PRECISIONS[precision].items()}
