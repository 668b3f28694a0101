"""The frozen text: bytes -> RunConfig -> the same bytes."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmhydra.config.frozen import FrozenConfigError, config_sha256, flatten, from_yaml, to_yaml


def test_keys_come_in_the_order_of_the_schema(default_config):
    lines = to_yaml(default_config).decode().splitlines()
    top = [line.partition(":")[0] for line in lines if not line.startswith((" ", "-"))]
    assert top == list(type(default_config).model_fields)


@given(tag=st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"), max_size=30))
def test_any_tag_survives(default_config, tag):
    config = default_config.model_copy(update={"tag": tag})
    text = to_yaml(config)
    assert from_yaml(text) == config
    assert to_yaml(from_yaml(text)) == text


@given(rate=st.floats(min_value=0, exclude_min=True, allow_infinity=False))
def test_any_rate_survives_bit_for_bit(default_config, rate):
    config = default_config.model_copy(update={"optim": default_config.optim.model_copy(update={"lr": rate})})
    assert from_yaml(to_yaml(config)).optim.lr == rate


@pytest.mark.parametrize("text", ["yes", "null", "1e3", "0x10", "012", "~", "- a", "a: b", "x" * 3000, "ü x", "#", " "])
def test_text_that_looks_like_something_else_stays_text(default_config, change, text):
    config = change(default_config, {"tag": text})
    frozen = to_yaml(config)
    assert from_yaml(frozen).tag == text
    assert sum(line.startswith(b"tag:") for line in frozen.splitlines()) == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: b"",
        lambda text: b"\xff\xfe" + text,
        lambda text: text + b"extra: 1\n",
        lambda text: text.replace(b"tag: ''\n", b""),
        lambda text: text.replace(b"dim: 128", b"dim: '128'"),
        lambda text: b"[" + text,
        lambda text: b"!!python/object/apply:os.getcwd []",
    ],
    ids=["empty", "no utf-8", "unknown key", "missing key", "wrong type", "no yaml", "python object"],
)
def test_other_text_is_refused(default_config, damage):
    with pytest.raises(FrozenConfigError, match="not a frozen config"):
        from_yaml(damage(to_yaml(default_config)))


def test_each_wrong_key_is_one_line(default_config):
    text = to_yaml(default_config).replace(b"dim: 128", b"dim: '128'") + b"extra: {a: 1}\n"
    with pytest.raises(FrozenConfigError) as refusal:
        from_yaml(text)
    head, *lines = str(refusal.value).splitlines()
    assert head == "not a frozen config of this version of mmhydra:"
    assert [line.partition(":")[0].strip() for line in lines] == ["model.dim", "extra"]
    assert "pydantic" not in str(refusal.value)


def test_the_hash_is_that_of_sha256sum(default_config):
    text = to_yaml(default_config)
    assert config_sha256(text) == hashlib.sha256(text).hexdigest()


def test_flatten_names_leaves_by_path():
    tree = {"a": {"b": 1, "c": [{"d": 2}, 3]}, "e": [], "f": None}
    assert flatten(tree) == {"a.b": 1, "a.c.0.d": 2, "a.c.1": 3, "e": [], "f": None}
