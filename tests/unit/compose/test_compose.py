"""conf/ and the command line become a typed request, or one readable message."""

import pytest
import yaml

from mmhydra import paths
from mmhydra.compose import Request, compose, known_clusters
from mmhydra.compose.loader import DATASET_GROUPS
from mmhydra.compose.request import LazyProvenance
from mmhydra.config import typed
from mmhydra.config.facts import Facts
from mmhydra.config.frozen import from_yaml, to_yaml
from mmhydra.config.rules import check
from mmhydra.config.typed import is_known
from mmhydra.errors import UserError

GROUPS = (
    "model",
    "parallel",
    "data",
    "tokens",
    "precision",
    "optim",
    "cluster",
    "checkpoint",
    "loader",
    "track",
    "experiment",
)
CHOICES = sorted(
    f"{path.parent.name}={path.stem}"
    for path in paths.config_dir().glob("*/*.yaml")
    if path.parent.name not in DATASET_GROUPS
)
LARGE = ["model=10b", "data=mix_v0.2", "cluster=h100_256"]

# What stands beside a choice so that the run is legal; nothing for the others.
COMPANY = {
    "model=100m": ["parallel=fsdp"],
    "model=1b": ["parallel=fsdp"],
    "model=10b": ["parallel=tp4pp8", "cluster=h100_256"],
    "parallel=tp4pp8": LARGE,
    "cluster=h100_64": ["parallel=fsdp", "parallel.dp=auto", "training.global_batch_size=64"],
    "cluster=h100_256": ["parallel=tp4pp8", *LARGE[:2]],
    "cluster=slurm_dev": ["parallel=tp2pp2"],
    "loader=object_store": ["loader.store.url=s3://bucket/data"],
    "precision=float8_rowwise": ["parallel=tp4pp8", *LARGE],
    "precision=float8_rowwise_gw_hp": ["parallel=tp4pp8", *LARGE],
}


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    for name in ("MMHYDRA_CLUSTER", "MMHYDRA_DATA", "MMHYDRA_OUTPUTS", "MMHYDRA_REMOTE"):
        monkeypatch.delenv(name, raising=False)


def test_every_group_of_the_design_is_there():
    assert {choice.partition("=")[0] for choice in CHOICES} == set(GROUPS)


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_composes_is_legal_and_freezes(choice):
    config = compose([choice, *COMPANY.get(choice, [])]).config
    assert [problem for problem in check(config, Facts(known_clusters())) if not problem.is_note] == []
    text = to_yaml(config)
    assert from_yaml(text) == config
    assert to_yaml(from_yaml(text)) == text


@pytest.mark.parametrize("group", [group for group in GROUPS if group not in ("track", "experiment")])
def test_a_choice_names_itself_as_its_file(group):
    for path in (paths.config_dir() / group).glob("*.yaml"):
        document = yaml.safe_load(path.read_text())
        section = document if group not in ("model", "data") else document[group]
        assert section["name"] == path.stem


@pytest.mark.parametrize("group", DATASET_GROUPS)
def test_groups_of_datasets_are_told_from_those_of_runs(group):
    for text in (f"{group}=demo-v2", f"+{group}=demo-v2"):
        with pytest.raises(UserError, match=f"{group}: a run chooses nothing from this group.*python -m mmhydra.data"):
            compose([text])


def test_the_command_keys_are_no_part_of_the_run():
    request = compose(["dry_run=config", "tag=a"])
    assert request.dry_run == "config"
    assert request.overrides == ("dry_run=config", "tag=a")
    assert "dry_run" not in request.config.model_dump()


@pytest.mark.parametrize(
    ("overrides", "explicit"),
    [
        ([], False),
        (["cluster=local"], True),
        (["+cluster=local"], True),
        (["cluster.compile=true"], False),
        (["tag=cluster"], False),
    ],
)
def test_whether_the_command_line_names_the_cluster(default_config, overrides, explicit):
    request = Request(default_config, tuple(overrides), None, confirm=False, origins=LazyProvenance(lambda: None))
    assert request.cluster_is_explicit is explicit


def test_the_command_line_wins_over_what_a_file_selects():
    config = compose(["model=10b", "precision=bf16", "data=mix_v0.2", "optim.lr=2e-4"]).config
    assert (config.precision.name, config.tokens.name, config.optim.lr) == ("bf16", "qwen_full", 2e-4)


def test_a_model_selects_its_precision_and_a_mix_its_vocabulary():
    config = compose(["model=10b", "data=mix_v0.2"]).config
    assert (config.precision.name, config.tokens.name) == ("float8_rowwise", "qwen_full")


def test_sinks_combine():
    track = compose(["track=[aim,prometheus]"]).config.track
    assert track.aim is not None
    assert track.prometheus is not None
    assert track.tensorboard is None
    single = compose(["track=aim"]).config.track
    assert single.aim is not None
    assert single.prometheus is None


def test_two_equal_overrides_warn():
    request = compose(["tag=a", "optim.lr=1e-3", "tag=a", "optim.lr=0.001"])
    assert request.warnings == ("tag=a is given twice", "optim.lr=0.001 is given twice")
    assert request.config.tag == "a"


@pytest.mark.parametrize(
    "overrides",
    [
        ["tag=a", "tag=b"],
        ["model=debug", "model=1b"],
        ["optim.lr=1", "+optim.lr=1"],
        ["tag=a", "~tag"],
        ["tag=1", "tag=True"],
    ],
)
def test_two_different_overrides_are_refused(overrides):
    with pytest.raises(UserError, match="given twice and differently") as refusal:
        compose(overrides)
    assert all(override in str(refusal.value) for override in overrides)


def test_folders_come_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MMHYDRA_DATA", "/somewhere/data")
    monkeypatch.setenv("MMHYDRA_OUTPUTS", "relative")
    folders = compose([]).config.paths
    assert folders.data == "/somewhere/data"
    assert folders.outputs == str(tmp_path / "relative")


def test_folders_are_those_of_the_checkout_else_of_the_current_folder(monkeypatch, tmp_path):
    checkout = paths.checkout()
    assert checkout is not None
    assert paths.folder("MMHYDRA_DATA", "data") == str(checkout / "data")
    monkeypatch.setattr(paths, "checkout", lambda: None)
    monkeypatch.chdir(tmp_path)
    assert paths.folder("MMHYDRA_DATA", "data") == str(tmp_path / "data")


REFUSED = [
    (["model=nope"], ["model=nope: no such choice", "10b", "debug"]),
    (["model=10bb"], ["did you mean model=10b"]),
    (["lr=1e-3"], ["lr: no such key; did you mean optim.lr?"]),
    (["modle=debug", "training.stesp=5", "cluster=h100"], ["3 problems", "model", "training.steps", "cluster=h100_64"]),
    (["modle=debug"], ["modle: no such key; did you mean model?"]),
    (["training.stesp=5"], ["training.stesp: no such key; did you mean training.steps"]),
    (["+training.foo=1"], ["training.foo: no such key"]),
    (["+foo=1"], ["foo: no such key"]),
    (["training.steps=abc"], ["training.steps: Input should be a valid integer, got 'abc'"]),
    (["training.steps=1,2"], ["training.steps=1,2 names several values; type -m"]),
    (["model=1b,10b"], ["names several choices; type -m"]),
    (["model=[1b,10b]"], ["a run has one model"]),
    (["training=5"], ["training: this is a section", "training.steps"]),
    (["+tag=a"], ["tag: it is there already; type tag=VALUE"]),
    (["parallel.dp=0"], ["parallel.dp: Input should be greater than or equal to 1 or 'auto', got 0"]),
    (["name=???"], ["Missing mandatory value: name"]),
    (["name=${nope}"], ["'nope' not found"]),
    (["name=${name}"], ["Recursive interpolation"]),
    (["~tokens"], ["tokens: no value"]),
    (["track=null"], ["track=null chooses nothing", "jsonl"]),
    (["experiment=null"], ["chooses nothing; leave it out"]),
    (["dry_run=yes"], ["dry_run: 'yes'; legal values are config, sbatch, freeze and null; type dry_run=config"]),
    (["confirm=1"], ["confirm: 1; legal values are true and false"]),
    (["hydra.run.dir=x"], ["hydra.run.dir: Hydra only composes here", "paths.outputs"]),
    (["hydra.ouput_subdir=x"], ["hydra.ouput_subdir: Hydra only composes"]),
    (["+hydra.foo=x"], ["hydra.foo"]),
    (["hydra/launcher=basic"], ["cluster=NAME"]),
    (["hydra.mode=MULTIRUN"], ["type -m"]),
    (["=5"], ["=5: not of the form KEY=VALUE: there is no key"]),
    (["foo"], ["foo: not of the form KEY=VALUE: there is no '='"]),
    ([""], ["'': not of the form KEY=VALUE"]),
    (["''"], ["'': not of the form KEY=VALUE"]),
    (["tag=ü"], ["quote it: tag=\"'ü'\""]),
    (["optim={lr:"], ["quote the whole argument for the shell"]),
    (["tag=a,b"], ["type -m", "or quote it: tag=\"'a,b'\""]),
    (["tokens.special=a,b"], ["type -m", "make them a list: 'tokens.special=[a,b]'"]),
    (["+model=1b"], ["type model=1b, without the plus"]),
    (["++model=1b"], ["type model=1b, without the plus"]),
    (["model@x=1b"], ["no packages; type model=1b"]),
    (["+model@x=1b"], ["no packages; type model=1b"]),
    (["optim={lr:1e-3}"], ["chooses nothing; to set values, type optim.lr=0.001"]),
    (["hydra/sweeper=nope"], ["hydra/sweeper=nope: no such choice", "legal: basic"]),
    (["training/steps=1"], ["no such group; did you mean training.steps?"]),
    (["~nope"], ["nope: no such key"]),
    (["~model.dimm"], ["model.dimm: no such key; did you mean model.dim"]),
    (["~track.aim.repo"], ["there is nothing to delete"]),
    (["seed.data=99999999999999999999"], ["less than 2**63, got 99999999999999999999"]),
    (["data.sources.0.wieght=2"], ["data.sources.0.wieght: no such key; did you mean data.sources.0.weight"]),
    (["data.sources.3.wieght=2"], ["no such key; did you mean data.sources.3.weight"]),
    (["data.sources.x.weight=2"], ["no such key; did you mean data.sources.0.weight"]),
    (["data.sources.9.weight=2"], ["data.sources[9]: list index out of range"]),
]


@pytest.mark.parametrize(("overrides", "texts"), REFUSED, ids=[" ".join(overrides) for overrides, _ in REFUSED])
def test_a_wrong_command_line_is_one_readable_message(overrides, texts):
    with pytest.raises(UserError) as refusal:
        compose(overrides)
    message = str(refusal.value)
    assert [text for text in texts if text.lower() not in message.lower()] == [], message
    assert "append" not in message  # Hydra's `+key=value`: the schema would refuse it


def test_the_variable_that_chose_a_cluster_is_named(monkeypatch):
    monkeypatch.setenv("MMHYDRA_CLUSTER", "h100_65")
    with pytest.raises(UserError, match=r"MMHYDRA_CLUSTER chose it; did you mean h100_64"):
        compose([])


def test_a_file_can_not_override_a_group_that_stands_later(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - debug\n  - override /cluster: h100_64\n"
    )
    with pytest.raises(UserError, match=r"groups that stand before its own.* cluster stands later; type cluster="):
        compose(["model=mine"], [tmp_path])


def test_a_file_that_overrides_groups_is_of_the_global_package(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("defaults:\n  - debug\n  - override /precision: bf16\n")
    with pytest.raises(UserError, match=r"In 'model/mine'.*'precision'.* has # @package _global_ as its first line"):
        compose(["model=mine"], [tmp_path])


@pytest.mark.parametrize("defaults", ["[b]", "[/lab/b]"])
def test_files_that_include_each_other_are_named(tmp_path, defaults):
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "a.yaml").write_text(f"defaults: {defaults}\n")
    (tmp_path / "lab" / "b.yaml").write_text("defaults: [a]\n")
    (tmp_path / "lab" / "c.yaml").write_text("defaults: [a]\n")
    with pytest.raises(UserError, match=r"refers to itself, by the defaults of lab/a\.yaml, lab/b\.yaml\n"):
        compose(["+lab=c"], [tmp_path])


def test_a_group_of_the_user_is_added_with_one_plus(tmp_path):
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "a.yaml").write_text("# @package _global_\ntag: x\n")
    with pytest.raises(UserError, match=r"type \+lab=a, with one plus"):
        compose(["++lab=a"], [tmp_path])


@pytest.mark.parametrize(
    ("key", "known"),
    [
        ("tokens.special.0", True),
        ("data.sources.12.weight", True),
        ("data.schedule.0.shares.text.1", True),
        ("data.sources.first", False),
        ("data.sources.0.weight.x", False),
        ("tokens.special.0.x", False),
        ("track.aim.repo", True),
    ],
)
def test_keys_below_a_list_are_those_of_its_elements(key, known):
    assert is_known(key) == known


def test_synonyms_are_keys():
    assert [key for key in typed._SYNONYMS.values() if not is_known(key)] == []
    assert [word for word in typed._SYNONYMS if is_known(word)] == []


def test_known_clusters_come_smallest_first():
    clusters = known_clusters()
    assert next(iter(clusters)) == "local"
    assert [name for name in clusters if name.startswith("h100")] == ["h100_64", "h100_256"]


def test_a_broken_file_of_another_cluster_harms_nobody(monkeypatch, tmp_path):
    folder = tmp_path / "cluster"
    folder.mkdir()
    (folder / "good.yaml").write_bytes((paths.config_dir() / "cluster" / "local.yaml").read_bytes())
    (folder / "child.yaml").write_text("defaults: [good]\nname: child\n")
    (folder / "broken.yaml").write_text("name: [\n")
    monkeypatch.setattr(paths, "config_dir", lambda: tmp_path)
    assert list(known_clusters()) == ["good"]


def test_a_broken_file_is_named(monkeypatch, tmp_path):
    (tmp_path / "config.yaml").write_text("a: [\n")
    monkeypatch.setattr(paths, "config_dir", lambda: tmp_path)
    with pytest.raises(UserError, match=r"config\.yaml"):
        compose([])
