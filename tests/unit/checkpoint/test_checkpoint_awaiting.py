"""What a checkpoint that is not there yet will hold, and whether its run will have it."""

import json
from types import SimpleNamespace

import pytest
from fake_run import MANIFESTS, VOCABULARY
from hypothesis import given
from hypothesis import strategies as st

from mmhydra.checkpoint import awaiting
from mmhydra.checkpoint.awaiting import Digests, kept_steps, will_hold
from mmhydra.checkpoint.keeper import steps_to_remove
from mmhydra.checkpoint.stamp import CheckpointError
from mmhydra.checkpoint.verify import held
from mmhydra.errors import UserError

KNOWN = {name: Digests(digest, VOCABULARY[name]) for name, digest in MANIFESTS.items()}
MANIFEST = SimpleNamespace(digest=MANIFESTS["demo-v2"], vocabulary=SimpleNamespace(digest=VOCABULARY["demo-v2"]))


@pytest.fixture
def parent(make_run):
    """A run of 300 steps that has saved none of them."""
    run = make_run(training__steps=300)
    run.keeper = run.start()
    return run


def test_it_is_what_the_stamp_will_say(parent):
    """By the config that is about to be frozen, by the frozen one, and in the end by the stamp."""
    folder = parent.folder(300)
    planned, frozen = will_hold(folder, parent.config, KNOWN), will_hold(folder, None, {})
    parent.save(parent.keeper, 300)
    assert planned == frozen == held(folder)
    assert will_hold(folder, None, {}) == planned


def test_data_that_is_not_at_hand_is_read_once(parent, monkeypatch):
    read = []
    monkeypatch.setattr(awaiting, "load_manifest", lambda folder: read.append(folder) or MANIFEST)
    awaiting._read_digests.cache_clear()
    found = [will_hold(parent.folder(step), parent.config, {}) for step in (100, 200, 300)]
    assert [one.manifests for one in found] == [MANIFESTS] * 3
    assert [str(folder) for folder in read] == [f"{parent.config.paths.data}/demo-v2"]


def test_data_that_is_gone_is_told(parent):
    awaiting._read_digests.cache_clear()
    with pytest.raises(UserError, match=r"no dataset in .*demo-v2"):
        will_hold(parent.folder(300), parent.config, {})


def test_a_run_that_nobody_has_frozen_is_refused(make_run):
    run = make_run(training__steps=300)
    with pytest.raises(
        CheckpointError, match=r"step-00000300 is awaited, and nothing says what it will hold: .* no run"
    ):
        will_hold(run.folder(300), None, {})


def test_a_run_whose_provenance_says_nothing_of_its_data_is_refused(parent):
    file = parent.directory.attempts[-1].path / "provenance.json"
    document = json.loads(file.read_text())
    del document["vocabulary"]
    file.write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match=r"provenance\.json of its run lacks 'vocabulary'"):
        will_hold(parent.folder(300), None, {})


def test_a_place_that_no_run_saves_to_is_refused(parent):
    with pytest.raises(CheckpointError, match="name OUTPUTS/NAME/RUN_ID/checkpoints/step-NNNNNNNN"):
        will_hold(parent.directory.path, parent.config, KNOWN)


@pytest.mark.parametrize("step", [0, 50, 301, 400])
def test_a_step_that_is_not_saved_is_refused(parent, step):
    with pytest.raises(
        CheckpointError,
        match=rf"does not have step {step} at its end: .* keeps are 100, 200, 300 \(checkpoint\.interval=100",
    ):
        will_hold(parent.folder(step), parent.config, KNOWN)


def test_a_step_that_is_removed_again_is_refused(make_run):
    run = make_run(training__steps=900)
    run.start()
    assert will_hold(run.folder(700), None, {}).step == 700
    with pytest.raises(CheckpointError, match=r"step 600 at its end: .* 700, 800, 900 .*checkpoint\.keep_latest=3"):
        will_hold(run.folder(600), None, {})


@pytest.mark.parametrize(
    "leaves",
    [
        {"checkpoint__enabled": False},
        {"training__steps": 0, "checkpoint__init_from": "/o/debug/3f83c51a9fd0/checkpoints/step-00000100"},
    ],
)
def test_a_run_that_saves_nothing_is_refused(make_run, leaves):
    run = make_run(**leaves)
    with pytest.raises(CheckpointError, match=r"saves no checkpoint \(an evaluation, or checkpoint\.enabled=false\)"):
        will_hold(run.folder(run.config.training.num_steps), run.config, KNOWN)


@pytest.mark.parametrize(
    ("leaves", "steps"),
    [
        ({"training.steps": 250}, [100, 200, 250]),
        ({"training.steps": 300}, [100, 200, 300]),
        ({"training.steps": 1000}, [800, 900, 1000]),
        ({"training.steps": 400, "checkpoint.keep_latest": 0}, [100, 200, 300, 400]),
        ({"training.steps": 50}, [50]),
        ({"training.steps": 0}, [0]),
        ({"training.steps": None, "training.tokens": 2048 * 150 + 1}, [100, 151]),
        ({"training.steps": 700, "checkpoint.keep_every_tokens": 2048 * 150}, [200, 300, 500, 600, 700]),
        ({"training.steps": 400, "checkpoint.extend_from": "/o/d/3f83c51a9fd0/checkpoints/step-00000200"}, [300, 400]),
        (
            {"training.steps": 400, "checkpoint.extend_from": "/o/d/3f83c51a9fd0/checkpoints/step-00000150"},
            [200, 300, 400],
        ),
        ({"training.steps": 200, "checkpoint.init_from": "/o/d/3f83c51a9fd0/checkpoints/step-00000150"}, [100, 200]),
    ],
)
def test_what_a_run_has_at_its_end(default_config, change, leaves, steps):
    assert kept_steps(change(default_config, leaves)) == steps


@given(
    num_steps=st.integers(1, 60),
    interval=st.integers(1, 20),
    keep_latest=st.sampled_from([0, 2, 3]),
    every_steps=st.none() | st.integers(1, 30),
)
def test_it_is_what_removing_after_each_save_leaves(
    default_config, change, num_steps, interval, keep_latest, every_steps
):
    config = change(
        default_config,
        {
            "training.steps": num_steps,
            "checkpoint.interval": interval,
            "checkpoint.keep_latest": keep_latest,
            "checkpoint.keep_every_tokens": every_steps and every_steps * default_config.training.tokens_per_step,
        },
    )
    there: list[int] = []
    for step in range(1, num_steps + 1):
        if step % interval == 0 or step == num_steps:
            there.append(step)
            removed = steps_to_remove(there, config)
            there = [one for one in there if one not in removed]
    assert kept_steps(config) == there
