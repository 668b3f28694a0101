"""Values of a study become overrides that Hydra reads as the same values."""

from typing import Any

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mmhydra.sweep.study.values import ValueFault, names_several, quoted, read_node, read_text

PARSER = OverridesParser.create()
LETTERS = "ab1e0 .,'\"\\${}[]():=~+-_/%#&*!|>@\n\té%"
TEXTS = st.text(LETTERS, max_size=8) | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
WORDS = st.from_regex(r"[a-z_][a-z0-9_]{0,5}", fullmatch=True).filter(
    lambda word: word not in ("true", "false", "null")
)
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS | st.just("1")
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3), max_leaves=6
)


def as_hydra(text: str) -> Any:
    override = PARSER.parse_override(f"key={text}")
    assert not override.is_sweep_override()
    return plain(override.value())


def plain(value: Any) -> Any:
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items()}
    return value


@settings(deadline=None)
@given(TEXTS)
@example("\\\n")
@example("a\\'b\\")
@example("")
def test_text_survives(text: str) -> None:
    assert as_hydra(quoted(text)) == text
    assert as_hydra(f"[{quoted(text)},{quoted(text)}]") == [text, text]
    assert read_text(quoted(text)) == text


@settings(deadline=None)
@given(VALUES)
def test_whatever_yaml_holds_survives(value: Any) -> None:
    """As JSON, which is YAML: text in quotes, numbers and words without."""
    dumper = type("Dumper", (yaml.SafeDumper,), {})
    dumper.add_representer(str, lambda dump, text: dump.represent_scalar("tag:yaml.org,2002:str", text, style='"'))
    node = yaml.compose(yaml.dump(value, Dumper=dumper, allow_unicode=True), Loader=yaml.SafeLoader)
    found = read_node(node)
    assert found.value == value
    assert as_hydra(found.text) == value


@settings(deadline=None)
@given(st.text("a1be0.-+_/nulltrueifANE:x", min_size=1, max_size=6))
@example("1e-4")
@example("010")
@example("1:30")
@example("on")
@example("1_000")
@example("-inf")
def test_without_quotes_a_word_means_what_it_means_on_a_command_line(word: str) -> None:
    try:
        node = yaml.compose(word, Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        return
    if not isinstance(node, yaml.ScalarNode) or node.style is not None or node.value == "":
        return
    value = read_node(node)
    assert repr(as_hydra(value.text)) == repr(value.value)
    assert repr(as_hydra(node.value)) == repr(value.value)


@pytest.mark.parametrize(
    ("written", "text", "value"),
    [
        ("1e-4", "1e-4", 1e-4),
        ('"1e-4"', "'1e-4'", "1e-4"),
        ("true", "true", True),
        ("~", "null", None),
        ("", "null", None),
        ("100m", "100m", "100m"),
        ("mix_v0.2", "mix_v0.2", "mix_v0.2"),
        ("a b", "'a b'", "a b"),
        ("it's", r"'it\'s'", "it's"),
        ("${optim.lr}", "${optim.lr}", "${optim.lr}"),
        ('"${oc.env:A,b c}"', "'${oc.env:A,b c}'", "${oc.env:A,b c}"),
        ("[jsonl, aim]", "[jsonl,aim]", ["jsonl", "aim"]),
        ("{a: 1, b: [x, 'y z']}", "{a:1,b:[x,'y z']}", {"a": 1, "b": ["x", "y z"]}),
        ("[]", "[]", []),
    ],
)
def test_what_stands_there_and_the_override(written: str, text: str, value: Any) -> None:
    node = yaml.compose(f"key: {written}", Loader=yaml.SafeLoader).value[0][1]
    found = read_node(node)
    assert (found.text, found.value) == (text, value)
    assert as_hydra(found.text) == value


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("range(1, 3)", "is a function of Hydra; write its values"),
        ("!!python/name:os.system x", "tags of YAML are not read"),
        ("!mine x", "tags of YAML are not read"),
        (r'"\ud800"', "no UTF-8"),
        (r'"a\0b"', "NUL"),
        ("{'a b': 1}", "keys inside of a value"),
        ("{[a]: 1}", "keys inside of a value"),
    ],
)
def test_values_that_no_override_says(written: str, told: str) -> None:
    node = yaml.compose(f"key:\n - {written}", Loader=yaml.SafeLoader).value[0][1].value[0]
    with pytest.raises(ValueFault, match=told) as caught:
        read_node(node)
    assert caught.value.line == 2


@pytest.mark.parametrize("text", ["1,2", "a,'b,c'", "range(1,3)", "choice(a,b)", "[1],[2]", r"a\,b,c", "glob(*)"])
def test_several_values(text: str) -> None:
    assert names_several(text)
    assert PARSER.parse_override(f"key={text}").is_sweep_override()


@pytest.mark.parametrize("text", ["1", "[1,2]", "{a:1,b:2}", "'a,b'", '"a,b"', r"a\,b", "${oc.env:A,b}", "int(3)", ""])
def test_one_value(text: str) -> None:
    assert not names_several(text)
    assert not PARSER.parse_override(f"key={text}").is_sweep_override()
