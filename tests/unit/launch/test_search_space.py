"""The `search:` block of a study."""

import math
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mmhydra.sweep.study.space import Dimension, Search, corners, override_value, texts


def search(**more: Any) -> Search:
    return Search.model_validate({"space": {"optim.lr": {"low": 1e-4, "high": 1e-2}}, "num_trials": 5, **more})


def refused(document: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as caught:
        Search.model_validate(document)
    return "\n".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in caught.value.errors())


@given(
    st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-(2**62), 2**62)
    | st.booleans()
    | st.none()
    | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
)
def test_hydra_reads_the_very_value(value):
    (override,) = OverridesParser.create().parse_overrides([f"a.b={override_value(value)}"])
    found = override.value()
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("dimension", "told"),
    [
        ({"low": 1.0}, "either low and high"),
        ({}, "either low and high"),
        ({"low": 2, "high": 1}, "low 2 is above high 1"),
        ({"low": 0, "high": 1, "log": True}, "log needs a low above 0"),
        ({"low": 1, "high": 2, "log": True, "step": 0.5}, "exclude each other"),
        ({"low": 1, "high": 2, "step": 3}, "step 3 is not between"),
        ({"low": 1, "high": 2.5, "int": True}, "whole numbers"),
        ({"choices": [1, 2], "low": 1}, "choices stand alone"),
        ({"choices": [1, 1]}, "twice"),
        ({"choices": []}, "at least 1 item"),
        ({"low": 1, "hihg": 2}, "hihg"),
    ],
)
def test_a_dimension_that_means_nothing_is_refused(dimension, told):
    assert told in refused({"space": {"optim.lr": dimension}, "num_trials": 3})


def test_what_can_not_be_a_search_is_refused():
    space = {"optim.lr": {"low": "1e-4", "high": 1e-2}}
    assert "'here' or 'job'" in refused({"space": space, "num_trials": 3, "driver": {"where": "there"}})
    assert "partition: a driver that runs here" in refused(
        {"space": space, "num_trials": 3, "driver": {"where": "here", "partition": "main"}}
    )
    assert "can't count the values of optim.lr" in refused(
        {"space": space, "num_trials": 3, "sampler": {"kind": "grid"}}
    )
    assert "num_trials" in refused({"space": space, "num_trials": 0})
    assert "halving.factor" in refused({"space": space, "num_trials": 3, "halving": {"min_steps": 1, "factor": 1}})


def test_numbers_of_yaml_that_people_write_with_an_exponent_are_numbers():
    dimension = Dimension.model_validate({"low": "1e-5", "high": "1e-2", "log": True})
    assert (dimension.low, dimension.high) == (1e-5, 1e-2)


def test_the_corners_hold_every_extreme_of_every_key():
    few = search(space={"a": {"low": 1, "high": 2}, "b": {"choices": ["x", "y", "z"]}})
    assert len(list(corners(few))) == 6
    many = search(space={f"k{number}": {"low": number, "high": number + 1} for number in range(9)})
    found = list(corners(many))
    assert len(found) == 10
    for number in range(9):
        assert {values[f"k{number}"] for values in found} == {number, number + 1}


def test_the_values_of_a_range_with_steps_are_counted():
    assert Dimension.model_validate({"low": 2, "high": 8, "step": 3, "int": True}).values == [2, 5, 8]
    values = Dimension.model_validate({"low": 0, "high": 0.3, "step": 0.1}).values
    assert values is not None
    assert all(math.isclose(value, number / 10) for number, value in enumerate(values))
    assert len(values) == 4
    assert Dimension.model_validate({"low": 0, "high": 1}).values is None


def test_overrides_stand_in_the_order_of_the_space():
    found = texts({"model": "100m", "optim.lr": 1e-5, "tag": "a b"})
    assert list(found.items()) == [("model", "100m"), ("optim.lr", "1e-05"), ("tag", "'a b'")]


def test_so_many_runs_as_there_are_different_values():
    few = {"a": {"low": 1, "high": 3, "int": True}, "b": {"choices": ["x", "y"]}}
    assert search(space=few, num_trials=50).num_runs == 6
    assert search(space=few, num_trials=5).num_runs == 5
    assert search(space=few, num_trials=50, sampler={"kind": "grid"}).num_runs == 6
    assert search(space={**few, "c": {"low": 0.0, "high": 1.0}}, num_trials=50).num_runs == 50
    assert search(space={"a": {"low": 0.0, "high": 1.0, "step": 0.25}}, num_trials=50).num_runs == 5
    assert search(space={"a": {"low": 0, "high": 1e15, "int": True}}, num_trials=50).num_runs == 50
