"""What is wrong with a study beyond the types of its values; each function looks at one thing."""

import math
from collections.abc import Collection, Iterator, Sequence
from difflib import get_close_matches

from mmhydra.sweep.study.blocks import Block, Resources, Study
from mmhydra.sweep.study.document import Loc
from mmhydra.sweep.study.filters import Filter, unknown_name
from mmhydra.sweep.study.overrides import fault_of_key, fault_of_override, split

MAX_POINTS = 100_000  # before filters; more is a slip, or a search
SEED_KEYS = ("seed.model", "seed.data")
_OF_START = ("checkpoint.init_from", "checkpoint.extend_from", "checkpoint.awaits")
_OF_POINTS = ("axes", "zip", "points", "only", "exclude", "seeds")
Fault = tuple[Loc, str]


def find_faults(study: Study, typed: Collection[str] | None) -> Iterator[Fault]:
    """All of them, each with its place; `typed` as in `read_study`."""
    blocks: list[tuple[Loc, Block]] = [((), study)]
    blocks += [(("stages", name), stage) for name, stage in (study.stages or {}).items()]
    for loc, block in blocks:
        yield from _of_overrides(block.overrides, (*loc, "overrides"))
        yield from _of_resources(block, loc)
        yield from _of_factors(block, loc)
    yield from _of_form(study)
    yield from _of_stages(study)
    yield from _of_stop(study)
    yield from _of_space(study)
    if typed is not None:
        yield from _of_filters(study, typed)


def _keys_of(overrides: Sequence[str]) -> set[str]:
    """The keys that overrides set."""
    return {one.key for one in map(split, overrides) if one.sign != "~"}


def _factor_keys(block: Block) -> list[str]:
    """The keys of axes, zips, the list and the seeds, without signs; one that two of them have stands twice."""
    listed = dict.fromkeys(key for point in block.points or () for key in point)
    found = [*block.axes, *(key for part in block.zip for key in part), *listed]
    return [*(split(key).key for key in found), *(SEED_KEYS if block.seeds else ())]


def _of_overrides(overrides: Sequence[str], loc: Loc) -> Iterator[Fault]:
    seen: dict[str, str] = {}
    for index, text in enumerate(overrides):
        key = split(text).key
        if fault := fault_of_override(text):
            yield (*loc, index), fault
        elif key in seen:
            yield (*loc, index), f"{key} is given twice, {seen[key]} and {text}; leave one of them out"
        seen[key] = text


def _of_resources(block: Block, loc: Loc) -> Iterator[Fault]:
    axes = {*_factor_keys(block)}
    for index, rule in enumerate(block.resources):
        yield from _of_overrides(rule.overrides, (*loc, "resources", index, "overrides"))
        if both := sorted(_keys_of(rule.overrides) & axes):
            yield (
                (*loc, "resources", index, "overrides"),
                f"{', '.join(both)} is an axis too, and a point has one value of it; leave it out of one of them",
            )
        if rule.when is None and index < len(block.resources) - 1:
            yield (*loc, "resources", index), "a rule without when takes all points; let it be the last"


def _of_factors(block: Block, loc: Loc) -> Iterator[Fault]:
    """Axes, zips and the list: legal keys, each once, with values."""
    for key, values in block.axes.items():
        yield from _of_axis(key, len(values), (*loc, "axes", key))
    for index, part in enumerate(block.zip):
        place = (*loc, "zip", index)
        for key, values in part.items():
            yield from _of_axis(key, len(values), (*place, key))
        if len({*map(len, part.values())}) > 1:
            lengths = ", ".join(f"{key} has {len(values)}" for key, values in part.items())
            yield place, f"the lists of a block go together, so all have one length; {lengths}"
        if not part:
            yield place, "there is no list in this block; leave it out"
    if block.points is not None and not block.points:
        yield (*loc, "points"), "there is no point in this list; leave it out"
    for index, point in enumerate(block.points or ()):
        for key in point:
            yield from _of_axis(key, 1, (*loc, "points", index, key))
    keys = _factor_keys(block)
    for key in sorted({key for key in keys if keys.count(key) > 1}):
        yield loc, f"{key} stands in two of axes, zip, points and seeds; leave it out of all but one"
    for key in sorted(_keys_of(block.overrides) & {*keys}):
        yield (*loc, "overrides"), f"{key} is an axis too, so this would never count; leave it out of one of them"
    number = count(block)
    if number > MAX_POINTS:
        yield loc, f"that makes {number:,} points, at most {MAX_POINTS:,} are legal; type fewer values, or a search"


def _of_axis(key: str, number: int, loc: Loc) -> Iterator[Fault]:
    if fault := fault_of_key(key):
        yield loc, fault
    elif not number:
        yield loc, "there is no value in this list; write some, or leave the key out"


def count(block: Block) -> int:
    """The points of a block for one parent, before filters."""
    lengths = [len(values) for values in block.axes.values()]
    lengths += [min(map(len, part.values()), default=1) for part in block.zip]
    return math.prod([*lengths, len(block.points or (1,)), len(block.seeds or (1,))])


def _of_form(study: Study) -> Iterator[Fault]:
    """Stages, or a search, or points on the top."""
    given = [name for name in (*_OF_POINTS, "stages") if getattr(study, name) not in ({}, (), None)]
    for name in given:
        if study.stages is not None and name != "stages":
            yield (name,), f"a study with stages has none of {', '.join(_OF_POINTS)} beside them; move it into a stage"
        if study.search is not None:
            yield (name,), "a search makes its points itself; leave it out, or leave the search out"


def _of_stages(study: Study) -> Iterator[Fault]:
    before: list[str] = []
    for name, stage in (study.stages or {}).items():
        loc = ("stages", name)
        if stage.after is None:
            for key in ("start", "best"):
                if key in stage.model_fields_set and getattr(stage, key) not in (None, "none"):
                    yield (*loc, key), "it is about the stage before; write after: STAGE"
        elif stage.after not in before:
            near = get_close_matches(stage.after, before, 1)
            meant = f"did you mean {near[0]}? " if near else ""
            legal = ", ".join(before) or "none, since this is the first"
            yield (*loc, "after"), f"no stage {stage.after} stands before this one; {meant}(legal: {legal})"
        if stage.start != "none":
            given = _keys_of(stage.overrides) | {*_factor_keys(stage)}
            for key in sorted(given & {*_OF_START}):
                yield loc, f"start: {stage.start} sets {key}; leave it out"
        before.append(name)


def _of_stop(study: Study) -> Iterator[Fault]:
    wrong = {"minimize": "metric_above", "maximize": "metric_below"}[study.direction]
    if getattr(study.stop, wrong) is not None:
        right = {"metric_above": "metric_below", "metric_below": "metric_above"}[wrong]
        yield ("stop", wrong), f"with direction: {study.direction} the first point may end all; write {right}"


def _of_space(study: Study) -> Iterator[Fault]:
    if study.search is None:
        return
    given = _keys_of(study.overrides)
    ruled = {key for rule in study.resources for key in _keys_of(rule.overrides)}
    for key in study.search.space:
        name = split(key).key
        if fault := fault_of_key(key):
            yield ("search", "space", key), fault
        elif name in given | ruled:
            where = "overrides" if name in given else "resources"
            yield ("search", "space", key), f"it stands under {where} too; leave it out of one of them"


def _of_filters(study: Study, typed: Collection[str]) -> Iterator[Fault]:
    """Expressions ask for values that points have. Rules of the study need them in one of its stages at least."""
    known = {name: _known_names(study, name) | {*typed} for name in study.all_stages}
    everything: set[str] = set().union(*known.values())
    if study.stages is None:
        yield from _of_block_filters(study, (), everything)
        return
    yield from _of_rules(study.resources, (), everything)
    for name, stage in study.stages.items():
        yield from _of_block_filters(stage, ("stages", name), known[name])


def _of_block_filters(block: Block, loc: Loc, known: set[str]) -> Iterator[Fault]:
    for key in ("only", "exclude"):
        for one in getattr(block, key):
            yield from _of_filter(one, (*loc, key), known)
    yield from _of_rules(block.resources, loc, known)


def _of_rules(rules: Sequence[Resources], loc: Loc, known: set[str]) -> Iterator[Fault]:
    for index, rule in enumerate(rules):
        if rule.when is not None:
            yield from _of_filter(rule.when, (*loc, "resources", index, "when"), known)


def _of_filter(one: Filter, loc: Loc, known: set[str]) -> Iterator[Fault]:
    for name in sorted(one.names - known):
        yield loc, f"{one.text!r}: {unknown_name(name, known)}"


def _known_names(study: Study, name: str | None) -> set[str]:
    """The names that points of a stage may have values for, before anything is typed beside `sweep=`."""
    found = _keys_of(study.overrides)
    if study.search is not None:
        found |= {split(key).key for key in study.search.space}
    seen: set[str | None] = set()
    while name not in seen:
        seen.add(name)
        stage = study.all_stages.get(name)
        if stage is None:
            break
        found |= _keys_of(stage.overrides) | {*_factor_keys(stage)} | ({"seed"} if stage.seeds else set())
        if stage.after is None:
            break
        name = stage.after
    return found
