"""Cases of the rules in mmhydra/config/rules/schedule.py."""

from typing import Any

from rule_cases.case import Case

STAGE = {"name": "warm", "fraction": 1.0, "lr_multiplier": [1.0, 1.0]}


def stage(**shares: list[float]) -> dict[str, Any]:
    return {"data.schedule": [{**STAGE, "shares": shares}]}


def stages(*lengths: dict[str, float]) -> dict[str, Any]:
    """Stages of nothing but code, by their lengths."""
    shares = {"stdlib_code": [1.0, 1.0]}
    return {
        "data.schedule": [
            {"name": f"s{number}", **length, "lr_multiplier": [1.0, 1.0], "shares": shares}
            for number, length in enumerate(lengths)
        ]
    }


CASES = {
    "a stage without a length": Case(
        {"data.schedule": [{"name": "warm", "lr_multiplier": [1.0, 1.0], "shares": {"stdlib_code": [1.0, 1.0]}}]},
        [("data.schedule.0.steps", "data.schedule.0.tokens", "data.schedule.0.fraction")],
        ["stage warm has no length; give it one of steps: N, tokens: N and fraction: 0.5"],
        stages({"steps": 200}),
    ),
    "a stage of two lengths": Case(
        stages({"steps": 200, "fraction": 1.0}),
        [("data.schedule.0.steps", "data.schedule.0.fraction")],
        ["stage s0 has steps and fraction"],
        stages({"fraction": 1.0}),
    ),
    "stages of fixed length that are too long": Case(
        {**stages({"steps": 150}, {"tokens": 100_000}, {"fraction": 1.0}), "training.steps": 198},
        [("training.steps", "training.tokens", "data.schedule.0.steps", "data.schedule.1.tokens")],
        ["of fixed length have 199 steps, the run has 198; type training.steps=200 or more"],
        stages({"steps": 150}, {"tokens": 100_000}, {"fraction": 1.0}),
    ),
    "stages of fixed length that are too short": Case(
        stages({"steps": 150}, {"tokens": 100_000}),
        [("training.steps", "training.tokens", "data.schedule.0.steps", "data.schedule.1.tokens")],
        ["the stages have 199 steps, the run has 200; type training.steps=199, or fraction: 1.0 instead"],
        stages({"steps": 150}, {"tokens": 100_353}),
    ),
    "a fraction of nothing": Case(
        stages({"steps": 200}, {"fraction": 1.0}),
        [("training.steps", "training.tokens", "data.schedule.1.fraction")],
        ["stage s1 has 1 of the steps that stages of fixed length leave", "none of 200; type training.steps=201"],
        stages({"steps": 199}, {"fraction": 1.0}),
    ),
    "a stage of less than a step": Case(
        stages({"fraction": 0.002}, {"fraction": 0.998}),
        [("training.steps", "training.tokens", "data.schedule.0.fraction")],
        ["stage s0 has 0.002 of 200 steps, which is none; give it at least 0.005"],
        stages({"fraction": 0.005}, {"fraction": 0.995}),
    ),
    "a stage named twice": Case(
        {"data.schedule": [*stages({"steps": 50})["data.schedule"], *stages({"steps": 150})["data.schedule"]]},
        [("data.schedule",)],
        ["stage s0 is named twice"],
        stages({"steps": 50}, {"steps": 150}),
    ),
    "stages of half a run": Case(
        {"data.schedule": [{**STAGE, "fraction": 0.5, "shares": {"stdlib_code": [1.0, 1.0]}}]},
        [("data.schedule.0.fraction",)],
        ["fill 0.5 of the run"],
        {"data.schedule": [{**STAGE, "shares": {"stdlib_code": [1.0, 1.0]}}]},
    ),
    "unknown source": Case(
        stage(stdlib_code=[0.5, 0.5], nothing=[0.5, 0.5]),
        [("data.schedule.0.shares",)],
        ["stage warm", "['nothing']", "legal: ['stdlib_code', 'stdlib_docs']"],
        stage(stdlib_code=[0.5, 0.5], stdlib_docs=[0.5, 0.5]),
    ),
    "shares": Case(
        stage(stdlib_code=[0.5, 0.5], stdlib_docs=[0.5, 0.4]),
        [("data.schedule.0.shares",)],
        ["stage warm at its end", "0.9, not 1"],
        stage(stdlib_code=[0.3, 1.0], stdlib_docs=[0.7, 0.0]),
    ),
}
NOTES: dict[str, tuple[dict[str, Any], str]] = {
    "a source that no stage reads": (stages({"fraction": 1.0}), "shares"),
}
