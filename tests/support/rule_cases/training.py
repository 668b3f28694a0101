"""Cases of the rules in mmhydra/config/rules/training.py."""

from typing import Any

from rule_cases.case import BOTH, SLURM, Case

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
    "cosine": Case(
        {"optim.decay_fraction": 0.1},
        [("optim.schedule", "optim.decay_fraction")],
        ["type optim.decay_fraction=null"],
        {"optim.decay_fraction": None},
    ),
}
NOTES: dict[str, tuple[dict[str, Any], str]] = {
    "checkpoint interval": ({"checkpoint.interval": 201}, "intervals"),
    "validation interval": ({"training.validation_interval": 201}, "intervals"),
    "log interval": ({"track.log_interval": 201}, "intervals"),
    "no checkpoints": ({**SLURM, "checkpoint.enabled": False}, "intervals"),
}
