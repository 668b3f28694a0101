"""Runs that start from a checkpoint that another run is still to save: named and checked before either is started."""

import shutil
from types import SimpleNamespace

import pytest
from fake_run import VOCABULARY, FakeRun

from mmhydra.checkpoint.stamp import CheckpointError
from mmhydra.compose import compose
from mmhydra.compose.request import LazyProvenance, Request
from mmhydra.config.explain import Provenance
from mmhydra.config.problems import ConfigError
from mmhydra.errors import UserError
from mmhydra.launch import freeze as freeze_module
from mmhydra.launch.freeze import plan, run_directory
from mmhydra.launch.naming import name_or_reason, name_run, require_starts
from mmhydra.run.status import Status

MANIFESTS = {"demo-v2": SimpleNamespace(vocabulary=SimpleNamespace(digest=VOCABULARY["demo-v2"]), digest="9" * 64)}


@pytest.fixture
def stable(make_run):
    """A run of 200 steps that is frozen and has saved nothing."""
    return make_run(training__steps=200)


@pytest.fixture
def child(change):
    """The config of a run that starts from a step of another, with these leaves changed."""

    def make(run, step=200, start="extend_from", **leaves):
        dotted = {name.replace("__", "."): value for name, value in leaves.items()}
        first = {"training.steps": 300, f"checkpoint.{start}": str(run.folder(step)), "checkpoint.awaits": True}
        return change(run.config, {**first, **dotted})

    return make


@pytest.mark.parametrize(("start", "key"), [("extend_from", "extends"), ("init_from", "init_from")])
def test_the_id_is_the_same_before_and_after_the_checkpoint_is_there(stable, child, start, key):
    config = child(stable, start=start)
    before = name_run(config, MANIFESTS)
    assert before.document[key] == {"run": stable.directory.path.name, "step": 200}
    assert name_run(config, MANIFESTS, parent=stable.config) == before
    stable.save(stable.start(), 100, 200)
    assert name_run(config, MANIFESTS) == name_run(config, MANIFESTS, parent=stable.config) == before
    shutil.rmtree(stable.directory.path)
    assert name_run(config, MANIFESTS, parent=stable.config) == before


def test_a_child_of_a_run_that_is_not_frozen_yet_is_named_by_the_parent_s_config(make_run, child):
    run = make_run(training__steps=200)
    shutil.rmtree(run.directory.path)
    config = child(run)
    assert name_run(config, MANIFESTS, parent=run.config).document["extends"]["run"] == run.directory.path.name
    with pytest.raises(CheckpointError, match="is awaited, and nothing says what it will hold"):
        name_run(config, MANIFESTS)


def test_children_of_other_steps_and_runs_are_other_runs(make_run, stable, child):
    other = make_run(training__steps=200, tag="other")
    configs = [child(stable), child(stable, 100), child(stable, start="init_from"), child(other, tag="")]
    assert len({name_run(config, MANIFESTS).run_id for config in configs}) == 4


REFUSALS = [
    ({"training__steps": 200}, r"has 200 steps already, training\.steps=200 adds none"),
    ({"training__seq_len": 64}, r"(?s)read other samples\n  training\.seq_len: 128 there, 64 here"),
    ({"seed__data": 7}, r"(?s)read other samples\n  seed\.data: 42 there, 7 here"),
    ({"model__ffn_dim": 512}, r"(?s)its weights do not fit.*\n  model\.ffn_dim: 384 -> 512"),
]


@pytest.mark.parametrize("by_config", [True, False])
@pytest.mark.parametrize(("leaves", "text"), REFUSALS)
def test_what_would_be_refused_at_its_start_is_refused_at_once(stable, child, leaves, text, by_config):
    config, parent = child(stable, **leaves), stable.config if by_config else None
    with pytest.raises(CheckpointError, match=text):
        name_run(config, MANIFESTS, parent=parent)
    stable.save(stable.start(), 200)
    with pytest.raises(CheckpointError, match=text):  # as for a checkpoint that is there
        name_run(
            config.model_copy(update={"checkpoint": config.checkpoint.model_copy(update={"awaits": False})}), MANIFESTS
        )


def test_another_vocabulary_is_refused(stable, child):
    other = {"demo-v2": SimpleNamespace(vocabulary=SimpleNamespace(digest="8" * 64), digest="9" * 64)}
    with pytest.raises(CheckpointError, match=r"vocabulary\.digests"):
        name_run(child(stable), other)


def test_weights_alone_go_with_any_stream(stable, child):
    name_run(child(stable, start="init_from", seed__data=7, training__steps=100), MANIFESTS)


def test_data_of_a_parent_below_another_folder_are_not_taken_for_the_child_s(stable, child):
    config = child(stable, paths__data="/elsewhere")
    with pytest.raises(UserError, match=f"no dataset in {stable.config.paths.data}"):
        name_run(config, MANIFESTS, parent=stable.config)


def test_a_step_that_the_parent_will_not_have_is_refused(stable, child):
    with pytest.raises(CheckpointError, match=r"does not have step 150 at its end: .* are 100, 200"):
        name_run(child(stable, 150), MANIFESTS, parent=stable.config)


def test_before_the_data_is_there_the_run_id_is_pending(stable, child):
    config = child(stable)
    require_starts(config)
    assert name_or_reason(config).startswith("pending (demo-v2 is not in ")


def planned(config, monkeypatch, run=None):
    monkeypatch.setattr(freeze_module, "prepare", lambda *arguments, **options: MANIFESTS)
    origins = LazyProvenance(lambda: Provenance([]))
    return plan(Request(config, (), None, confirm=False, origins=origins, run=run), print)


def test_a_child_goes_on_under_its_id(stable, child, monkeypatch):
    """By the same command and by resume=, with its parent's checkpoint or, once it has its own, without."""
    config = child(stable)
    identity = name_run(config, MANIFESTS)
    run = FakeRun(config, run_directory(config, identity), {"demo-v2": "9" * 64})
    run.directory.create(identity)
    keeper = run.start()
    assert planned(config, monkeypatch).run == run.directory
    assert planned(config, monkeypatch, run.directory).identity == identity
    run.save(keeper, 300)
    shutil.rmtree(stable.directory.path)
    assert planned(config, monkeypatch, run.directory).identity == identity
    assert run.directory.read_identity() == identity


def test_what_an_evaluation_measured_is_not_needed_any_more(stable, child, monkeypatch):
    config = child(stable, start="init_from", training__steps=0)
    identity = name_run(config, MANIFESTS)
    run = FakeRun(config, run_directory(config, identity), {"demo-v2": "9" * 64})
    run.directory.create(identity)
    run.start()
    shutil.rmtree(stable.directory.path)
    with pytest.raises(CheckpointError, match="nothing says what it will hold"):
        planned(config, monkeypatch, run.directory)
    Status("done", 0, 0, "").write(run.directory.attempts[-1].status)
    assert planned(config, monkeypatch, run.directory).is_complete


def test_extending_a_child_starts_from_what_is_there(stable, child):
    config = child(stable)
    identity = name_run(config, MANIFESTS)
    run = FakeRun(config, run_directory(config, identity), {"demo-v2": "9" * 64})
    run.directory.create(identity)
    run.save(run.start(), 300)
    checkpoint = compose([f"extend={run.directory.path}", "training.steps=400"]).config.checkpoint
    assert (checkpoint.extend_from, checkpoint.awaits) == (str(run.folder(300)), False)
    with pytest.raises(ConfigError, match=r"checkpoint\.awaits: extend=.* says where to start from; leave it out"):
        compose([f"extend={run.directory.path}", "training.steps=400", "checkpoint.awaits=true"])
