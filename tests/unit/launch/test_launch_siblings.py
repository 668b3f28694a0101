"""A new run beside one that differs in little is often a slip of the hand."""

import io
import os
import shutil
import sys

import pytest
from rich.console import Console

from mmhydra.compose import Request
from mmhydra.compose.request import LazyProvenance
from mmhydra.config.explain import Provenance
from mmhydra.launch import siblings, submit
from mmhydra.launch.freeze import Plan
from mmhydra.launch.siblings import closest
from mmhydra.run.directory import RunDirectory
from mmhydra.run.identity import Identity, identify

FAR = {"optim__lr": 0.1, "optim__min_lr": 0.1, "training__steps": 7, "model__ffn_dim": 512}


@pytest.fixture
def new(make_run):
    """A run that has not been started: its folder and identity. Only its folder's name is used."""

    def make(**leaves: object) -> tuple[RunDirectory, Identity]:
        run = make_run(**leaves)
        shutil.rmtree(run.directory.path)
        return run.directory, identify(run.config, {}, None)

    return make


def test_there_is_none_where_there_is_nothing(new):
    assert closest(*new()) is None


def test_a_close_run_with_checkpoints_is_told_with_the_fields_that_differ(make_run, new):
    there = make_run(100, 200, optim__lr=0.004, tag="a")
    sibling = closest(*new(optim__lr=0.005))
    assert str(sibling) == (
        f"run {there.directory.path.name} has 200 steps and differs only in "
        'tag: "a" -> "", optim.lr: 0.004 -> 0.005 (there -> here)'
    )
    assert (sibling.run, sibling.step) == (there.directory, 200)


def test_the_closest_counts(make_run, new):
    make_run(100, optim__lr=0.004, tag="a", training__steps=150)
    close = make_run(100, optim__lr=0.004)
    make_run(100, optim__lr=0.004, tag="a")
    assert closest(*new()).run == close.directory


@pytest.mark.parametrize(("fields", "is_close"), [(3, True), (4, False)])
def test_how_far_is_far(make_run, new, fields, is_close):
    make_run(100, **dict(list(FAR.items())[:fields]))
    assert (closest(*new()) is not None) == is_close


def test_a_run_without_checkpoints_is_none(make_run, new):
    run = make_run(optim__lr=0.004)
    assert closest(*new()) is None
    run.save(run.start(), 100)
    assert closest(*new()) is not None
    (run.folder(100) / "stamp.json").unlink()
    assert closest(*new()) is None


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"{",
        b"[]",
        b"text",
        b"\xff\xfe",
        b"run_id: x\n",
        b"identity:\n",
        b"identity: text\n",
        b"identity: [1, 2]\n",
        b"identity: 7\n",
    ],
)
def test_a_damaged_one_is_none_and_hides_no_other(make_run, new, content):
    damaged = make_run(100, optim__lr=0.004)
    file = damaged.directory.path / "identity.yaml"
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    assert closest(*new()) is None
    whole = make_run(100, tag="whole")
    assert closest(*new()).run == whole.directory


def test_other_folders_are_none(make_run, new):
    run = make_run(100, optim__lr=0.004)
    (run.directory.path.parent / "notes").mkdir()
    (run.directory.path.parent / "notes.txt").write_text("x")
    (run.directory.path.parent / "link").symlink_to("nowhere")
    assert closest(*new()).run == run.directory


def test_a_run_is_no_sibling_of_itself(make_run):
    run = make_run(100)
    assert closest(run.directory, identify(run.config, {}, None)) is None


def test_an_evaluation_is_no_slip_of_the_run_that_it_measures(make_run, new):
    run = make_run(100)
    directory, identity = new(training__steps=0)
    assert closest(directory, identity) is not None
    weights = str(run.folder(100))
    assert closest(*new(training__steps=0, checkpoint__init_from=weights)) is None


def test_other_data_and_initial_weights_are_told(make_run, new):
    make_run(100)
    directory, _ = new(tag="x")
    identity = identify(make_run(tag="x").config, {"demo-v2": "9" * 64}, "8" * 64)
    text = str(closest(directory, identity))
    assert f', manifests.demo-v2: absent -> "{"9" * 64}"' in text
    assert f', init_from: null -> "{"8" * 64}"' in text


def test_a_sweep_of_thousands_is_not_read_whole(make_run, new, monkeypatch):
    monkeypatch.setattr(siblings, "_LOOKED_AT", 2)
    for number, leaves in enumerate([{"tag": "old"}, FAR, {**FAR, "tag": "x"}]):
        run = make_run(100, **leaves)
        os.utime(run.directory.path, (number, number))
    assert closest(*new()) is None
    monkeypatch.setattr(siblings, "_LOOKED_AT", 3)
    assert closest(*new()) is not None


# ---------------------------------------------------------------- what the start says


@pytest.fixture
def told(monkeypatch, tmp_path):
    """What a start says of siblings."""
    monkeypatch.chdir(tmp_path)

    def tell(config, directory, identity) -> str:
        console = Console(file=io.StringIO(), width=300)
        request = Request(config, (), None, confirm=False, origins=LazyProvenance(lambda: Provenance([])))
        submit._tell_sibling(console, Plan(request, {}, identity, directory))
        return console.file.getvalue()

    return tell


def test_the_note_ends_with_the_line_to_type(make_run, new, told):
    there = make_run(100, optim__lr=0.004)
    text = told(there.config, *new())
    assert text.startswith(
        f"note: this is a new run; run {there.directory.path.name} has 100 steps and differs only in "
    )
    python = sys.executable
    assert text.rstrip().endswith(
        f"to go on with that one: {python} -m mmhydra.train resume=outputs/debug/{there.directory.path.name}"
    )


def test_nothing_is_said_of_a_run_that_was_started_before(make_run, told):
    make_run(100, optim__lr=0.004)
    run = make_run()
    assert told(run.config, run.directory, identify(run.config, {}, None)) == ""


def test_nothing_is_said_of_an_extension(make_run, new, told, change):
    parent = make_run(100)
    config = change(parent.config, {"checkpoint.extend_from": str(parent.folder(100))})
    assert told(config, *new(training__steps=400)) == ""
