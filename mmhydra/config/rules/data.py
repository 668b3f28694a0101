"""Rules of the data: its sources, the ranges of their ids, and whether there is enough of each source."""

import math
from collections import Counter
from collections.abc import Iterator

from mmhydra.config.budget import budgets, epochs_text
from mmhydra.config.facts import Facts, TokenCount
from mmhydra.config.problems import Problem
from mmhydra.config.rules.schedule import length_of, shares
from mmhydra.config.schema import RunConfig
from mmhydra.config.stages import settled_steps
from mmhydra.config.token_rules import token_faults


def vocabulary(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """The layout of the ids is sound, and every modality that the data holds has a range."""
    tokens = config.tokens
    for fault in token_faults(tokens):
        yield Problem(fault.keys, fault.text)
    there = {entry.modality for entry in tokens.ranges}
    for index, source in enumerate(config.data.sources):
        missing = sorted(set(source.modality.split("_")) - there)
        if missing:
            yield Problem(
                (f"data.sources.{index}.modality", "tokens.ranges"),
                f"source {source.name} holds {' and '.join(missing)}, tokens={tokens.name} has ranges for "
                f"{', '.join(sorted(there))}; type tokens=qwen_full, or another source",
            )


def sources(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Sources are named once."""
    names = [source.name for source in config.data.sources]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        yield Problem(("data.sources",), f"source {', '.join(twice)} is named twice; give each a name of its own")


def token_budget(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """What the run reads of each source is there, read as often as its `max_epochs`, or that of the mix, allows."""
    schedule = config.data.schedule
    if settled_steps(config) is None or any(problem for problem in shares(config, facts) if not problem.is_note):
        return
    for index, found in enumerate(budgets(config, facts)):
        if not found.is_exceeded:
            continue
        assert found.there is not None
        assert found.limit is not None
        assert found.epochs is not None
        own = config.data.sources[index].max_epochs is not None
        guard = f"data.sources.{index}.max_epochs" if own else "data.max_epochs"
        affordable = int(config.training.num_steps * found.limit * found.there / found.needed)
        cure = (
            "give it more data, a smaller share in data.schedule"
            if schedule
            else f"type {length_of(config, affordable)}"
        )
        keys = ("data.schedule" if schedule else f"data.sources.{index}.weight", guard)
        yield Problem(
            ("training.steps", "training.tokens", *keys),
            f"source {found.name} holds {found.there:,} tokens, {found.needed:,} are needed: "
            f"{epochs_text(found.epochs)} epochs, at most {found.limit:g} are allowed; {cure}, or "
            f"{guard}={_rounded_up(found.epochs):g}",
        )


def _rounded_up(number: float) -> float:
    """To two digits: a limit that is typed has to let it pass."""
    unit = 10.0 ** (math.floor(math.log10(number)) - 1)
    return math.ceil(number / unit) * unit


def validation(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Every source has a document to train on, one held out where the run validates, and fits into sequences."""
    validates = config.evaluates or (config.training.validation_interval is not None and config.training.steps != 0)
    longest = max((count.largest_unit for count in _counts(config, facts).values()), default=1)
    for source, count in _counts(config, facts).items():
        if not count.train and not config.evaluates:
            yield Problem(
                ("data.sources",),
                f"the train split of source {source} has no document; use more data, or leave the source out",
            )
        if validates and not count.heldout:
            cure = "leave the source out" if config.evaluates else "type training.validation_interval=null"
            yield Problem(
                ("data.sources", "training.steps" if config.evaluates else "training.validation_interval"),
                f"the held-out split of source {source} has no document; use more data, or {cure}",
            )
        if count.largest_unit > config.training.seq_len:
            yield Problem(
                ("training.seq_len",),
                f"source {source} has a unit of {count.largest_unit} ids that may not be parted (such as an image with "
                f"its marks), a sequence has {config.training.seq_len}; type training.seq_len={longest} or more",
            )


def _counts(config: RunConfig, facts: Facts) -> dict[str, TokenCount]:
    """What is known of the sources, by name."""
    found = {source.name: facts.tokens.get((source.dataset, source.name)) for source in config.data.sources}
    return {name: count for name, count in found.items() if count is not None}
