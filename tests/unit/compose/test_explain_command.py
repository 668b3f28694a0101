"""`python -m mmhydra.explain`: every value of the composed config has an origin, and it is the right one."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from fake_run import FakeRun
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf._utils import get_yaml_loader

import mmhydra
from mmhydra import paths
from mmhydra.compose import compose, compose_tree
from mmhydra.compose.command_line import parse
from mmhydra.compose.loader import DATASET_GROUPS
from mmhydra.config.explain import COMMAND_LINE, Setting
from mmhydra.config.frozen import flatten
from mmhydra.explain import __main__ as explain
from mmhydra.run.directory import RunDirectory
from mmhydra.run.identity import identify

CHOICES = sorted(
    f"{path.parent.name}={path.stem}"
    for path in paths.config_dir().glob("*/*.yaml")
    if path.parent.name not in DATASET_GROUPS
)
ROOT = str(Path(mmhydra.__file__).parent.parent)


@pytest.fixture(autouse=True)
def place(monkeypatch, tmp_path):
    for name in ("MMHYDRA_CLUSTER", "MMHYDRA_REMOTE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MMHYDRA_DATA", "/data")
    monkeypatch.setenv("MMHYDRA_OUTPUTS", "/outputs")
    monkeypatch.chdir(paths.config_dir().parent)


@pytest.fixture
def show(capsys):
    """Runs the command; the exit code and the two streams."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = explain.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert (code == 2) == (out == "")
        assert "Traceback" not in err
        return code, out, err

    return run


def rows(out: str) -> dict[str, list[str]]:
    """Key to value, set by, replaced; columns are where the titles stand."""
    head, *lines = out.split("\n\n")[0].splitlines()
    starts = [head.index(title) for title in ("key", "value", "set by", "replaced")]
    cells = [
        [line[begin:end].strip() for begin, end in zip(starts, [*starts[1:], None], strict=True)] for line in lines
    ]
    return {key: rest for key, *rest in cells}


# ---------------------------------------------------------------- every leaf has an origin, and the right one

LEAVES = sorted(
    {
        *flatten(compose(["cluster=local"]).config.model_dump(exclude={"data", "tokens"})),
        *("data.sources.0.weight", "data.sources.1.name", "tokens.special.0"),
    }
)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\\'$", exclude_categories=["C"]), max_size=8)
SCALARS = st.one_of(
    st.integers(-(10**12), 10**12).map(str),
    st.floats(allow_nan=False).map(repr),
    st.sampled_from(
        ["null", "true", "false", "auto", "1e-3", "???x", "a b", "{a: {b: [1, 2]}}", "[]", "[a, {b: null}]"]
    ),
    st.sampled_from(["'null'", "'1e-3'", "'true'", "''", "'0x10'", "'1_000'", "'2026-01-01'", "'a: b'", "'#'"]),
    TEXTS.map(lambda text: f"'{text}'"),
    st.just("${oc.env:MMHYDRA_DATA}"),
)
OVERRIDES = st.lists(st.tuples(st.sampled_from(LEAVES), SCALARS), unique_by=lambda pair: pair[0], max_size=4).map(
    lambda pairs: [f"{key}={value}" for key, value in pairs]
)
STORE = ["loader.store.url=s3://bucket/data"]  # asks for it
GROUPS = st.lists(
    st.sampled_from([choice for choice in CHOICES if choice != "loader=object_store"]),
    unique_by=lambda choice: choice.partition("=")[0],
    max_size=3,
)
WHOLE = st.sampled_from(
    [
        "~optim.eps",
        "training={steps: 5, tokens: x}",
        "++track.aim={repo: x}",
        "~cluster.bandwidth",
        "seed=7",
    ]
)


def value_of(setting: Setting) -> object:
    if setting.text[:1] in ("'", '"'):
        return ast.literal_eval(setting.text)
    loader = yaml.SafeLoader if setting.layer.group == COMMAND_LINE else get_yaml_loader()
    return yaml.load(setting.text, Loader=loader)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(GROUPS, OVERRIDES, WHOLE)
def test_the_last_setting_of_every_leaf_is_its_value(choices, overrides, whole):
    key = whole.lstrip("+~").partition("=")[0]
    rest = [text for text in overrides if not text.startswith(f"{key.partition('.')[0]}.")]
    tree, lazy = compose_tree(parse([*choices, whole, *rest]))
    origins = lazy.provenance()
    for leaf, value in flatten(tree).items():
        found = origins.settings(leaf)
        assert found, f"nothing set {leaf}"
        if "${" not in found[-1].text:
            assert value_of(found[-1]) == value, f"{leaf}: {found[-1]}"
    for text in rest:
        assert origins.settings(text.partition("=")[0])[-1].layer.name == text


def test_every_leaf_of_every_choice_has_an_origin():
    by_group: dict[str, list[str]] = {}
    for choice in CHOICES:
        by_group.setdefault(choice.partition("=")[0], []).append(choice)
    for turn in range(max(map(len, by_group.values()))):
        chosen = [choices[turn % len(choices)] for choices in by_group.values()]
        request = compose([*chosen, *(STORE if "loader=object_store" in chosen else [])])
        origins = request.origins.provenance()
        for key in flatten(request.config.model_dump()):
            assert origins.where(key), f"{key} of {request.overrides}"


def test_a_section_and_a_value_in_it_in_either_order():
    whole, single = "seed={data: 5}", "seed.data=6"
    for texts, value in (([whole, single], 6), ([single, whole], 5)):
        tree, origins = compose_tree(parse(texts))
        assert tree["seed"] == {"model": 42, "data": value}
        assert origins.provenance().settings("seed.data")[-1].text == str(value)


# ---------------------------------------------------------------- the command


def test_the_whole_config(show):
    code, out, err = show()
    assert (code, err) == (0, "")
    assert list(rows(out)) == list(flatten(compose([]).config.model_dump()))
    assert all(by for _, by, _ in rows(out).values())


def test_one_value_with_what_it_replaced(show):
    code, out, _ = show("model=10b", "optim.lr=3e-4", "optim.lr")
    assert code == 0
    assert rows(out) == {
        "optim.lr": ["0.0003", "optim.lr=3e-4 (command line)", "1.0e-04 of conf/optim/adamw_cosine.yaml:3"]
    }


def test_keys_and_sections_stand_anywhere(show):
    code, out, _ = show("seed", "model=100m", "optim.lr", "tag=x", "data.sources.0", "tag")
    assert code == 0
    keys = list(rows(out))
    assert keys[:3] == ["tag", "seed.model", "seed.data"]
    assert "optim.lr" in keys
    assert [key for key in keys if key.startswith("data")] == [
        f"data.sources.0.{leaf}" for leaf in ("name", "dataset", "modality", "weight", "max_epochs")
    ]


def test_interpolations_show_what_they_came_to(show):
    _, out, _ = show("name", "paths")
    assert (
        rows(out)["name"][:2] == ["debug  (from ${model.name})", "conf/config.yaml:26"] or "(from ${model.name})" in out
    )
    assert "/data  (from ${mmhydra.folder:MMHYDRA_DATA,data})" in out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["optim.lrr"], "optim.lrr: no such key; did you mean optim.lr"),
        (["lr"], "lr: no such key; did you mean optim.lr?"),
        (["optim.lr", "modle"], "modle: no such key; did you mean model?"),
        (["dry_run"], "dry_run: this is a key of the command"),
        (["hydra"], "hydra: no such key"),
        ([""], "no such key"),
        (["model=nope"], "model=nope: no such choice"),
        (["training.stesp=5", "optim"], "did you mean training.steps"),
        (["training.steps=abc"], "training.steps=abc (command line)"),
        (["~tokens"], "tokens: no value"),
        (["~track"], "type track=[] to choose none"),
        (["tag=a,b"], "type -m"),
        (["tag=a", "tag=b"], "given twice and differently"),
        (["--config-dir", "/nowhere"], "/nowhere: there is no such folder"),
        (["resume=/nowhere"], "/nowhere does not exist"),
    ],
)
def test_what_can_not_be_explained(show, arguments, text):
    code, _, err = show(*arguments)
    assert code == 2
    assert text in err
    assert err.startswith("error: ")


def test_doubles_warn(show):
    code, _, err = show("tag=a", "tag=a", "tag")
    assert (code, err) == (0, "warning: tag=a is given twice\n")


def test_a_deleted_choice_is_an_override_and_no_key(show):
    code, out, _ = show("~experiment", "seed.data")
    assert code == 0
    assert list(rows(out)) == ["seed.data"]


def test_the_users_own_folder(show, lab):
    folder = lab({"lab/a.yaml": "# @package _global_\n\ntag: mine\n"})
    code, out, _ = show("--config-dir", folder, "+lab=a", "tag")
    assert code == 0
    assert rows(out)["tag"] == ["mine", f"{folder}/lab/a.yaml:3", "'' of conf/config.yaml:31"]


def test_collisions_name_both_groups_and_the_winner(show):
    _, out, _ = show("checkpoint")
    assert (
        "  checkpoint.interval: conf/model/debug.yaml:25 wins\n"
        "    1000  conf/checkpoint/default.yaml:4\n"
        "    100  conf/model/debug.yaml:25\n"
    ) in out
    _, out, _ = show("checkpoint", "checkpoint.interval=7")
    assert "  checkpoint.interval: checkpoint.interval=7 (command line) wins\n" in out
    _, out, _ = show("seed")
    assert "wins" not in out


def test_an_experiment_wins_over_the_groups_it_chooses(show):
    _, out, _ = show("experiment=10b_pretrain", "checkpoint.interval")
    assert rows(out)["checkpoint.interval"][:2] == ["500", "conf/experiment/10b_pretrain.yaml:15"]
    assert "checkpoint.interval: conf/experiment/10b_pretrain.yaml:15 wins" in out


@pytest.fixture
def run(tmp_path, default_config):
    identity = identify(default_config, {}, None)
    directory = RunDirectory(tmp_path / default_config.name / identity.run_id)
    directory.create(identity)
    made = FakeRun(default_config, directory, {})
    made.save(made.start(), 100)
    return directory


def test_a_run_that_is_resumed_has_its_frozen_values(show, run):
    code, out, _ = show(f"resume={run.path}")
    assert code == 0
    frozen = f"{run.attempts[-1].path}/config.yaml"
    assert {by.rpartition(":")[0] for _, by, _ in rows(out).values()} == {frozen}
    text = Path(frozen).read_text().splitlines()
    for key, (_, by, _) in rows(out).items():
        line = text[int(by.rpartition(":")[2]) - 1]
        leaf = next(part for part in reversed(key.split(".")) if not part.isdigit())
        assert leaf in line or "- " in line, f"{key}: {line}"


def test_a_run_that_is_extended_shows_what_was_changed(show, run):
    code, out, _ = show(f"extend={run.path}", "training.steps=400", "training", "checkpoint")
    assert code == 0
    found = rows(out)
    assert found["training.steps"][:2] == ["400", "training.steps=400 (command line)"]
    assert found["training.steps"][2].startswith("200 of ")
    assert found["checkpoint.extend_from"][0].endswith("step-00000100")
    assert found["checkpoint.extend_from"][1].startswith(f"extend={run.path}")
    assert found["training.seq_len"][1].startswith(f"{run.attempts[-1].path}/config.yaml:")


# ---------------------------------------------------------------- one line stays one line


def test_no_line_is_folded_in_a_pipe():
    long = "x" * 3000
    line = [sys.executable, "-m", "mmhydra.explain", f"tag='{long}'", "tag", "optim"]
    environment = {**os.environ, "PYTHONPATH": ROOT, "COLUMNS": "40"}
    done = subprocess.run(line, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (tag,) = (line for line in done.stdout.splitlines() if line.startswith("tag "))
    assert tag.split()[1] == long
    assert f"tag='{long}' (command line)" in tag
    assert len([line for line in done.stdout.splitlines() if line.startswith("optim.")]) == 11


@pytest.mark.parametrize("text", ["two\nlines", "[red]no markup[/red]", ":smile:", "ü", "tab\there", "\x1b[31mred"])
def test_a_value_is_printed_as_it_is_and_on_one_line(show, text):
    code, out, _ = show(f"tag='{text}'", "tag")
    assert code == 0
    assert len(out.splitlines()) == 2
    shown = text if text.isprintable() else repr(text)
    assert shown in out
    assert "\x1b" not in out
