"""mmhydra.testing: legal, illegal for a reason, and the texts of what is not as expected."""

from pathlib import Path

import pytest

from mmhydra.config.rules import RULES
from mmhydra.testing import RULE_NAMES, ConfigCheck, assert_illegal, assert_legal, problems

LAB = Path(__file__).parents[3] / "docs" / "examples" / "lab" / "conf"
TOO_LARGE = ("model=10b", "parallel=tp4pp8", "precision=bf16")


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    monkeypatch.delenv("MMHYDRA_CLUSTER", raising=False)


def failure(check, *overrides, **arguments) -> str:
    with pytest.raises(AssertionError) as raised:
        check(*overrides, **arguments)
    return str(raised.value)


# ---------------------------------------------------------------- problems


def test_a_legal_config_has_no_problems():
    assert problems() == []


def test_problems_of_rules():
    found = problems("model.num_heads=5", "optim.warmup_steps=1000")
    assert {"heads", "warmup"} <= {problem.rule for problem in found}


def test_notes_are_no_reasons():
    assert problems("checkpoint.interval=100000") == []


def test_problems_of_the_schema():
    assert [(problem.keys, problem.rule) for problem in problems("training.steps=x")] == [
        (("training.steps",), "schema")
    ]


def test_problems_of_the_command_line():
    (problem,) = problems("optim.lrr=1")
    assert (problem.keys, problem.rule) == (("optim.lrr",), "unknown_key")


def test_any_other_refusal_is_one_problem(tmp_path):
    (problem,) = problems(config_dirs=[tmp_path / "nowhere"])
    assert problem.rule == ""
    assert "there is no such folder" in problem.message


def test_a_secret_is_a_problem():
    (problem,) = problems(f"tag=hf_{'aB3dE5gH7j' * 4}")
    assert "nothing secret may be in it" in problem.message
    assert "aB3dE5" not in problem.message


def test_folders_of_the_user_may_be_texts():
    assert problems("model=tiny", "+lab=long_context", config_dirs=[str(LAB)]) == []
    assert "no such choice" in problems("model=tiny")[0].message


# ---------------------------------------------------------------- assert_legal


def test_legal_returns_the_config():
    assert assert_legal("optim.lr=1e-3").optim.lr == 1e-3


def test_legal_names_all_problems_and_their_places():
    text = failure(assert_legal, "model.num_heads=5", "optim.warmup_steps=1000")
    head, *lines = text.splitlines()
    assert head == "model.num_heads=5 optim.warmup_steps=1000 is illegal"
    assert "dim 128 is no multiple of 5 heads" in text
    assert "a warmup of 1000 steps does not fit into 200 steps" in text
    assert any("conf/model/debug.yaml:" in line for line in lines)
    assert any("model.num_heads=5 (command line)" in line for line in lines)


def test_legal_names_places_of_what_can_not_be_typed():
    assert "training.steps=x (command line)" in failure(assert_legal, "training.steps=x")


def test_legal_without_overrides(tmp_path):
    text = failure(assert_legal, config_dirs=[tmp_path / "nowhere"])
    assert text.startswith(f"the config without overrides is illegal\n{tmp_path / 'nowhere'}: there is no such folder")


# ---------------------------------------------------------------- assert_illegal


@pytest.mark.parametrize(
    ("overrides", "because"),
    [
        (TOO_LARGE, "world_size"),
        (TOO_LARGE, r"needs a multiple of 32 GPUs"),
        (("training.steps=x",), "schema"),
        (("training.steps=x",), r"valid integer, got 'x'"),
        (("optim.lrr=1",), r"did you mean optim\.lr"),
        (("optim.lrr=1",), r"^optim\.lrr: "),
        (("model=10c",), r"no such choice"),
        (("model",), r"not of the form KEY=VALUE"),
        (("model=1b", "model=10b"), r"given twice and differently"),
    ],
)
def test_illegal_for_a_reason(overrides, because):
    assert_illegal(*overrides, because=because)


def test_illegal_with_folders_of_the_user():
    assert_illegal("model=tiny", "parallel=tp2", because="tp_shards", config_dirs=[LAB])


def test_a_legal_config_is_not_illegal():
    assert failure(assert_illegal, "optim.lr=1e-3", because="heads") == (
        "optim.lr=1e-3 is legal; expected it to be illegal because of 'heads'"
    )


@pytest.mark.parametrize("because", ["heads", "no multiple of 5 heads"])
def test_other_reasons_do_not_count(because):
    text = failure(assert_illegal, *TOO_LARGE, because=because)
    assert f"is illegal, but not because of {because!r}; rules that refuse it: world_size\n" in text
    assert "needs a multiple of 32 GPUs" in text


def test_problems_without_a_rule_are_shown_as_such():
    text = failure(assert_illegal, because="schema", config_dirs=["/nowhere"])
    assert "rules that refuse it: (no rule)" in text


def test_a_rule_is_not_looked_for_in_messages():
    # "microbatches" stands in the message of batch; only the rule counts.
    overrides = ("parallel=pp2", "training.microbatch_size=3")
    assert {problem.rule for problem in problems(*overrides)} == {"batch"}
    assert any("microbatch" in problem.message for problem in problems(*overrides))
    assert "not because of 'microbatches'" in failure(assert_illegal, *overrides, because="microbatches")


@pytest.mark.parametrize("because", ["head", "worldsize", "World_Size", "divide"])
def test_a_single_word_is_a_rule_so_that_a_typo_can_not_pass(because):
    text = failure(assert_illegal, "model.num_heads=5", because=because)
    assert f"because={because!r}: no such rule; legal: awaits, batch, " in text
    assert all(name in text for name in RULE_NAMES)


@pytest.mark.parametrize("because", ["", ".*", "(heads)?", "x*|y", ".", ": ", r"\w", "[^a]", "\0|never"])
def test_a_reason_that_is_in_every_message_is_none(because):
    assert "is found in every message" in failure(assert_illegal, "model.num_heads=5", because=because)


def test_a_broken_expression_is_told():
    text = failure(assert_illegal, "model.num_heads=5", because="heads (of")
    assert "neither a rule nor a regular expression: missing )" in text


def test_all_rules_can_be_named():
    assert {rule.__name__ for rule in RULES} < set(RULE_NAMES)
    assert {"schema", "unknown_key", "given_twice", "command", "confirm"} < set(RULE_NAMES)
    assert len(set(RULE_NAMES)) == len(RULE_NAMES)
    assert all(name.isidentifier() for name in RULE_NAMES)


# ---------------------------------------------------------------- ConfigCheck


def test_config_check_knows_its_folders():
    check = ConfigCheck((LAB,))
    assert check.legal("model=tiny").model.name == "tiny"
    check.illegal("model=tiny", "parallel=tp2", because="tp_shards")
    assert "model=tiny is legal" in failure(check.illegal, "model=tiny", because="heads")
