"""The run id over random changes: what makes the numbers changes it, the way in which it was written does not."""

import random
import re
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmhydra import paths, train
from mmhydra.compose import compose
from mmhydra.config import frozen
from mmhydra.config.base import Legacy, NotIdentity, Section, mark_of, sections_in
from mmhydra.config.data import Data, Source
from mmhydra.config.frozen import flatten, from_yaml, to_yaml
from mmhydra.config.optim import Optim
from mmhydra.config.schema import RunConfig
from mmhydra.data.prepare import prepare
from mmhydra.errors import UserError
from mmhydra.launch.freeze import plan
from mmhydra.launch.naming import name_run
from mmhydra.run.identity import excluded_fields, identify, identity_fields

EXCLUDED = excluded_fields(RunConfig)
FULL = {
    "data.schedule": [{"name": "warm", "fraction": 1.0, "shares": {"a": [0.5, 0.5]}, "lr_multiplier": [0.1, 1.0]}],
    "checkpoint.remote": {"url": "s3://bucket", "every_hours": 24.0},
    "track.aim": {"repo": "/aim"},
    "optim.decay_fraction": 0.5,
    "precision.float8_recipe": "rowwise",
}
LINES = [
    ["model=10b", "parallel=tp4pp8", "data=mix_v0.2", "cluster=h100_256"],
    ["experiment=alpha_1b", "track=[aim,prometheus]", "optim.lr=1e-3"],
    [],
]


def run_id(config: RunConfig) -> str:
    return identify(config, {}, None).run_id


def is_excluded(leaf: str) -> bool:
    leaf = re.sub(r"\.\d+", ".*", leaf)  # the index in a list
    return any(leaf == name or leaf.startswith(f"{name}.") for name in EXCLUDED)


@pytest.fixture(scope="module")
def full(default_config, change):
    return change(default_config, FULL)


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    for name in ("MMHYDRA_CLUSTER", "MMHYDRA_REMOTE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MMHYDRA_DATA", "/data")
    monkeypatch.setenv("MMHYDRA_OUTPUTS", "/outputs")


VALUES = st.one_of(
    st.integers(1, 10**6),
    st.floats(2**-20, 0.9),
    st.booleans(),
    st.none(),
    st.sampled_from(["a", "text", "image", "rowwise", "bfloat16", "wsd", "cosine", "GPipe", "full", "none", "auto"]),
    st.text(st.characters(codec="utf-8"), max_size=5),
)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_an_id_changes_exactly_with_what_makes_the_numbers(full, change, data):
    leaves = flatten(full.model_dump())
    wanted = data.draw(st.dictionaries(st.sampled_from(sorted(leaves)), st.lists(VALUES, min_size=6, max_size=6)))
    other = full
    for leaf, candidates in wanted.items():
        for value in candidates:
            try:
                other = change(other, {leaf: value})
            except UserError:
                continue
            break
    after = flatten(other.model_dump())
    differing = {leaf for leaf in leaves.keys() | after.keys() if leaves.get(leaf, "") != after.get(leaf, "")}
    assert (run_id(other) != run_id(full)) == any(not is_excluded(leaf) for leaf in differing), differing
    assert run_id(from_yaml(to_yaml(other))) == run_id(other)


@pytest.mark.parametrize("leaf", ["tag", "seed.model", "seed.data"])
def test_a_tag_and_each_seed_make_another_run(default_config, change, leaf):
    values = ["a", "b", "ü", " ", "a "] if leaf == "tag" else [0, 1, 43, 2**40]
    ids = {run_id(change(default_config, {leaf: value})) for value in values}
    assert len({*ids, run_id(default_config)}) == len(values) + 1


def test_the_two_seeds_are_two(default_config, change):
    one = change(default_config, {"seed.model": 1, "seed.data": 2})
    other = change(default_config, {"seed.model": 2, "seed.data": 1})
    assert run_id(one) != run_id(other)


def test_every_field_is_identity_or_says_why_not(full):
    document = set(flatten(identity_fields(full)))
    for leaf in flatten(full.model_dump()):
        assert (leaf in document) != is_excluded(leaf) or _is_legacy(leaf), leaf
    assert all(len(reason) > 5 for reason in EXCLUDED.values())


def _is_legacy(leaf: str) -> bool:
    section: Any = RunConfig
    for part in leaf.split("."):
        if part.isdigit():
            continue
        field = section.model_fields[part]
        if mark_of(field.metadata, Legacy) is not None:
            return True
        section = next(sections_in(field.annotation), None)
        if section is None:
            return False
    return False


# ---------------------------------------------------------------- another way of writing the same


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations(["model=100m", "parallel=tp2", "data=mix_v0.2", "optim.lr=1e-3", "tag=x", "~experiment"]))
def test_the_order_of_overrides(overrides):
    expected = compose(sorted(overrides)).config
    config = compose(overrides).config
    assert to_yaml(config) == to_yaml(expected)
    assert run_id(config) == run_id(expected)


def expected_texts() -> list[bytes]:
    return [to_yaml(compose(line).config) for line in LINES]


@pytest.fixture
def conf(tmp_path, monkeypatch):
    """A copy of conf/, which is the one in use once `expected_texts` was asked for the real one."""
    folder = tmp_path / "conf"
    shutil.copytree(paths.config_dir(), folder)
    return folder


def shuffled(node: Any, rng: random.Random) -> Any:
    """The same tree with the keys of all sections in another order; lists stay as they are."""
    if isinstance(node, dict):
        items = list(node.items())
        rng.shuffle(items)
        return {key: shuffled(value, rng) for key, value in items}
    return [shuffled(item, rng) for item in node] if isinstance(node, list) else node


def rewrite(file: Path, tree: Any) -> None:
    package = re.match(r"# @package .*\n", file.read_text())
    text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
    file.write_text((package.group() if package else "") + text)


@pytest.mark.parametrize("seed", range(2))
def test_the_order_of_keys_in_files(conf, monkeypatch, seed):
    expected = expected_texts()
    rng = random.Random(seed)
    for file in conf.rglob("*.yaml"):
        tree = yaml.safe_load(file.read_text())
        rewrite(file, shuffled(tree, rng))
        assert yaml.safe_load(file.read_text()) == tree
    monkeypatch.setattr(paths, "config_dir", lambda: conf)
    assert expected_texts() == expected


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_the_defaults_where_it_is_free(conf, monkeypatch, seed):
    """A model sets precision, rate and intervals, a mix its vocabulary, an experiment all: those come later."""
    expected = expected_texts()
    tree = yaml.safe_load((conf / "config.yaml").read_text())
    of_group = {next(iter(item)): item for item in tree["defaults"] if isinstance(item, dict)}
    early = ["tokens", "precision", "parallel", "optim", "checkpoint", "loader"]
    late = ["model", "data", "cluster", "track"]
    assert set(of_group) - {*early, *late, "experiment"} == {
        "override hydra/hydra_logging",
        "override hydra/job_logging",
        "override hydra/launcher",
        "override hydra/sweeper",
    }
    rng = random.Random(seed)
    rng.shuffle(early)
    rng.shuffle(late)
    rest = [
        "experiment",
        *(f"override hydra/{part}" for part in ("launcher", "sweeper", "job_logging", "hydra_logging")),
    ]
    tree["defaults"] = ["_self_", *(of_group[name] for name in [*early, *late, *rest])]
    rewrite(conf / "config.yaml", tree)
    monkeypatch.setattr(paths, "config_dir", lambda: conf)
    assert expected_texts() == expected


def test_an_edited_default_is_another_run(conf, monkeypatch):
    before = compose([]).config
    file = conf / "optim" / "adamw_cosine.yaml"
    file.write_text(file.read_text().replace("beta2: 0.95", "beta2: 0.96"))
    monkeypatch.setattr(paths, "config_dir", lambda: conf)
    assert run_id(compose([]).config) != run_id(before)
    assert run_id(compose(["optim.beta2=0.95"]).config) == run_id(before)


# ---------------------------------------------------------------- a schema that grows


class NewOptim(Optim):
    momentum: Annotated[float, Legacy(0.0)]
    decay_of: Annotated[list[str], Legacy([])]


class NewPart(Section):
    size: int


class NewSource(Source):
    language: Annotated[str | None, Legacy(None)]


class NewData(Data):
    sources: list[NewSource]
    filter: Annotated[NewPart | None, Legacy(None)]


class NewConfig(RunConfig):
    optim: NewOptim
    data: NewData
    note: Annotated[str, NotIdentity("nobody reads it"), Legacy("")]
    mode: Annotated[str, Legacy("old")]


LEGACY: dict[str, Any] = {
    "optim.momentum": 0.0,
    "optim.decay_of": [],
    "data.sources.0.language": None,
    "data.filter": None,
    "note": "",
    "mode": "old",
}
NEW: dict[str, list[Any]] = {
    "optim.momentum": [0.5, 1.0],
    "optim.decay_of": [["a"], ["b", "a"]],
    "data.sources.0.language": ["", "en"],
    "data.filter": [{"size": 0}, {"size": 7}],
    "mode": ["new", ""],
}


def set_leaf(tree: Any, leaf: str, value: Any) -> None:
    *folders, last = leaf.split(".")
    for part in folders:
        tree = tree[int(part) if part.isdigit() else part]
    tree[last] = value


@pytest.fixture
def upgrade(monkeypatch):
    """Reads a frozen text as a version with more fields does, with some of them changed."""
    monkeypatch.setattr(frozen, "RunConfig", NewConfig)

    def read(text: bytes, **leaves: Any) -> RunConfig:
        tree = from_yaml(text).model_dump()
        for leaf, value in leaves.items():
            set_leaf(tree, leaf, value)
        return NewConfig.model_validate(tree)

    return read


def test_an_old_frozen_text_opens_and_keeps_its_id(default_config, change, upgrade):
    for old in (default_config, change(default_config, FULL)):
        new = upgrade(to_yaml(old))
        leaves = flatten(new.model_dump())
        assert {leaf: leaves[leaf] for leaf in LEGACY} == LEGACY
        assert run_id(new) == run_id(old)
        assert from_yaml(to_yaml(new)) == new  # written with the new fields, and read again
        assert run_id(from_yaml(to_yaml(new))) == run_id(old)


@pytest.mark.parametrize(("leaf", "value"), [(leaf, value) for leaf, values in NEW.items() for value in values])
def test_a_new_field_counts_once_it_differs_from_what_runs_had(default_config, upgrade, leaf, value):
    text = to_yaml(default_config)
    assert run_id(upgrade(text, **{leaf: LEGACY[leaf]})) == run_id(default_config)
    assert run_id(upgrade(text, **{leaf: value})) != run_id(default_config)


def test_each_value_of_each_new_field_is_a_run_of_its_own(default_config, upgrade):
    text = to_yaml(default_config)
    ids = [run_id(upgrade(text, **{leaf: value})) for leaf, values in NEW.items() for value in values]
    assert len({*ids, run_id(default_config)}) == len(ids) + 1


def test_a_new_field_that_is_no_identity_never_counts(default_config, upgrade):
    text = to_yaml(default_config)
    assert {run_id(upgrade(text, note=note)) for note in ("", "a", "ü")} == {run_id(default_config)}


def test_two_configs_do_not_share_the_value_that_a_field_had(default_config, upgrade):
    one, other = upgrade(to_yaml(default_config)), upgrade(to_yaml(default_config))
    one.optim.decay_of.append("x")
    assert other.optim.decay_of == []


def test_a_new_field_without_the_mark_would_not_open(default_config, monkeypatch):
    class Careless(RunConfig):
        more: int

    monkeypatch.setattr(frozen, "RunConfig", Careless)
    with pytest.raises(UserError, match="more"):
        from_yaml(to_yaml(default_config))


# ---------------------------------------------------------------- what a dry run says

TINY = ["tokens.ranges.0.size=512", "data.builder.corpus_mb=0.3", "data.builder.heldout_fraction=0.2"]


def test_a_dry_run_names_the_run_once_its_data_is_there(tmp_path, monkeypatch, capfd):
    data = tmp_path / "data"
    monkeypatch.setenv("MMHYDRA_DATA", str(data))

    def said(*overrides: str) -> str:
        monkeypatch.setattr(sys, "argv", ["train", *TINY, *overrides, "dry_run=config"])
        assert train.main() == 0
        found = re.search(r"^run id: (.*)$", capfd.readouterr().err, re.MULTILINE)
        assert found is not None
        return found.group(1)

    assert said() == f"pending (demo-v2 is not in {data}; the first start builds it)"
    assert not data.exists()
    request = compose(TINY)
    manifests = prepare(request.config.data, request.config.tokens, data, lambda text: None)
    name = said()
    assert re.fullmatch(r"[0-9a-f]{12}", name)
    assert name == name_run(request.config, manifests).run_id
    assert name == plan(request, lambda text: None).run.path.name
    assert said("name=other", "track=tensorboard", "parallel=hsdp") == name
    ids = [said("tag=a"), said("seed.model=1"), said("seed.data=1"), said("optim.lr=1e-3")]
    assert len({*ids, name}) == 5
    (data / "demo-v2" / "manifest.json").write_text("{")  # a start would refuse it, so a dry run does
    assert train.main() == 2
    assert "is not a manifest" in capfd.readouterr().err
