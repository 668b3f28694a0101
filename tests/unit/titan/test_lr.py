"""The learning rate of a run with stages, step by step, against its closed formula."""

import math
from fractions import Fraction

import pytest
import torch
from torchtitan.components.optimizer import LRSchedulersContainer

from mmhydra.config.stages import StageSpan, lr_factor
from mmhydra.titan.lr import StagedLRSchedulers

LR, WARMUP, STEPS, LOWEST = 2e-3, 4, 40, 0.1
HALF = {"old": Fraction(1, 2), "new": Fraction(1, 2)}
SPANS = (
    StageSpan("main", 1, 11, HALF, HALF, 1.0, 1.0),
    StageSpan("warm", 11, 13, HALF, HALF, 0.1, 0.1),
    StageSpan("blend", 13, 41, HALF, HALF, 0.2, 1.0),
)


def built(spans=SPANS, **changes):
    optimizers = [torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=LR)]
    config = StagedLRSchedulers.Config(
        **{"warmup_steps": WARMUP, "decay_ratio": None, "decay_type": "cosine", "min_lr_factor": LOWEST, **changes},
        spans=spans,
    )
    return optimizers[0], config.build(optimizers=optimizers, training_steps=STEPS)


def rates(optimizer, schedulers, steps):
    """The rate at which each step is taken."""
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedulers.step()
    return found


def expected(step):
    base = min(1.0, step / WARMUP)
    if step > WARMUP + 1:  # torchtitan stays a step at the top
        base = LOWEST + (1 - LOWEST) * 0.5 * (1 + math.cos(math.pi * (step - WARMUP - 1) / (STEPS - WARMUP)))
    stage = 1.0 if step < 11 else 0.1 if step < 13 else 0.2 + 0.8 * (step - 13) / 27
    return LR * base * stage


def test_each_step_has_the_rate_of_the_formula():
    assert rates(*built(), STEPS) == pytest.approx([expected(step) for step in range(1, STEPS + 1)], rel=1e-12)


def test_without_stages_it_is_torchtitans():
    one = (StageSpan("all", 1, STEPS + 1, HALF, HALF, 1.0, 1.0),)
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=LR)
    theirs = LRSchedulersContainer.Config(warmup_steps=WARMUP, decay_ratio=0.25, min_lr_factor=LOWEST)
    schedulers = theirs.build(optimizers=[optimizer], training_steps=STEPS)
    ours = rates(*built(one, decay_ratio=0.25, decay_type="linear"), STEPS)
    assert ours == rates(optimizer, schedulers, STEPS)


TORCHTITANS = pytest.mark.filterwarnings("ignore:To get the last learning rate")  # its load_state_dict


@TORCHTITANS
@pytest.mark.parametrize("done", [1, 9, 10, 11, 12, 25])
def test_a_resume_needs_the_number_of_steps_alone(done):
    optimizer, schedulers = built()
    rates(optimizer, schedulers, done)
    state = schedulers.state_dict()
    assert state == {"last_epoch": done}
    resumed, others = built()
    resumed.load_state_dict(optimizer.state_dict())
    others.load_state_dict(state)
    assert rates(resumed, others, STEPS - done) == rates(optimizer, schedulers, STEPS - done)


@TORCHTITANS
def test_a_run_that_goes_on_with_other_stages_takes_its_first_step_with_their_rate():
    parent, schedulers = built(SPANS[:1])
    rates(parent, schedulers, 10)
    child, others = built()
    others.load_state_dict(schedulers.state_dict())
    child.load_state_dict(parent.state_dict())  # which brings the rate of the parent
    assert child.param_groups[0]["lr"] == parent.param_groups[0]["lr"] != pytest.approx(expected(11))
    others.apply()
    assert rates(child, others, 30) == pytest.approx([expected(step) for step in range(11, 41)], rel=1e-12)


def test_the_factor_goes_from_its_start_at_the_first_step_to_its_end_at_the_last():
    assert [lr_factor(SPANS, step) for step in (1, 10, 11, 12, 13, 40)] == [1.0, 1.0, 0.1, 0.1, 0.2, 1.0]
    assert lr_factor(SPANS, 41) == 1.0  # torch asks for the rate behind the last step, too
    single = (StageSpan("one", 1, 2, HALF, HALF, 0.5, 1.0),)
    assert lr_factor(single, 1) == 0.5
