"""Stages in whole steps, and what elements of lists may leave out."""

from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mmhydra.compose import compose
from mmhydra.config.data import Source
from mmhydra.config.facts import Facts
from mmhydra.config.problems import ConfigError
from mmhydra.config.rules import check
from mmhydra.config.stages import lr_factor, mean_shares, stage_steps, stages

TWO = [
    {"name": "stdlib_code", "dataset": "demo-v2", "modality": "text", "weight": 3.0},
    {"name": "stdlib_docs", "dataset": "demo-v2", "modality": "text", "weight": 1.0},
]
ONLY = {"stdlib_code": [1.0, 1.0]}


def scheduled(change, config, *lengths, **leaves):
    schedule = [
        {"name": f"s{number}", **length, "shares": ONLY, "lr_multiplier": [1.0, 1.0]}
        for number, length in enumerate(lengths)
    ]
    return change(config, {"data.schedule": schedule, **leaves})


def test_fractions_share_what_stages_of_fixed_length_leave(default_config, change):
    lengths = ({"steps": 30}, {"fraction": 0.25}, {"tokens": 2049}, {"fraction": 0.75})
    config = scheduled(change, default_config, *lengths)
    assert stage_steps(config) == [30, 42, 2, 126]
    spans = stages(config)
    assert [(span.first_step, span.end_step) for span in spans] == [(1, 31), (31, 73), (73, 75), (75, 201)]


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=12), st.integers(1, 10**7))
def test_the_stages_have_all_steps_and_none_twice(default_config, change, parts, steps):
    fractions = [part / sum(parts) for part in parts]  # rounded, so that they sum to 1 only nearly
    config = scheduled(change, default_config, *({"fraction": one} for one in fractions), **{"training.steps": steps})
    lengths = stage_steps(config)
    assert sum(lengths) == steps
    for length, fraction in zip(lengths, fractions, strict=True):
        assert abs(length - fraction * steps) <= 1.001
    assume(all(lengths))
    assert [problem for problem in check(config, Facts()) if problem.rule == "shares" and not problem.is_note] == []


def test_without_a_schedule_there_is_one_stage_with_the_weights(default_config, change):
    (span,) = stages(change(default_config, {"data.sources": TWO}))
    assert (span.name, span.first_step, span.end_step, span.lr_start, span.lr_end) == ("all", 1, 201, 1.0, 1.0)
    assert span.start == span.end == {"stdlib_code": Fraction(3, 4), "stdlib_docs": Fraction(1, 4)}
    assert lr_factor([span], 77) == 1.0


def test_the_mean_of_linear_shares_is_that_of_their_edges(default_config, change):
    shares = {"stdlib_code": [1.0, 0.0], "stdlib_docs": [0.0, 1.0]}
    blend = {"name": "blend", "fraction": 1.0, "shares": shares, "lr_multiplier": [1.0, 0.5]}
    config = change(default_config, {"data.sources": TWO, "data.schedule": [blend]})
    assert mean_shares(config) == {"stdlib_code": Fraction(1, 2), "stdlib_docs": Fraction(1, 2)}
    assert [lr_factor(stages(config), step) for step in (1, 200)] == [1.0, 0.5]


def test_an_element_may_leave_out_what_came_later_and_nothing_else():
    given = {"name": "web", "dataset": "web-v1", "modality": "text", "weight": 1.0}
    assert Source.model_validate(given).max_epochs is None
    assert Source.model_validate({**given, "max_epochs": 2.0}).max_epochs == 2.0
    with pytest.raises(ConfigError, match=r"data\.sources\.0\.weight: no value"):
        compose(["data.sources=[{name: web, dataset: web-v1, modality: text}]"])


def test_what_is_left_out_is_told_how_to_add():
    with pytest.raises(
        ConfigError, match=r"leaves max_epochs out; to add it, type \+data\.sources\.0\.max_epochs=VALUE"
    ):
        compose(["data.sources.0.max_epochs=2.0"])
    assert compose(["+data.sources.0.max_epochs=2.0"]).config.data.sources[0].max_epochs == 2.0


def test_an_object_store_asks_for_its_folder():
    with pytest.raises(ConfigError, match=r"loader\.store\.url=VALUE"):
        compose(["loader=object_store"])
    with pytest.raises(ConfigError, match=r"loader\.store is null here, so it has no url; type loader=object_store"):
        compose(["loader.store.url=s3://bucket/data"])
    with pytest.raises(ConfigError, match=r"loader\.store\.url"):
        compose(["loader=object_store", "loader.store.url=bucket/data"])
    store = compose(["loader=object_store", "loader.store.url=s3://bucket/data"]).config.loader.store
    assert store is not None
    assert store.url == "s3://bucket/data"
