"""A run with stages, and new data that joins a run under way: what is read and at which rate, step by step."""

import pytest
from workplace import Workplace, records

pytestmark = pytest.mark.slow

LR = 3e-3  # constant, so that the factor of the stage is all that changes
SMALL = ("training.validation_interval=null", "training.global_batch_size=4", "training.microbatch_size=4")
STEADY = (f"optim.lr={LR}", f"optim.min_lr={LR}", "optim.warmup_steps=1", *SMALL)
OLD, NEW = "stdlib_code", "stdlib_docs"
MAIN = f"shares: {{{OLD}: [1.0, 1.0]}}, lr_multiplier: [1.0, 1.0]"
WARM = f"{{name: warm, steps: 2, shares: {{{NEW}: [1.0, 1.0]}}, lr_multiplier: [0.1, 0.1]}}"
BLEND = f"{{name: blend, fraction: 1.0, shares: {{{OLD}: [0.8, 0.5], {NEW}: [0.2, 0.5]}}, lr_multiplier: [0.2, 1.0]}}"


def test_new_data_joins_a_run_under_way(place: Workplace) -> None:
    parent = place.train(*STEADY, "training.steps=4", f"data.schedule=[{{name: main, steps: 4, {MAIN}}}]")
    child = place.train(
        *STEADY,
        "training.steps=9",
        f"data.schedule=[{{name: main, steps: 4, {MAIN}}}, {WARM}, {BLEND}]",
        f"checkpoint.extend_from={parent / 'checkpoints' / 'step-00000004'}",
    )
    before, after = records(parent), records(child)
    assert (list(before), list(after)) == ([1, 2, 3, 4], [5, 6, 7, 8, 9])
    rates = [record["lr"] for record in (*before.values(), *after.values())]
    factors = [1.0, 1.0, 1.0, 1.0, 0.1, 0.1, 0.2, 0.6, 1.0]
    assert rates == pytest.approx([LR * factor for factor in factors], rel=1e-12)
    assert all(OLD in record["data_shard"] for record in before.values())
    assert all(NEW in after[step]["data_shard"] for step in (5, 6))
