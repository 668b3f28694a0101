"""The stages of a run in whole optimizer steps: their shares of tokens and the factor of their learning rate."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from mmhydra.config.data import Stage
from mmhydra.config.schema import RunConfig


@dataclass(frozen=True)
class StageSpan:
    """The steps `first_step` to `end_step` - 1, counted from 1, of a run.

    `start` and `end` are shares of tokens by source at its edges; they sum to 1 and change linearly with the tokens.
    `lr_start` is the factor of the learning rate at its first step, `lr_end` at its last; linear in between.
    """

    name: str
    first_step: int
    end_step: int
    start: dict[str, Fraction]
    end: dict[str, Fraction]
    lr_start: float
    lr_end: float

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the stage."""
        return self.end_step - self.first_step


def stages(config: RunConfig) -> tuple[StageSpan, ...]:
    """The stages of a config that keeps the rules; without a schedule one over all steps, with the weights as shares.

    Numbers are taken as the decimals they are written as. The shares of a stage are those of all sources.
    """
    names = [source.name for source in config.data.sources]
    if not config.data.schedule:
        shares = weight_shares(config)
        return (StageSpan("all", 1, config.training.num_steps + 1, shares, shares, 1.0, 1.0),)
    spans, first = [], 1
    for stage, length in zip(config.data.schedule, stage_steps(config), strict=True):
        start, end = (_normalised(names, stage, edge) for edge in (0, 1))
        spans.append(StageSpan(stage.name, first, first + length, start, end, *stage.lr_multiplier))
        first += length
    return tuple(spans)


def weight_shares(config: RunConfig) -> dict[str, Fraction]:
    """The share of tokens of each source by its weight, where no schedule says otherwise."""
    weights = {source.name: Fraction(str(source.weight)) for source in config.data.sources}
    total = sum(weights.values(), Fraction(0))
    return {name: weight / total for name, weight in weights.items()}


def settled_steps(config: RunConfig) -> int | None:
    """The number of steps where a config has exactly one length; other configs break a rule of their own."""
    training = config.training
    return training.num_steps if (training.steps is None) != (training.tokens is None) else None


def stage_steps(config: RunConfig) -> list[int]:
    """The length of each stage. Fractions share the steps that stages of fixed length leave, in whole steps.

    Edges between fractions are rounded, half to even, so that together the stages have no step too many or too few.
    """
    left = config.training.num_steps - sum(fixed_steps(config))
    whole = sum((Fraction(str(stage.fraction)) for stage in config.data.schedule if stage.fraction), Fraction(0))
    lengths, passed = [], Fraction(0)
    for stage, fixed in zip(config.data.schedule, fixed_steps(config), strict=True):
        before = round(passed * left)
        if stage.fraction:
            passed += Fraction(str(stage.fraction)) / whole
        lengths.append(fixed + round(passed * left) - before)
    return lengths


def fixed_steps(config: RunConfig) -> list[int]:
    """The steps that each stage asks for by itself, tokens rounded up to whole steps; 0 for a fraction."""
    per_step = config.training.tokens_per_step
    return [stage.steps or -(-(stage.tokens or 0) // per_step) for stage in config.data.schedule]


def lr_factor(spans: Sequence[StageSpan], step: int) -> float:
    """The factor of the learning rate at a step, counted from 1; behind the last stage that of its end."""
    span = next((span for span in spans if step < span.end_step), spans[-1])
    passed = min(step - span.first_step, span.num_steps - 1) / max(span.num_steps - 1, 1)
    return span.lr_start + (span.lr_end - span.lr_start) * passed


def mean_shares(config: RunConfig) -> dict[str, Fraction]:
    """The share of all tokens of the run that each source gives, by name."""
    spans = stages(config)
    steps = sum(span.num_steps for span in spans)
    if not steps:
        return spans[0].start
    return {
        name: sum(((span.start[name] + span.end[name]) * span.num_steps for span in spans), Fraction(0)) / (2 * steps)
        for name in spans[0].start
    }


def _normalised(names: Sequence[str], stage: Stage, edge: int) -> dict[str, Fraction]:
    """Shares at an edge of a stage, which the rules let deviate from 1 by rounding only."""
    shares = {name: Fraction(str(stage.shares[name][edge])) if name in stage.shares else Fraction(0) for name in names}
    total = sum(shares.values(), Fraction(0))
    return {name: share / total for name, share in shares.items()}
