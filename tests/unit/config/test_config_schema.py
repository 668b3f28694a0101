"""The typed border lets nothing through that a YAML file or a slip of the hand could hold by accident."""

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from mmhydra.config.base import Section
from mmhydra.config.schema import RunConfig
from mmhydra.config.typed import to_run_config
from mmhydra.errors import UserError

WRONG = [
    ("training.steps", "5", "valid integer"),
    ("training.steps", 1.5, "valid integer"),
    ("training.steps", True, "valid integer"),
    ("training.steps", -1, "greater than or equal to 0"),
    ("training.steps", float("nan"), "valid integer"),
    ("training.tokens", float("inf"), "valid integer"),
    ("training.tokens", 0, "greater than or equal to 1"),
    ("training.global_batch_size", 0, "greater than or equal to 1"),
    ("training.microbatch_size", "all", "valid integer or 'auto'"),
    ("training.deterministic", 1, "valid boolean"),
    ("training.deterministic", "true", "valid boolean"),
    ("parallel.dp", 0, "greater than or equal to 1 or 'auto'"),
    ("parallel.schedule", "1f1b", "'1F1B', 'GPipe' or 'Interleaved1F1B'"),
    ("optim.lr", float("nan"), "finite number"),
    ("optim.lr", float("inf"), "finite number"),
    ("optim.lr", "1e-4", "valid number"),
    ("optim.lr", 0.0, "greater than 0"),
    ("optim.beta1", 1.0, "less than 1"),
    ("model.dim", None, "valid integer"),
    ("name", "a/b", "match pattern"),
    ("name", "..", "match pattern"),
    ("name", "", "match pattern"),
    ("name", "line\n", "match pattern"),
    ("name", "x" * 101, "at most 100"),
    ("track.aim", {"repo": 5}, "valid string"),
    ("data.sources", [], "at least 1 item"),
    ("data.sources.0.modality", "smell", "'text'"),
]


@pytest.mark.parametrize(("key", "value", "text"), WRONG, ids=[f"{key}={value!r}"[:50] for key, value, _ in WRONG])
def test_a_value_of_the_wrong_type_or_range_is_named(default_config, change, key, value, text):
    with pytest.raises(UserError) as refusal:
        change(default_config, {key: value})
    (line,) = str(refusal.value).splitlines()
    assert line.startswith((f"{key}: ", f"{key}.repo: "))
    assert text in line


@pytest.mark.parametrize("value", [1e12, 1_000_000_000_000])
def test_a_count_may_be_written_with_an_exponent(default_config, change, value):
    tokens = change(default_config, {"training.tokens": value}).training.tokens
    assert type(tokens) is int
    assert tokens == 10**12


def test_a_whole_number_is_a_float_where_one_is_asked_for(default_config, change):
    rate = change(default_config, {"optim.lr": 1}).optim.lr
    assert type(rate) is float


def test_a_number_for_text_says_how_to_quote_it(default_config, change):
    with pytest.raises(UserError, match=r"""tag: .* got 1; for text, type tag='"1"'"""):
        change(default_config, {"tag": 1})


def sections(tree: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Paths of all mappings in a dumped config but those with free keys."""
    found: list[tuple[str | int, ...]] = []
    if isinstance(tree, dict):
        found.append(path)
        for key, value in tree.items():
            found += sections(value, (*path, key))
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            found += sections(value, (*path, index))
    return found


def test_every_section_refuses_unknown_and_missing_keys(default_config):
    for path in sections(default_config.model_dump()):
        tree: Any = default_config.model_dump()
        node = tree
        for part in path:
            node = node[part]
        dotted = ".".join(str(part) for part in (*path, ""))
        removed = next(iter(node))
        del node[removed]
        node["foo"] = 1
        with pytest.raises(UserError) as refusal:
            to_run_config(tree)
        assert f"{dotted}foo: no such key" in str(refusal.value)
        assert f"{dotted}{removed}: no value" in str(refusal.value)


def test_an_unknown_key_gets_a_suggestion(default_config):
    tree = default_config.model_dump()
    tree["training"]["stesp"] = 5
    with pytest.raises(UserError, match=r"training\.stesp: no such key; did you mean training\.steps"):
        to_run_config(tree)


def test_all_wrong_values_are_reported_at_once(default_config, change):
    with pytest.raises(UserError) as refusal:
        change(default_config, {"training.steps": "a", "model.dim": 0, "parallel.dp": "b", "tag": 3})
    assert len(str(refusal.value).splitlines()) == 5


def test_no_field_has_a_default():
    def walk(section: type[BaseModel]) -> None:
        for name, field in section.model_fields.items():
            assert field.is_required(), f"{section.__name__}.{name} has a default that no YAML file shows"

    for section in (RunConfig, *Section.__subclasses__()):
        walk(section)


def test_a_config_can_not_be_changed(default_config):
    with pytest.raises(ValidationError, match="frozen"):
        default_config.tag = "other"
    with pytest.raises(ValidationError, match="frozen"):
        default_config.training.steps = 5
    with pytest.raises(ValidationError, match="frozen"):
        default_config.data.sources[0].weight = 5.0


@pytest.mark.parametrize(("text", "told"), [("a\0b", "a NUL character"), ("a\ud800", "text that is no UTF-8")])
@pytest.mark.parametrize(
    ("key", "value", "where"),
    [
        ("tag", "{}", "tag"),
        ("name", "{}", "name"),
        ("paths.outputs", "/tmp/{}", "paths.outputs"),
        ("checkpoint.init_from", "/tmp/{}", "checkpoint.init_from"),
        ("tokens.special", ["<a>", "{}"], "tokens.special"),
        ("parallel.schedule", "{}", "parallel.schedule"),
        ("data.sources.0.name", "{}", "data.sources.0.name"),
        (
            "data.schedule",
            [{"name": "a", "fraction": 1.0, "lr_multiplier": [1.0, 1.0], "shares": {"{}": [1.0, 1.0]}}],
            "data.schedule.0.shares",
        ),
    ],
)
def test_text_that_no_file_can_hold_is_refused(default_config, change, text, told, key, value, where):
    def filled(part: Any) -> Any:
        if isinstance(part, dict):
            return {filled(name): filled(inside) for name, inside in part.items()}
        if isinstance(part, list):
            return [filled(inside) for inside in part]
        return part.replace("{}", text) if isinstance(part, str) else part

    with pytest.raises(UserError) as refusal:
        change(default_config, {key: filled(value)})
    (line,) = str(refusal.value).splitlines()
    assert line.startswith(f"{where}: {told}")
