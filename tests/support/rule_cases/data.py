"""Cases of the rules in mmhydra/config/rules/data.py."""

from rule_cases.case import BOTH, RANGE, Case
from rule_cases.schedule import stages

CASES = {
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
}
