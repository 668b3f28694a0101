"""Random studies against an expansion that is as plain as it can be."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mmhydra.errors import UserError
from mmhydra.sweep.study.expand import expand
from mmhydra.sweep.study.files import read_study

KEYS = ("optim.lr", "optim.weight_decay", "training.steps", "tag", "model", "parallel")
VALUES = (1, 2, 0.5, 8, "1b", "x y")
# Filters as the study has them, and the same in Python over a dict of values.
FILTERS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "optim.lr == 1": lambda point: point["optim.lr"] == 1,
    "optim.lr in [1, 'x y'] or tag != 2": lambda point: point["optim.lr"] in (1, "x y") or point["tag"] != 2,
    "not model == '1b'": lambda point: point["model"] != "1b",
}
ASKED = {text: {key for key in KEYS if key in text} for text in FILTERS}


@dataclass
class Naive:
    """A point: what it sets, by key; who its parent is, and what it takes of it."""

    values: dict[str, Any]
    stage: str
    parent: int | None = None
    start: str = "none"
    index: int = field(default=-1, compare=False)


lists = st.lists(st.sampled_from(VALUES), min_size=1, max_size=3, unique_by=repr)


@st.composite
def blocks(draw: st.DrawFn, known: frozenset[str]) -> dict[str, Any]:
    """One stage; `known` are the keys that its parents have."""
    keys = draw(st.permutations(KEYS))
    number = draw(st.integers(0, 4))
    factors = [draw(st.sampled_from(("axes", "zip", "points", "overrides"))) for _ in range(number)]
    block: dict[str, Any] = {}
    for key, kind in zip(keys, factors, strict=False):
        if kind == "axes":
            block.setdefault("axes", {})[key] = draw(lists)
        elif kind == "zip":
            together = block.setdefault("zip", [{}])[0]
            length = len(next(iter(together.values()), draw(lists)))
            together[key] = draw(st.lists(st.sampled_from(VALUES), min_size=length, max_size=length))
        elif kind == "points":
            for point in block.setdefault("points", [{} for _ in range(draw(st.integers(1, 2)))]):
                point[key] = draw(st.sampled_from(VALUES))
        else:
            value = draw(st.sampled_from(VALUES))
            block.setdefault("overrides", []).append(f"{key}='{value}'" if value == "x y" else f"{key}={value}")
    if draw(st.booleans()):
        block["seeds"] = draw(st.integers(1, 2))
    there = known | {*keys[:number]}
    legal = [text for text in FILTERS if ASKED[text] <= there]
    for kind in ("only", "exclude"):
        if legal and draw(st.booleans()):
            block[kind] = draw(st.sampled_from(legal))
    return block


@st.composite
def studies(draw: st.DrawFn) -> dict[str, dict[str, Any]]:
    """Stages by name, in their order."""
    stages: dict[str, dict[str, Any]] = {}
    known: dict[str, frozenset[str]] = {}
    for name in ("one", "two", "three")[: draw(st.integers(1, 3))]:
        after = draw(st.sampled_from([None, *stages]))
        stage = draw(blocks(known[after] if after else frozenset()))
        if after:
            stage |= {"after": after, "start": draw(st.sampled_from(("none", "init", "extend")))}
        stages[name] = stage
        own = [*stage.get("axes", {}), *(key for part in stage.get("zip", []) for key in part)]
        own += [key for point in stage.get("points", []) for key in point]
        own += [text.partition("=")[0] for text in stage.get("overrides", [])]
        known[name] = frozenset(own) | (known[after] if after else frozenset())
    return stages


def as_values(overrides: Sequence[str]) -> dict[str, Any]:
    pairs = (text.partition("=") for text in overrides)
    return {key: yaml.safe_load(value) for key, _, value in pairs}


def naive(stages: dict[str, dict[str, Any]]) -> Iterator[Naive]:
    made: list[Naive] = []
    for name, stage in stages.items():
        of_stage: list[Naive] = []
        parents = [one for one in made if one.stage == stage["after"]] if "after" in stage else [None]
        for parent in parents:
            factors: list[list[dict[str, Any]]] = [
                [{key: value} for value in values] for key, values in stage.get("axes", {}).items()
            ]
            for part in stage.get("zip", []):
                length = len(next(iter(part.values())))
                factors.append([{key: part[key][place] for key in part} for place in range(length)])
            factors.append(stage.get("points", [{}]))
            seeds = range(42, 42 + stage["seeds"]) if "seeds" in stage else ()
            factors.append([{"seed.model": seed, "seed.data": seed} for seed in seeds] or [{}])
            for places in itertools.product(*factors):
                values = (dict(parent.values) if parent else {}) | as_values(stage.get("overrides", []))
                for place in places:
                    values |= place
                if not FILTERS.get(stage.get("only"), lambda _: True)(values):
                    continue
                if FILTERS.get(stage.get("exclude"), lambda _: False)(values):
                    continue
                start = stage.get("start", "none")
                point = Naive(values, name, parent.index if parent else None, start if parent else "none")
                same = [
                    one
                    for one in of_stage
                    if one.values == values and (point.start == "none" or one.parent == point.parent)
                ]
                if not same:
                    point.index = len(made) + len(of_stage)
                    of_stage.append(point)
        made += of_stage
    return iter(made)


def all_have_points(stages: dict[str, dict[str, Any]], points: list[Naive]) -> bool:
    return {one.stage for one in points} == {*stages}


@settings(deadline=None)
@given(studies())
def test_a_study_is_what_it_says(stages: dict[str, dict[str, Any]]) -> None:
    expected = list(naive(stages))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "random.yaml"
        path.write_text(yaml.safe_dump({"question": "a", "stop_rule": "b", "stages": stages}, sort_keys=False))
        study = read_study(path)
        if not all_have_points(stages, expected):
            with pytest.raises(UserError, match="no point is left"):
                expand(study)
            return
        planned = expand(study)
    found = [
        Naive(
            as_values(point.overrides),
            point.stage or "",
            point.parent.index if point.parent else None,
            point.parent.start if point.parent else "none",
        )
        for point in planned
    ]
    assert found == expected
    for index, point in enumerate(planned):
        assert point.parent is None or point.parent.index < index
    # A label tells a point from all others of its stage and parent.
    told = {(point.stage, point.parent, tuple(point.label.items())) for point in planned}
    assert len(told) == len(planned)


@settings(deadline=None)
@given(st.lists(lists, min_size=1, max_size=4))
def test_the_number_of_points_is_the_product(axes: list[list[Any]]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "random.yaml"
        document = {"question": "a", "stop_rule": "b", "axes": dict(zip(KEYS, axes, strict=False))}
        path.write_text(yaml.safe_dump(document))
        assert len(expand(read_study(path))) == math.prod(map(len, axes))
