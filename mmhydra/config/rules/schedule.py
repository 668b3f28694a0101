"""Rules of the stages of data: their shares of the sources, and their lengths."""

from collections import Counter
from collections.abc import Iterator

from mmhydra.config.data import Stage
from mmhydra.config.facts import Facts
from mmhydra.config.problems import Problem
from mmhydra.config.schema import RunConfig
from mmhydra.config.stages import fixed_steps, settled_steps, stage_steps

_ROUNDING = 1e-6  # shares of a stage sum to 1 but for it
_LENGTHS = ("steps", "tokens", "fraction")


def shares(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Stages of data name known sources, their shares sum to 1 at both edges, and together they fill the run."""
    schedule = config.data.schedule
    if not schedule:
        return
    names = {source.name for source in config.data.sources}
    twice = [name for name, count in Counter(stage.name for stage in schedule).items() if count > 1]
    if twice:
        yield Problem(("data.schedule",), f"stage {', '.join(twice)} is named twice; give each a name of its own")
    for index, stage in enumerate(schedule):
        yield from _shares_of(stage, f"data.schedule.{index}.shares", names)
    unread = sorted(name for name in names if not any(any(stage.shares.get(name, [])) for stage in schedule))
    if unread:
        yield Problem(
            ("data.schedule", "data.sources"),
            f"no stage has a share of {', '.join(unread)}, so the run never reads it",
            is_note=True,
        )
    faults = [problem for index, stage in enumerate(schedule) for problem in _length_of_stage(stage, index)]
    yield from faults or _lengths(config)


def _shares_of(stage: Stage, key: str, names: set[str]) -> Iterator[Problem]:
    unknown = sorted(set(stage.shares) - names)
    if unknown:
        yield Problem((key,), f"stage {stage.name} names unknown sources {unknown}; legal: {sorted(names)}")
    for edge, when in enumerate(("start", "end")):
        total = sum(share[edge] for share in stage.shares.values())
        if abs(total - 1) > _ROUNDING:
            yield Problem((key,), f"the shares of stage {stage.name} at its {when} sum to {total:g}, not 1")


def _length_of_stage(stage: Stage, index: int) -> Iterator[Problem]:
    """Exactly one of the three ways to say how long a stage is."""
    given = [length for length in _LENGTHS if getattr(stage, length) is not None]
    if len(given) == 1:
        return
    found = f"has {' and '.join(given)}" if given else "has no length"
    yield Problem(
        tuple(f"data.schedule.{index}.{length}" for length in given or _LENGTHS),
        f"stage {stage.name} {found}; give it one of steps: N, tokens: N and fraction: 0.5 (of the steps that stages "
        "of fixed length leave)",
    )


def _lengths(config: RunConfig) -> Iterator[Problem]:
    """The stages fill the run, each with a step at least."""
    schedule, steps = config.data.schedule, settled_steps(config)
    fractions = [stage.fraction for stage in schedule if stage.fraction is not None]
    filled = sum(fractions)
    if fractions and abs(filled - 1) > _ROUNDING:
        yield Problem(
            tuple(
                f"data.schedule.{index}.fraction" for index, stage in enumerate(schedule) if stage.fraction is not None
            ),
            f"the stages fill {filled:g} of the run; their fractions have to sum to 1",
        )
        return
    if not steps:  # of a run of no steps the stages say nothing
        return
    fixed = fixed_steps(config)
    length = ("training.steps", "training.tokens")
    if sum(fixed) > steps or (not fractions and sum(fixed) < steps):
        which = "" if not fractions else " of fixed length"
        rest = "" if sum(fixed) > steps else ", or fraction: 1.0 instead of the length of one of them"
        least = " or more" if fractions else ""
        needed = sum(fixed) + len(fractions)
        yield Problem(
            (
                *length,
                *(f"data.schedule.{index}.{_given(stage)}" for index, stage in enumerate(schedule) if fixed[index]),
            ),
            f"the stages{which} have {sum(fixed):,} steps, the run has {steps:,}; type "
            f"{length_of(config, needed)}{least}{rest}",
        )
        return
    left = steps - sum(fixed)
    for index, (stage, found) in enumerate(zip(schedule, stage_steps(config), strict=True)):
        if found:
            continue
        keys = (*length, f"data.schedule.{index}.fraction")
        told = f"stage {stage.name} has {stage.fraction:g} of"
        if left:
            cure = f"give it at least {1 / left:.2g}, or leave it out"
            yield Problem(keys, f"{told} {left:,} steps, which is none; {cure}")
        else:
            cure = f"type {length_of(config, steps + len(fractions))} or more"
            yield Problem(
                keys, f"{told} the steps that stages of fixed length leave, but they leave none of {steps:,}; {cure}"
            )


def _given(stage: Stage) -> str:
    return next(length for length in _LENGTHS if getattr(stage, length) is not None)


def length_of(config: RunConfig, steps: int) -> str:
    """A number of steps as the override that makes the run so long."""
    if config.training.steps is not None:
        return f"training.steps={steps}"
    return f"training.tokens={steps * config.training.tokens_per_step}"
