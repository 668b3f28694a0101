"""Cases of the rules in mmhydra/config/rules/precision.py."""

from typing import Any

from rule_cases.case import Case

FLOAT8 = {"precision.float8_recipe": "rowwise", "precision.param_dtype": "bfloat16", "precision.float8_emulate": True}
HARDWARE = {**FLOAT8, "precision.float8_emulate": False, "cluster.device": "cuda", "cluster.compile": True}

CASES = {
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
}
NOTES: dict[str, tuple[dict[str, Any], str]] = {
    "float8 in eager mode": ({**HARDWARE, "cluster.compile": False}, "float8"),
}
