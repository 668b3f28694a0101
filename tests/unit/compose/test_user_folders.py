"""Folders of a user's own groups: what is wrong in them is one readable message, what is right works everywhere."""

import os
import re
from pathlib import Path

import pytest

from mmhydra import paths
from mmhydra.compose import compose
from mmhydra.config.frozen import from_yaml

GLOBAL = "# @package _global_\n"
DEBUG = (paths.config_dir() / "model" / "debug.yaml").read_text()
LOCAL = (paths.config_dir() / "cluster" / "local.yaml").read_text()
HYDRAS_OWN_WORDS = ("Traceback", "full_key", "object_type", "raised while composing", "HYDRA_FULL_ERROR", "omegaconf.")
KEY = "AKIA" + "Q3EGSIUOCX5X7LKT"  # of nobody


def bundle(text: str) -> dict[str, str | bytes]:
    """A file that `+lab=a` merges into the whole config."""
    return {"lab/a.yaml": GLOBAL + text}


def of_hydra(text: str) -> dict[str, str | bytes]:
    return bundle(f"hydra:\n  {text}\n")


SYNTAX = {
    "syntax": (bundle("training: [\n"), "{lab}/lab/a.yaml:3:1: this is no YAML"),
    "tab": (bundle("training:\n\tsteps: 5\n"), r"{lab}/lab/a.yaml:3:1: this is no YAML: found character '\t'"),
    "duplicate key": (bundle("seed:\n  data: 5\n  data: 6\n"), "{lab}/lab/a.yaml:4:3", "found duplicate key data"),
    "two documents": (bundle("tag: x\n---\ntag: y\n"), "{lab}/lab/a.yaml:3:1", "found another document"),
    "a python object": (bundle("tag: !!python/object/apply:os.getcwd []\n"), "{lab}/lab/a.yaml:2:6", "python/object"),
    "a python name": (bundle("tag: !!python/name:os.system\n"), "{lab}/lab/a.yaml:2:6: this is no YAML"),
    "an unknown tag": (bundle("tag: !foo x\n"), "{lab}/lab/a.yaml:2:6", "'!foo'"),
    "a key that is a list": (bundle("seed:\n  [1, 2]: 5\n"), "{lab}/lab/a.yaml:3:3", "found unhashable key"),
    "not UTF-8": ({"lab/a.yaml": GLOBAL.encode() + b"tag: \xff\n"}, "{lab}/lab/a.yaml can't be read", "utf-8"),
    "UTF-16": ({"lab/a.yaml": "tag: x\n".encode("utf-16")}, "{lab}/lab/a.yaml can't be read"),
    "a zero byte": ({"lab/a.yaml": b"tag: a\0b\n"}, "{lab}/lab/a.yaml", "#x0000"),
    "a folder of that name": ({"lab/a.yaml/b.yaml": "tag: x\n"}, "{lab}/lab/a.yaml can't be read"),
    "an anchor inside itself": (bundle("tag: &a [*a]\n"), "it is nested too deeply, or refers to itself", "+lab=a"),
    "a number of 5000 digits": (bundle(f"seed:\n  data: {'9' * 5000}\n"), "5000 digits", "+lab=a"),
}
SHAPE = {
    "a list": (bundle("- 1\n- 2\n"), "{lab}/lab/a.yaml:2: a list, where a section is needed"),
    "a value": (bundle("5\n"), "{lab}/lab/a.yaml:2: a value, where a section is needed"),
    "a section is null": (bundle("training: null\n"), "training: this is a section", "training.steps", ":2"),
    "a section is empty": (bundle("optim:\n"), "optim: this is a section", "optim = null  {lab}/lab/a.yaml:2"),
    "a section is a value": (bundle("optim: 5\n"), "optim: this is a section", "optim = 5  {lab}/lab/a.yaml:2"),
    "a section is a list": (
        bundle("optim: [1]\n"),
        "optim: a list, where conf/model/debug.yaml:20 has a section",
        "optim = [1]  {lab}/lab/a.yaml:2",
    ),
    "a list is a section": (
        bundle("data:\n  sources: {a: 1}\n"),
        "data.sources: a section, where conf/data/demo.yaml:8 has a list",
        "data.sources = {a: 1}  {lab}/lab/a.yaml:3",
    ),
    "a value is a section": (bundle("tag: {a: 1}\n"), "tag: Input should be a valid string", "{lab}/lab/a.yaml:2"),
    "no package": ({"lab/a.yaml": "seed:\n  data: 5\n"}, "lab: no such key", "{lab}/lab/a.yaml:1"),
    "an empty file": ({"lab/a.yaml": ""}, "lab: no such key", "lab = {}  {lab}/lab/a.yaml:1"),
    "a package beside the schema": (
        {"lab/a.yaml": "# @package foo.bar\nx: 1\n"},
        "foo: no such key",
        "foo = {bar: {x: 1}}  {lab}/lab/a.yaml:1",
    ),
    "a package inside of a value": (
        {"lab/a.yaml": "# @package model.name.deep\nx: 1\n"},
        "model.name: Input should be a valid string",
        "model.name = {deep: {x: 1}}  {lab}/lab/a.yaml:1",
    ),
    "a package that is a path": ({"lab/a.yaml": "# @package ../..\nx: 1\n"}, "'': no such key"),
    "a package of Hydra": ({"lab/a.yaml": "# @package hydra.run\ndir: foo\n"}, "hydra.run.dir: 'foo'", ":2"),
    "dotted names": (
        bundle("optim.lr: 0.5\n"),
        "optim.lr: a dot in a name makes no section in YAML; write optim: {lr: VALUE}",
        "optim.lr = 0.5  {lab}/lab/a.yaml:2",
    ),
    "an empty name": (bundle('"": 5\n'), "'': no such key"),
    "a null name": (bundle("training:\n  null: 5\n"), "training: Incompatible key type 'NoneType'", "a.yaml:2"),
    "a numbered name": (bundle("training:\n  1: 5\n"), "training.1: ", "training.1 = 5  {lab}/lab/a.yaml:3"),
}
VALUES = {
    "an unknown key": (
        bundle("training:\n  stesp: 5\n"),
        "training.stesp: no such key; did you mean training.steps",
        "training.stesp = 5  {lab}/lab/a.yaml:3",
    ),
    "an unknown section": (bundle("foo: {a: 5}\n"), "foo: no such key", "foo = {a: 5}  {lab}/lab/a.yaml:2"),
    "a wrong type": (bundle("training:\n  steps: abc\n"), "training.steps: ", "got 'abc'", "{lab}/lab/a.yaml:3"),
    "true for a number": (bundle("training:\n  steps: true\n"), "training.steps: ", "{lab}/lab/a.yaml:3"),
    "a quoted number": (bundle("optim:\n\n  lr: '1e-3'\n"), "optim.lr: ", "got '1e-3'", "{lab}/lab/a.yaml:4"),
    "a number for text": (bundle("tag: 5\n"), "tag: Input should be a valid string, got 5", "{lab}/lab/a.yaml:2"),
    "nan": (bundle("optim:\n  lr: .nan\n"), "optim.lr: Input should be a finite number", "{lab}/lab/a.yaml:3"),
    "bytes": (bundle("tag: !!binary aGVsbG8=\n"), "tag: Input should be a valid string", "{lab}/lab/a.yaml:2"),
    "a set": (bundle("tag: !!set {a, b}\n"), "tag: ", "{lab}/lab/a.yaml:2"),
    "text of two lines": (bundle("seed:\n  data: |\n    a\n    b\n"), r"seed.data = 'a\nb\n'  {lab}/lab/a.yaml:3"),
    "an element of a list": (
        bundle("data:\n  sources:\n    - {name: a, dataset: d, modality: smell, weight: 1.0}\n"),
        "data.sources.0.modality: Input should be 'text'",
        "data.sources.0.modality = smell  {lab}/lab/a.yaml:4",
    ),
    "an unknown key in a list": (
        bundle(
            "data:\n  sources:\n    - name: a\n      dataset: d\n      modality: text\n      weight: 1.0\n      x: 3\n"
        ),
        "data.sources.0.x: no such key",
        "data.sources.0.x = 3  {lab}/lab/a.yaml:8",
    ),
    "a merged value": (bundle("x: &x {lr: abc}\noptim:\n  <<: *x\n"), "optim.lr = abc  {lab}/lab/a.yaml:2"),
    "a rule": (
        bundle("optim:\n  lr: 0.001\n  min_lr: 1.0\n"),
        "optim.min_lr, optim.lr: min_lr 1.0 is above lr 0.001",
        "optim.min_lr = 1.0  {lab}/lab/a.yaml:4",
        "optim.lr = 0.001    {lab}/lab/a.yaml:3",
    ),
    "a secret": (bundle(f"tag: {KEY}\n"), "nothing secret may be in it", "lab/a.yaml:2): AWS Access Key"),
    "resume": (bundle("resume: 5\n"), "resume: 5; legal values are run directories, on the command line", "a.yaml:2"),
    "extend": (bundle("extend: outputs/x\n"), "extend: 'outputs/x'; legal values are run directories", "a.yaml:2"),
    "confirm": (bundle("confirm: 'yes'\n"), "confirm: 'yes'; legal values are true and false", "{lab}/lab/a.yaml:2"),
    "confirm for ever": (
        bundle("confirm: true\n"),
        "confirm: a file would confirm",
        "confirm = true  {lab}/lab/a.yaml:2",
    ),
    "a surrogate": (bundle('tag: "\\ud800"\n'), "tag: text that is no UTF-8", "{lab}/lab/a.yaml:2"),
    "a NUL": (bundle('paths:\n  outputs: "/tmp/a\\0b"\n'), "paths.outputs: a NUL character", "{lab}/lab/a.yaml:3"),
    "dry_run": (bundle("dry_run: {a: 1}\n"), "dry_run: {'a': 1}; legal values are config", "{lab}/lab/a.yaml:2"),
    "_target_": (bundle("model:\n  _target_: os.system\n"), "model._target_: no such key", "{lab}/lab/a.yaml:3"),
}
INTERPOLATIONS = {
    "a loop of two keys": (
        bundle("optim:\n  lr: ${optim.min_lr}\n  min_lr: ${optim.lr}\n"),
        "2 problems",
        "optim.lr: Recursive interpolation",
        "optim.lr = ${optim.min_lr}  {lab}/lab/a.yaml:3",
        "optim.min_lr = ${optim.lr}  {lab}/lab/a.yaml:4",
    ),
    "a variable that is not set": (
        bundle("tag: ${oc.env:NOT_SET_HERE}\n"),
        "tag: ",
        "'NOT_SET_HERE' not found",
        "tag = ${oc.env:NOT_SET_HERE}  {lab}/lab/a.yaml:2",
    ),
    "an unknown resolver": (bundle("tag: ${nope:1}\n"), "tag: Unsupported interpolation type nope", "a.yaml:2"),
    "an unknown key": (bundle("tag: ${training.stesp}\n"), "tag: ", "'training.stesp' not found", "a.yaml:2"),
    "no end": (bundle("tag: ${oops\n"), "tag: ", "tag = ${oops  {lab}/lab/a.yaml:2"),
    "no value": ({"model/a.yaml": DEBUG.replace("dim: 128", "dim: ???")}, "model.dim: Missing mandatory value", ":6"),
}
DEFAULTS = {
    "a missing group": (bundle("defaults:\n  - override /modle: debug\n"), "'lab/a'", "'modle'", "did you mean model?"),
    "a missing group to add": (bundle("defaults:\n  - /modle: debug\n"), "'modle/debug'", "did you mean model?"),
    "a missing choice": (bundle("defaults:\n  - override /model: debgu\n"), "'model/debgu'; did you mean debug?"),
    "a missing neighbour": (
        {"model/a.yaml": f"{GLOBAL}defaults:\n  - debgu\n"},
        "In 'model/a'",
        "'model/debgu'; did you mean debug?",
        "legal: 100m, 10b, 1b, a, debug",
    ),
    "a group of one's own": (bundle("defaults:\n  - override /lab: a\n"), "In 'lab/a'"),
    "itself": ({"model/a.yaml": f"{GLOBAL}defaults:\n  - a\n"}, "it is nested too deeply, or refers to itself"),
    "itself by way of another": (
        {"model/a.yaml": f"{GLOBAL}defaults:\n  - b\n", "model/b.yaml": f"{GLOBAL}defaults:\n  - a\n"},
        "it is nested too deeply, or refers to itself",
    ),
    "a group twice": (bundle("defaults:\n  - /model: debug\n"), "model appears more than once"),
    "no list": (bundle("defaults: 5\n"), "'lab/a', defaults must be a list"),
    "a list in the list": (bundle("defaults:\n  - [1]\n"), "Unsupported type in defaults"),
    "two keys": (bundle("defaults:\n  - {a: 1, b: 2}\n"), "In lab/a: Too many keys"),
    "a search path": (of_hydra("searchpath: [file:///x]"), "In 'lab/a'", "hydra.searchpath"),
}
HYDRA = {
    "mode": (of_hydra("mode: MULTIRUN"), "hydra.mode: ", "remove it", "hydra.mode = MULTIRUN  {lab}/lab/a.yaml:3"),
    "run.dir": (of_hydra("run: {dir: foo}"), "hydra.run.dir: 'foo'", "hydra.run.dir = foo  {lab}/lab/a.yaml:3"),
    "sweep.dir": (of_hydra("sweep: {dir: foo, subdir: bar}"), "hydra.sweep.dir: 'foo'", "hydra.sweep.subdir: 'bar'"),
    "output_subdir": (of_hydra("output_subdir: foo"), "hydra.output_subdir: 'foo'", "{lab}/lab/a.yaml:3"),
    "chdir": (of_hydra("job: {chdir: true}"), "hydra.job.chdir: True", "{lab}/lab/a.yaml:3"),
    "env_set": (of_hydra("job: {env_set: {A: b}}"), "hydra.job.env_set: {'A': 'b'}", "{lab}/lab/a.yaml:3"),
    "verbose": (of_hydra("verbose: true"), "hydra.verbose: True", "{lab}/lab/a.yaml:3"),
    "callbacks": (
        of_hydra("callbacks: {x: {_target_: os.system}}"),
        "hydra.callbacks: ",
        "hydra.callbacks = {x: {_target_: os.system}}  {lab}/lab/a.yaml:3",
    ),
    "launcher": (of_hydra("launcher: {_target_: os.system}"), "hydra.launcher._target_: 'os.system'", "a.yaml:3"),
    "logging": (
        of_hydra("job_logging: {version: 1, handlers: {f: {class: logging.FileHandler, filename: {out}}}}"),
        "hydra.job_logging.handlers: {'f'",
        "{lab}/lab/a.yaml:3",
    ),
    "hydra_logging": (of_hydra("hydra_logging: {root: {level: INFO}}"), "hydra.hydra_logging.root: {'level': 'INFO'}"),
    "sweeper": (
        of_hydra("sweeper: {params: {optim.lr: '1,2'}}"),
        "hydra.sweeper.params: {'optim.lr': '1,2'}",
        "write a study",
        ":3",
    ),
    "job.name": (of_hydra("job: {name: zzz}"), "hydra.job.name: 'zzz'", "hydra.job.name = zzz  {lab}/lab/a.yaml:3"),
    "help": (of_hydra("help: {template: x}"), "hydra.help.template: 'x'", "{lab}/lab/a.yaml:3"),
    "unknown": (of_hydra("foo: 1"), "hydra.foo: Key 'foo' not in 'HydraConf'", "hydra.foo = 1  {lab}/lab/a.yaml:3"),
    "null": (bundle("hydra: null\n"), "hydra: a value, where conf/config.yaml:", "hydra = null  {lab}/lab/a.yaml:2"),
    "text": (bundle("hydra: x\n"), "hydra: a value, where", "hydra = x  {lab}/lab/a.yaml:2"),
}
TABLES = {
    "syntax": SYNTAX,
    "shape": SHAPE,
    "values": VALUES,
    "interpolations": INTERPOLATIONS,
    "defaults": DEFAULTS,
    "hydra": HYDRA,
}
BAD = [
    pytest.param(table, files, texts, id=f"{table}: {name}")
    for table, cases in TABLES.items()
    for name, (files, *texts) in cases.items()
]
CONF = re.compile(r"[^ ]*/conf/")  # tests run in a folder from where conf/ has a long name


def check_refusal(result: tuple[int, bytes, str], texts: list[str], folder: Path) -> None:
    code, out, err = result
    assert (code, out) == (2, b""), err
    assert err.startswith("error: ")
    assert err.count("error: ") == 1
    assert len(err) < 3000
    assert [word for word in HYDRAS_OWN_WORDS if word in err] == []
    shown = CONF.sub("conf/", err)
    assert [text for text in texts if text.replace("{lab}", str(folder)) not in shown] == [], err


@pytest.mark.parametrize(("table", "files", "texts"), BAD)
def test_a_bad_folder_is_one_readable_message(command, lab, table, files, texts):
    folder = lab(files)
    choice = "model=a" if "model/a.yaml" in files else "+lab=a"
    check_refusal(command("--config-dir", str(folder), choice), texts, folder)
    if table == "hydra":  # a sweep is Hydra's own, so it is told before
        check_refusal(command("-m", "--config-dir", str(folder), choice, "seed.data=1,2"), texts, folder)


@pytest.mark.parametrize("case", ["syntax", "an unknown key", "a missing neighbour", "a list", "no end", "itself"])
@pytest.mark.parametrize("flags", [["-m"], ["--cfg", "job", "--resolve"]])
def test_flags_of_hydra_change_no_message(command, lab, case, flags):
    files, *texts = {**SYNTAX, **SHAPE, **DEFAULTS, **INTERPOLATIONS, **VALUES}[case]
    folder = lab(files)
    choice = "model=a" if "model/a.yaml" in files else "+lab=a"
    code, _, err = result = command(*flags, "--config-dir", str(folder), choice)
    if flags == ["--cfg", "job", "--resolve"] and case == "an unknown key":
        assert (code, err) == (0, "")  # --cfg shows what is composed, legal or not
    else:
        check_refusal(result, texts, folder)


def test_a_model_without_a_package_line_says_what_it_lacks(command, lab):
    folder = lab({"model/a.yaml": DEBUG.replace(GLOBAL, "")})
    code, _, err = command("--config-dir", str(folder), "model=a")
    assert code == 2
    assert f"{folder}/model/a.yaml:2" in err
    assert "model.model: no such key" in err
    assert "model.dim: no value" in err
    assert len(err) < 3000


@pytest.mark.parametrize("files", [{"model/a.yaml": ""}, {"model/a.yaml": GLOBAL}])
def test_an_empty_model_lacks_everything(command, lab, files):
    code, _, err = command("--config-dir", str(lab(files)), "model=a")
    assert code == 2
    assert "no value; every value comes from a YAML file or the command line" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("files", [{"model/debug.yaml": DEBUG}, {"config.yaml": "x: 1\n"}])
def test_a_file_that_conf_hides_is_refused(command, lab, files):
    folder = lab(files)
    (name,) = files
    texts = [f"{folder}/{name} is hidden by", f"conf/{name}; give it another name"]
    check_refusal(command("--config-dir", str(folder)), texts, folder)
    check_refusal(command("-m", "--config-dir", str(folder), "seed.data=1,2"), texts, folder)
    check_refusal(command(f"hydra.searchpath=[file://{folder}]"), texts, folder)


def test_a_folder_that_is_none(command, lab):
    folder = lab({"file.yaml": ""})
    for place in (folder / "nope", folder / "file.yaml"):
        for flags in ([], ["-m"], ["--help"], ["--cfg", "job"], ["--info", "searchpath"]):
            text = f"{place}: there is no such folder; type --config-dir FOLDER"
            check_refusal(command(*flags, "--config-dir", str(place)), [text], folder)
        code, _, err = command(f"hydra.searchpath=[file://{place}]")
        assert code == 2
        assert str(place) in err
    check_refusal(command("--config-dir"), ["--config-dir", "expected one argument"], folder)


def test_two_folders_are_refused_and_not_one_forgotten(command, lab):
    one, other = lab({"lab/a.yaml": GLOBAL}), lab({"lab/b.yaml": GLOBAL})
    check_refusal(command("--config-dir", str(one), f"--config-dir={other}"), ["--config-dir is given twice"], one)


def test_a_group_of_ones_own_needs_a_plus(command, lab):
    folder = lab(bundle("tag: x\n"))
    check_refusal(command("--config-dir", str(folder), "lab=a"), ["'lab'", "type +lab=a"], folder)
    check_refusal(command("-m", "--config-dir", str(folder), "lab=a"), ["'lab'", "type +lab=a"], folder)
    check_refusal(command("--config-dir", str(folder), "+lba=a"), ["lba: ", "did you mean lab?"], folder)
    check_refusal(command("--config-dir", str(folder), "+lab=b"), ["lab=b: no such choice", "legal: a"], folder)


def test_a_group_without_a_yaml_file_says_so(command, lab):
    folder = lab({"lab/a.yml": "tag: x\n"})
    check_refusal(
        command("--config-dir", str(folder), "+lab=a"), ["{lab}/lab/a.yml would", "files end in .yaml"], folder
    )


def test_a_file_that_is_not_chosen_harms_nobody(command, lab):
    folder = lab({"lab/broken.yaml": "a: [\n", "model/broken.yaml": "- 1\n", "cluster/broken.yaml": "name: [\n"})
    code, _, err = command("--config-dir", str(folder), "dry_run=config")
    assert code == 0, err


def test_a_point_of_a_sweep_that_would_steer_hydra_is_refused(command, lab):
    steering = "hydra:\n  sweep: {subdir: ../../out}\n  output_subdir: foo\n  job: {chdir: true, env_set: {A: b}}\n"
    folder = lab({"lab/a.yaml": GLOBAL + steering, "lab/b.yaml": f"{GLOBAL}tag: b\n"})
    result = command("-m", "--config-dir", str(folder), "+lab=b,a", "dry_run=config")
    check_refusal(result, ["error: 4 problems", "hydra.sweep.subdir: '../../out'"], folder)


def test_a_broken_point_of_a_sweep_is_told_before_the_first_starts(command, lab):
    folder = lab({"lab/a.yaml": "a: [\n", "lab/b.yaml": f"{GLOBAL}tag: b\n"})
    result = command("-m", "--config-dir", str(folder), "+lab=b,a")
    check_refusal(result, ["{lab}/lab/a.yaml:2:1: this is no YAML"], folder)


# ---------------------------------------------------------------- good folders


@pytest.fixture
def good(lab):
    return lab(
        {
            "model/mine.yaml": DEBUG.replace("name: debug", "name: mine").replace("dim: 128", "dim: 64"),
            "model/child.yaml": f"{GLOBAL}defaults: [debug, _self_]\nmodel:\n  name: child\n  ffn_dim: 256\n",
            "lab/long.yaml": f"{GLOBAL}training:\n  seq_len: 256\n",
            "lab/short.yaml": f"{GLOBAL}training:\n  seq_len: 64\n",
            "cluster/tiny.yaml": LOCAL.replace("name: local", "name: tiny").replace("processes: 8", "processes: 4"),
            "cluster/huge.yaml": LOCAL.replace("name: local", "name: huge").replace("processes: 8", "processes: 32"),
        }
    )


def test_models_of_ones_own(command, good):
    code, out, _ = command("--config-dir", str(good), "model=mine", "dry_run=config")
    assert code == 0
    assert (from_yaml(out).name, from_yaml(out).model.dim) == ("mine", 64)
    code, out, _ = command("dry_run=config", "model=child", f"-cd={good}")
    assert code == 0
    model = from_yaml(out).model
    assert (model.name, model.dim, model.ffn_dim) == ("child", 128, 256)


def test_a_bundle_of_ones_own(command, good):
    code, out, _ = command("--config-dir", str(good), "+lab=long", "dry_run=config")
    assert code == 0
    assert from_yaml(out).training.seq_len == 256
    config = compose(["dry_run=config"]).config
    assert from_yaml(out).model_copy(update={"training": config.training}) == config


def test_a_cluster_of_ones_own_is_among_those_that_fit(command, good):
    for how in (["--config-dir", str(good)], [f"hydra.searchpath=[file://{good}]"]):
        code, _, err = command(*how, "parallel=tp2pp2", "cluster=tiny")
        assert code == 2
        assert "clusters that fit: " in err
        assert "local" in err
        code, _, err = command(*how, "parallel=tp2pp2", "parallel.dp=4", "training.global_batch_size=32")
        assert code == 2
        assert "huge (32)" in err
        assert command(*how, "parallel=tp2pp2", "parallel.dp=4", "cluster=huge")[0] == 99


def test_a_search_path_is_as_good_as_a_folder(command, good):
    search = f"hydra.searchpath=[file://{good}]"
    code, out, _ = command(search, "model=mine", "+lab=long", "dry_run=config")
    assert code == 0
    assert (from_yaml(out).model.dim, from_yaml(out).training.seq_len) == (64, 256)
    code, out, _ = command("--cfg", "job", search, "model=mine", "-p", "model")
    assert code == 0
    assert b"dim: 64" in out
    code, out, _ = command("--info", "searchpath", search)
    assert code == 0
    assert str(good) in out.decode()


@pytest.mark.parametrize("search", [False, True])
def test_a_sweep_over_groups_of_ones_own(command, good, search):
    how = [f"hydra.searchpath=[file://{good}]"] if search else ["--config-dir", str(good)]
    assert command("-m", *how, "model=mine", "+lab=long,short")[0] == 99
    points = [(request.config.model.name, request.config.training.seq_len) for request in command.started]
    assert points == [("mine", 256), ("mine", 64)]
    assert {request.config_dirs for request in command.started} == {(good,)}


def test_hydras_flags_know_the_folder(command, good):
    code, out, _ = command("--help", "--config-dir", str(good))
    assert code == 0
    assert "lab: long, short" in out.decode()
    assert "model: 100m, 10b, 1b, child, debug, mine" in out.decode()
    code, out, _ = command("--cfg", "job", "--config-dir", str(good), "+lab=long")
    assert code == 0
    assert "seq_len: 256" in out.decode()
    code, out, _ = command("--info", "searchpath", "--config-dir", str(good))
    assert code == 0
    assert f"file://{good}" in out.decode()
    code, out, _ = command("--info", "defaults", "--config-dir", str(good), "model=child")
    assert code == 0
    assert "model/child" in out.decode()


def test_a_folder_may_be_named_from_here(command, good, monkeypatch):
    monkeypatch.chdir(good.parent)
    for flags in ([], ["-m"]):
        code, out, _ = command(*flags, "--config-dir", good.name, "model=mine", "dry_run=config")
        assert code == 0
        assert from_yaml(out).model.name == "mine"


def test_a_folder_with_blanks_and_umlauts(command, lab, tmp_path_factory):
    folder = tmp_path_factory.mktemp("a b ü=,")
    (folder / "lab").mkdir()
    (folder / "lab" / "a.yaml").write_text(f"{GLOBAL}tag: ü\n")
    for flags in ([], ["-m"]):
        code, out, err = command(*flags, "--config-dir", str(folder), "+lab=a", "dry_run=config")
        assert code == 0, err
        assert from_yaml(out).tag == "ü"


def test_a_value_that_a_file_leaves_open_is_the_one_before(command, lab):
    """OmegaConf's way: `???` asks for a value, and there is one already."""
    folder = lab(bundle("training:\n  steps: ???\n"))
    code, out, _ = command("--config-dir", str(folder), "+lab=a", "dry_run=config")
    assert code == 0
    assert from_yaml(out).training.steps == 200


# ---------------------------------------------------------------- what is looked at


def test_a_file_that_opens_logs_opens_none(command, lab, tmp_path_factory):
    log = tmp_path_factory.mktemp("log") / "x.log"
    handler = f"{{class: logging.FileHandler, filename: {log}}}"
    logging = f"job_logging: {{version: 1, handlers: {{f: {handler}}}, root: {{handlers: [f]}}}}"
    folder = lab({**of_hydra(logging), "lab/b.yaml": f"{GLOBAL}tag: b\n"})
    for choice in ("+lab=a", "+lab=b,a", "+lab=glob(*)"):
        result = command("-m", "--config-dir", str(folder), choice)
        check_refusal(result, ["hydra.job_logging.root: {'handlers': ['f']}"], folder)
    assert not log.exists()


def test_the_command_line_may_still_choose_how_to_sweep(command, good):
    for sweep in ("hydra.sweeper.max_batch_size=1", "hydra/sweeper=basic"):
        assert command("-m", "--config-dir", str(good), sweep, "+lab=long,short")[0] == 99
        assert len(command.started) == 2


def test_a_cluster_of_ones_own_may_be_the_default(command, good, monkeypatch):
    monkeypatch.setenv("MMHYDRA_CLUSTER", "huge")
    assert command("--config-dir", str(good), "dry_run=config")[0] == 0


def test_confirm_is_for_the_command_line(command, lab):
    folder = lab(bundle("confirm: true\n"))
    assert command("--config-dir", str(folder), "+lab=a", "confirm=true")[0] == 99
    assert command.started[0].confirm
    assert command("--config-dir", str(folder), "+lab=a", "confirm=false")[0] == 99
    assert not command.started[0].confirm


@pytest.mark.parametrize(
    "arguments", [["--config-dir", ""], ["--config-dir="], ["-cd", ""], ["-m", "--config-dir", ""]]
)
def test_a_folder_of_no_name_is_not_the_current_one(command, arguments, tmp_path):
    check_refusal(command("dry_run=config", *arguments), ["type --config-dir FOLDER"], tmp_path)


def test_a_search_path_of_no_name_is_not_the_current_folder(command, tmp_path):
    check_refusal(command("hydra.searchpath=[file://]"), ["hydra.searchpath names no folder"], tmp_path)


def test_a_folder_whose_name_is_too_long(command, tmp_path):
    place = f"/tmp/{'x' * 5000}"
    for flags in (["--config-dir", place], ["-m", "--config-dir", place], [f"hydra.searchpath=[file://{place}]"]):
        code, out, err = command("dry_run=config", *flags)
        assert (code, out) == (2, b"")
        assert "the folder can't be read: File name too long" in err


def test_only_groups_are_looked_at(command, lab):
    broken = b"\xff"
    places = ("node_modules/x", ".venv/x", "lab/__pycache__", ".git", "a/b/c/d")
    hidden = {"lab/.a.yaml": broken, ".b.yaml": broken, "notes.yml": broken}
    folder = lab({**{f"{place}/a.yaml": broken for place in places}, **hidden, "lab/a.yaml": f"{GLOBAL}tag: x\n"})
    code, _, err = command("--config-dir", str(folder), "+lab=a", "dry_run=config")
    assert code == 0, err
    check_refusal(command("--config-dir", str(lab({"a/b/c/x.yaml": broken}))), ["a/b/c/x.yaml can't be read"], folder)


def test_a_pipe_is_not_waited_for(command, lab):
    folder = lab({"lab/a.yaml": f"{GLOBAL}tag: x\n"})
    os.mkfifo(folder / "lab" / "b.yaml")
    check_refusal(command("--config-dir", str(folder)), ["{lab}/lab/b.yaml can't be read: it is no file"], folder)
