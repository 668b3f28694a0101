"""Cases of the rules in mmhydra/config/rules/model.py."""

from rule_cases.case import Case

CASES = {
    "heads of flex attention": Case(
        {"cluster.device": "cuda", "model.num_heads": 16, "model.num_kv_heads": 16},
        [("model.dim", "model.num_heads", "cluster.device")],
        ["heads of 8", "takes 16 and more", "type model.num_heads=8"],
        {"cluster.device": "cuda", "model.num_heads": 8, "model.num_kv_heads": 8},
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
    "odd heads": Case({"model.dim": 36}, [("model.dim", "model.num_heads")], ["heads of 9", "even"], {"model.dim": 40}),
}
