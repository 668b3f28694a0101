"""Cases of the rules in mmhydra/config/rules/parallel.py."""

from typing import Any

from rule_cases.case import Case

TINY = {"model.dim": 4, "model.num_heads": 2, "model.num_kv_heads": 2, "training.microbatch_size": 1}
MICROBATCHES = (
    *("parallel.schedule", "parallel.pp", "training.microbatch_size", "training.global_batch_size", "parallel.dp"),
)

CASES = {
    "too many shards": Case(
        {**TINY, "parallel.dp": 13, "training.global_batch_size": 156, "cluster.max_processes": 13},
        [("parallel.dp", "parallel.dp_replicate", "parallel.tp", "model.dim")],
        ["12 rows", "over 13 data-parallel ranks", "type parallel.dp=12"],
        {**TINY, "parallel.dp": 12, "training.global_batch_size": 156, "cluster.max_processes": 12},
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
}
NOTES: dict[str, tuple[dict[str, Any], str]] = {
    "a stage without a layer": ({"model.num_layers": 2, "parallel.pp": 4}, "stages"),
    "GPipe idles": (
        {"parallel.schedule": "GPipe", "training.microbatch_size": 16, "parallel.pp": 2},
        "microbatches",
    ),
}
