"""Each rule alone, by the cases of tests/support/rule_cases; and what holds of all rules together."""

import re
from typing import Any

import pytest
from rule_cases import CASES, NOTES
from rule_cases.case import TEXT_ONLY
from rule_cases.machines import WORLD

from mmhydra.compose import known_clusters
from mmhydra.config.facts import Facts, TokenCount
from mmhydra.config.rules import RULES, SLURM_RULES, check
from mmhydra.config.rules.legal import divisors


@pytest.fixture
def default_config(default_config, change):
    return change(default_config, TEXT_ONLY)


@pytest.fixture(scope="module")
def facts():
    """The shipped clusters, a demo dataset of 100,000 tokens a source, and datasets that lack something."""
    tokens = {("demo-v2", source): TokenCount(100_000, 5_000) for source in ("stdlib_code", "stdlib_docs")}
    tokens |= {
        ("all-train", "stdlib_code"): TokenCount(100_000, 0),
        ("all-heldout", "stdlib_code"): TokenCount(0, 5_000),
        ("images", "stdlib_code"): TokenCount(100_000, 5_000, largest_unit=258),
        ("audio", "stdlib_docs"): TokenCount(100_000, 5_000, largest_unit=130),
    }
    return Facts(known_clusters(), tokens)


def refused(config, facts):
    """The problems that stop a run."""
    return [problem for problem in check(config, facts) if not problem.is_note]


def test_the_default_config_has_no_problem(default_config, facts):
    assert check(default_config, facts) == []


@pytest.mark.parametrize("name", CASES)
def test_a_rule_alone(default_config, change, facts, name):
    case = CASES[name]
    problems = refused(change(default_config, case.wrong), facts)
    assert [problem.keys for problem in problems] == case.problems
    text = "\n".join(str(problem) for problem in problems)
    assert [fragment for fragment in case.texts if fragment not in text] == [], text
    assert refused(change(default_config, case.right), facts) == []


def test_every_rule_has_a_case(default_config, change, facts):
    silent = {rule.__name__ for rule in RULES if rule not in SLURM_RULES}  # those are in test_slurm_rules.py
    for case in CASES.values():
        silent -= {problem.rule for problem in refused(change(default_config, case.wrong), facts)}
    assert silent == set()


@pytest.mark.parametrize("name", NOTES)
def test_what_is_only_noted(default_config, change, facts, name):
    leaves, rule = NOTES[name]
    problems = check(change(default_config, leaves), facts)
    assert [(problem.rule, problem.is_note) for problem in problems] == [(rule, True)]


def test_rules_about_tokens_keep_silent_where_the_data_is_not_at_hand(default_config, change):
    config = change(default_config, {"data.max_epochs": 0.001, "training.seq_len": 8192})
    assert {"token_budget", "validation"}.isdisjoint(problem.rule for problem in check(config, Facts()))


def test_what_another_cluster_cures_is_marked(default_config, change, facts):
    cured = {"too many processes", "not the whole cluster", "tp across nodes", "float8 on CPU", "pinned memory"}
    for name, case in CASES.items():
        marks = {problem.placement for problem in refused(change(default_config, case.wrong), facts)}
        assert (True in marks) == (name in {*cured, "no limit to processes"}), name


def test_all_problems_come_at_once_in_a_fixed_order(default_config, change, facts):
    names = ["too many processes", "warmup", "rate", "keep one", "relative data"]
    leaves: dict[str, Any] = {"training.global_batch_size": 19, "parallel.dp_replicate": 2}
    for name in names:
        leaves = CASES[name].wrong | leaves
    keys = [problem.keys for problem in refused(change(default_config, leaves), facts)]
    assert keys == [
        WORLD,
        ("optim.warmup_steps", "training.steps", "training.tokens"),
        ("optim.min_lr", "optim.lr"),
        ("parallel.dp_replicate", "parallel.dp"),
        ("training.global_batch_size", "training.microbatch_size", "parallel.dp"),
        ("checkpoint.keep_latest",),
        ("paths.data",),
    ]


def test_a_message_names_its_keys(default_config, change, facts):
    (problem,) = check(change(default_config, {"checkpoint.keep_latest": 1}), facts)
    assert re.match(r"checkpoint\.keep_latest: 1 is not legal; ", str(problem))


def test_divisors_stop_at_the_limit():
    assert divisors(12) == [1, 2, 3, 4, 6, 12]
    assert divisors(128) == [1, 2, 4, 8, 16, 32, 64]
