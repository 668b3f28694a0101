"""How many tokens a run takes from each source, and how often it reads what is there."""

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import NamedTuple

from mmhydra.config.data import Source
from mmhydra.config.facts import Facts
from mmhydra.config.schema import RunConfig
from mmhydra.config.stages import mean_shares, weight_shares


class Budget(NamedTuple):
    """One source: its share of all tokens, how many of them that are, how many there are, and how often is allowed.

    `there` is None where the manifest is not at hand, `limit` where nothing limits the epochs.
    """

    name: str
    share: float
    needed: int
    there: int | None
    limit: float | None

    @property
    def epochs(self) -> float | None:
        """How often the source is read; None where nobody knows how much of it there is."""
        return self.needed / self.there if self.there else None

    @property
    def is_exceeded(self) -> bool:
        """Whether it is read more often than is allowed."""
        return self.epochs is not None and self.limit is not None and self.epochs > self.limit

    def __str__(self) -> str:
        text = f"{self.name}: {self.share:.3%} of the tokens, {self.needed:,} needed"
        if self.there is None:
            return f"{text}, its manifest is not at hand"
        limit = "" if self.limit is None else f" of at most {self.limit:g}"
        return f"{text}, {self.there:,} there: {epochs_text(self.epochs)} epochs{limit}"


def epochs_text(epochs: float | None) -> str:
    """One decimal, or more where that would be 0.0."""
    return "no" if epochs is None else f"{epochs:.1f}" if epochs >= 0.05 or epochs == 0 else f"{epochs:.1g}"


def budgets(config: RunConfig, facts: Facts) -> list[Budget]:
    """What the run takes of each source, for a config that keeps the rules of its stages."""
    return list(
        _budgets(config, facts, config.training.num_steps * config.training.tokens_per_step, mean_shares(config))
    )


def planned_budgets(config: RunConfig, facts: Facts) -> list[Budget]:
    """What the plan of the mix takes of each source by its weight; empty without a plan."""
    planned = config.data.planned_tokens
    return [] if planned is None else list(_budgets(config, facts, planned, weight_shares(config)))


def limit_of(config: RunConfig, source: Source) -> float | None:
    """How often a source may be read: what it says itself, else what the mix says."""
    return source.max_epochs if source.max_epochs is not None else config.data.max_epochs


def summary(found: list[Budget]) -> str:
    """The epochs of all sources in one line, those that are not known left out; empty if none is."""
    known = [f"{epochs_text(one.epochs)} of {one.name}" for one in found if one.epochs is not None]
    return f"epochs needed: {', '.join(known)}" if known else ""


def _budgets(config: RunConfig, facts: Facts, tokens: int, shares: Mapping[str, Fraction]) -> Iterator[Budget]:
    for source in config.data.sources:
        count = facts.tokens.get((source.dataset, source.name))
        share = shares[source.name]
        needed = round(tokens * share)
        there = None if count is None else count.train
        yield Budget(source.name, float(share), needed, there, limit_of(config, source))
