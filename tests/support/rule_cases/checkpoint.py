"""Cases of the rules in mmhydra/config/rules/checkpoint.py."""

from rule_cases.case import Case

STEP = "/outputs/debug/3f83c51a9fd0/checkpoints/step-00000100"

CASES = {
    "weights and a state": Case(
        {"checkpoint.init_from": "/a", "checkpoint.extend_from": "/b"},
        [("checkpoint.init_from", "checkpoint.extend_from")],
        ["type checkpoint.init_from=null"],
        {"checkpoint.extend_from": "/b"},
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
}
