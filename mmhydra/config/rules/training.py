"""Rules of the length of a run, its learning rate, and what happens every so many steps."""

from collections.abc import Iterator

from mmhydra.config.facts import Facts
from mmhydra.config.problems import Problem
from mmhydra.config.schema import RunConfig
from mmhydra.config.stages import settled_steps


def length(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Exactly one of steps and tokens."""
    training = config.training
    keys = ("training.steps", "training.tokens")
    if training.steps is None and training.tokens is None:
        yield Problem(keys, "the run has no length; type training.steps=N or training.tokens=N")
    elif training.steps is not None and training.tokens is not None:
        yield Problem(
            keys,
            f"both are set ({training.steps} steps, {training.tokens} tokens); "
            "add training.tokens=null to count steps, or training.steps=null to count tokens",
        )


def warmup(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Warmup, and the decay of WSD, fit into the steps."""
    steps, optim = settled_steps(config), config.optim
    if not steps:
        return
    if optim.warmup_steps > steps:
        yield Problem(
            ("optim.warmup_steps", "training.steps", "training.tokens"),
            f"a warmup of {optim.warmup_steps} steps does not fit into {steps} steps; "
            f"type optim.warmup_steps={max(1, steps // 50)} (1-5% is usual)",
        )
    elif optim.decay_fraction is not None and optim.warmup_steps + round(optim.decay_fraction * steps) > steps:
        yield Problem(
            ("optim.warmup_steps", "optim.decay_fraction", "training.steps", "training.tokens"),
            f"a warmup of {optim.warmup_steps} steps and a decay over {optim.decay_fraction:g} of {steps} steps "
            f"overlap; type optim.decay_fraction={(1 - optim.warmup_steps / steps) / 2:.2g} or a shorter warmup",
        )


def rate(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """The learning rate falls, and only WSD has a decay of its own."""
    optim = config.optim
    if optim.min_lr > optim.lr:
        cure = f"type optim.min_lr={optim.lr / 10:g} (a tenth is usual)"
        yield Problem(("optim.min_lr", "optim.lr"), f"min_lr {optim.min_lr} is above lr {optim.lr}; {cure}")
    if (optim.schedule == "wsd") != (optim.decay_fraction is not None):
        need = (
            "needs a decay; type optim.decay_fraction=0.1"
            if optim.schedule == "wsd"
            else "has no such decay; type optim.decay_fraction=null"
        )
        yield Problem(("optim.schedule", "optim.decay_fraction"), f"the schedule {optim.schedule} {need}")


def intervals(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """An interval beyond the last step means once, at the end: harmless here, a lost run on a cluster."""
    steps, checkpoint = settled_steps(config), config.checkpoint
    if not steps:
        return
    if checkpoint.enabled and checkpoint.interval > steps:
        yield Problem(
            ("checkpoint.interval", "training.steps", "training.tokens"),
            f"an interval of {checkpoint.interval} steps never comes within {steps} steps, so a failure loses all of "
            f"it; type checkpoint.interval={max(1, steps // 10)}",
            is_note=config.cluster.kind == "local",
        )
    if not checkpoint.enabled and config.cluster.kind != "local":
        yield Problem(
            ("checkpoint.enabled",), "no checkpoints: a failure or the time limit loses all of the run", is_note=True
        )
    interval = config.training.validation_interval
    if interval is not None and interval > steps:
        yield Problem(
            ("training.validation_interval", "training.steps", "training.tokens"),
            f"an interval of {interval} steps never comes within {steps} steps; only the last step is validated",
            is_note=True,
        )
    if config.track.log_interval > steps:
        yield Problem(
            ("track.log_interval", "training.steps", "training.tokens"),
            f"an interval of {config.track.log_interval} steps never comes within {steps} steps; only the last step "
            "is logged",
            is_note=True,
        )
