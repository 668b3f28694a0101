"""What a run does with its checkpoints: resume, refuse, retain."""

import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmhydra.checkpoint.keeper import NotThereYet, Superseded, steps_to_remove
from mmhydra.checkpoint.stamp import CheckpointError, read_stamp, stamped_steps
from mmhydra.errors import ExitCode
from mmhydra.files import sha256_of_file


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "flipped byte": lambda folder: flip(folder / "__0_0.distcp"),
    "truncated file": lambda folder: (folder / "__0_0.distcp").write_bytes(b""),
    "missing file": lambda folder: (folder / "__1_0.distcp").unlink(),
    "missing metadata": lambda folder: (folder / ".metadata").unlink(),
    "missing config": lambda folder: (folder / "config.yaml").unlink(),
    "changed config": lambda folder: flip(folder / "config.yaml"),
    "changed patch": lambda folder: flip(folder / "code.patch"),
    "extra file": lambda folder: (folder / "__9_0.distcp").write_bytes(b"x"),
    "broken stamp": lambda folder: (folder / "stamp.json").write_text("{"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_resume_goes_loudly_to_the_previous_whole_checkpoint(make_run, name):
    run = make_run()
    DAMAGES[name](run.save(run.start(), 100, 200, 300))
    run.events.clear()
    keeper = run.start()
    assert keeper.step_to_resume() == 200
    assert run.kinds() == ["checkpoint_corrupt", "resume"]
    assert "step-00000300" in run.events[0][1]
    keeper.loaded(200 * 16)


@pytest.mark.parametrize("name", DAMAGES)
def test_or_refuses_if_the_config_says_so(make_run, name):
    run = make_run(checkpoint__on_corrupt="refuse")
    DAMAGES[name](run.save(run.start(), 100, 200))
    run.events.clear()
    with pytest.raises(CheckpointError, match="step-00000200"):
        run.start().step_to_resume()
    assert run.kinds() == ["checkpoint_corrupt"]


def test_a_run_without_a_whole_checkpoint_does_not_start_over(make_run):
    run = make_run()
    run.save(run.start(), 100, 200)
    for step in (100, 200):
        flip(run.folder(step) / ".metadata")
    with pytest.raises(CheckpointError, match=r"none of the 2 checkpoints in .* is whole; restore one, or move"):
        run.start().step_to_resume()


def test_a_fresh_run_has_nothing_to_resume(make_run):
    run = make_run()
    keeper = run.start()
    assert keeper.step_to_resume() == -1
    keeper.loaded(0)
    with pytest.raises(CheckpointError, match="stands at sample 16, step 0 ends at 0"):
        keeper.loaded(16)


def test_the_stream_must_stand_where_the_step_left_it(make_run):
    run = make_run()
    run.save(run.start(), 100)
    keeper = run.start()
    keeper.step_to_resume()
    keeper.loaded(1600)
    with pytest.raises(CheckpointError, match="stands at sample 1599, step 100 ends at 1600"):
        keeper.loaded(1599)


def test_a_checkpoint_of_another_order_of_samples_is_refused_with_what_to_type(make_run):
    run = make_run()
    run.stream_algorithm = 1
    folder = run.save(run.start(), 100)
    run.stream_algorithm = 2
    with pytest.raises(CheckpointError) as refusal:
        run.start().step_to_resume()
    text = str(refusal.value)
    assert "version 1 of the stream put its samples in order, this code has version 2" in text
    assert "its sample 1,600 is another one" in text
    assert f"checkpoint.init_from={folder}" in text

    weights_alone = make_run(checkpoint__init_from=str(folder))
    weights_alone.start().require_initial_weights()
    whole_state = make_run(checkpoint__extend_from=str(folder), training__steps=300)
    with pytest.raises(CheckpointError, match="version 1 of the stream"):
        whole_state.start().require_initial_weights()


def test_a_resumed_run_stamps_its_parent(make_run):
    run = make_run()
    first = run.save(run.start(), 100)
    keeper = run.start()
    keeper.step_to_resume()
    stamp = read_stamp(run.save(keeper, 200))
    assert stamp.attempt == 2
    assert (stamp.parent.kind, stamp.parent.step, stamp.parent.path) == ("resume", 100, str(first))
    assert stamp.parent.stamp_sha256 == sha256_of_file(first / "stamp.json")


@pytest.mark.parametrize(
    ("other", "line"),
    [
        ({"model__ffn_dim": 512}, "model.ffn_dim: 384 -> 512"),
        ({"optim__lr": 0.004}, "optim.lr: 0.003 -> 0.004"),
        ({"tag": "x"}, 'tag: "" -> "x"'),
        ({"manifests": {"demo-v2": "3" * 64}}, f'data_manifests.demo-v2: "{"1" * 64}" -> "{"3" * 64}"'),
        ({"manifests": {}}, 'data_manifests.demo-v2: "1'),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_field_by_field(make_run, other, line):
    run = make_run()
    stranger = make_run(**other)
    shutil.copytree(run.save(run.start(), 100), stranger.folder(100))
    with pytest.raises(CheckpointError) as refusal:
        stranger.start().step_to_resume()
    text = str(refusal.value)
    assert "another run made it (in the checkpoint -> in this run)" in text
    assert f"  {line}" in text


def test_what_is_no_identity_may_differ(make_run):
    run = make_run()
    other = make_run(checkpoint__interval=7, parallel__dp=2, track__log_interval=5)
    assert other.directory == run.directory
    run.save(run.start(), 100)
    assert other.start().step_to_resume() == 100


def initial(make_run, source, **leaves):
    run = make_run(tag="child", checkpoint__init_from=str(source), **leaves)
    return run, run.start()


def test_initial_weights_are_stamped_as_the_parent(make_run):
    run = make_run()
    source = run.save(run.start(), 100)
    child, keeper = initial(make_run, source, optim__lr=0.001)
    assert keeper.step_to_resume() == -1
    keeper.require_initial_weights()
    keeper.loaded(0)
    stamp = read_stamp(child.save(keeper, 50))
    assert (stamp.parent.kind, stamp.parent.step) == ("init_from", 100)


@pytest.mark.parametrize(
    ("leaves", "line"),
    [
        ({"model__num_layers": 5}, "model.num_layers: 4 -> 5"),
        ({"tokens__pad_multiple": 4096}, "tokens.pad_multiple: 64 -> 4096"),
        ({"tokens__special": ["<|other|>"]}, "tokens.special.0"),
    ],
)
def test_initial_weights_of_another_shape_or_vocabulary_are_refused(make_run, leaves, line):
    run = make_run()
    source = run.save(run.start(), 100)
    _, keeper = initial(make_run, source, **leaves)
    with pytest.raises(CheckpointError, match=r"(?s)its weights do not fit.*" + line):
        keeper.require_initial_weights()


def test_damaged_initial_weights_are_refused(make_run):
    run = make_run()
    source = run.save(run.start(), 100)
    flip(source / ".metadata")
    _, keeper = initial(make_run, source)
    with pytest.raises(CheckpointError, match=r"(?s)is damaged.*\.metadata was changed"):
        keeper.require_initial_weights()


def test_initial_weights_count_only_for_the_first_start(make_run):
    run = make_run()
    source = run.save(run.start(), 100)
    child, keeper = initial(make_run, source)
    child.save(keeper, 50)
    flip(source / ".metadata")
    keeper = child.start()
    keeper.require_initial_weights()
    assert keeper.step_to_resume() == 50


def test_an_attempt_that_was_taken_over_writes_nothing(make_run):
    run = make_run()
    orphan = run.start()
    run.save(orphan, 100)
    run.start()
    with pytest.raises(Superseded, match="attempt 2 has taken over this run; attempt 1 ends"):
        run.save(orphan, 200)
    assert stamped_steps(run.directory.checkpoints) == [100]


def test_saving_a_step_again_clears_what_was_there(make_run):
    run = make_run()
    keeper = run.start()
    (run.save(keeper, 100) / "left_over").touch()
    run.save(keeper, 100)
    assert not (run.folder(100) / "left_over").exists()
    assert run.start().step_to_resume() == 100


def test_the_newest_are_kept(make_run):
    run = make_run(checkpoint__keep_latest=2)
    run.save(run.start(), 100, 200, 300, 400)
    assert stamped_steps(run.directory.checkpoints) == [300, 400]
    assert not run.folder(200).exists()
    assert run.kinds().count("checkpoint_removed") == 2


@pytest.mark.parametrize(
    ("keep_latest", "every_steps", "removed"),
    [
        (0, None, []),
        (0, 250, []),
        (2, None, [100, 200, 300, 400]),
        (6, None, []),
        (9, None, []),
        (2, 250, [100, 200, 400]),  # 300 is the first beyond 250, 500 the first at 500
        (2, 100, []),
        (2, 10_000, [100, 200, 300, 400]),
    ],
)
def test_the_rule_of_retention(default_config, change, keep_latest, every_steps, removed):
    tokens = None if every_steps is None else every_steps * default_config.training.tokens_per_step
    leaves = {"checkpoint.keep_latest": keep_latest, "checkpoint.keep_every_tokens": tokens}
    assert steps_to_remove([100, 200, 300, 400, 500, 600], change(default_config, leaves)) == removed


@given(
    gaps=st.lists(st.integers(1, 50), max_size=40),
    keep_latest=st.integers(2, 5),
    every_steps=st.integers(1, 100),
)
def test_removing_after_each_save_keeps_tagged_ones_for_ever(default_config, change, gaps, keep_latest, every_steps):
    tokens = every_steps * default_config.training.tokens_per_step
    config = change(default_config, {"checkpoint.keep_latest": keep_latest, "checkpoint.keep_every_tokens": tokens})
    saved: list[int] = []
    kept: list[int] = []
    for gap in gaps:
        saved.append(gap + (saved[-1] if saved else 0))
        kept.append(saved[-1])
        removed = steps_to_remove(kept, config)
        kept = [step for step in kept if step not in removed]
    multiples = {step // every_steps for step in saved} - {0}
    first = {min(step for step in saved if step // every_steps == multiple) for multiple in multiples}
    assert set(kept) == first | set(saved[-keep_latest:])


# ---------------------------------------------------------------- extend


def extended(make_run, source, **leaves):
    run = make_run(checkpoint__extend_from=str(source), **leaves)
    return run, run.start()


def test_an_extension_goes_on_at_the_parent_s_step(make_run):
    parent = make_run()
    source = parent.save(parent.start(), 100)
    child, keeper = extended(make_run, source, training__steps=400)
    assert keeper.step_to_resume() == -1
    keeper.require_initial_weights()
    assert child.events == [("extend", f"starting from the whole state of {source}")]
    keeper.loaded(1600)
    with pytest.raises(CheckpointError, match="stands at sample 0, step 100 ends at 1600"):
        keeper.loaded(0)
    stamp = read_stamp(child.save(keeper, 200))
    assert (stamp.parent.kind, stamp.parent.step, stamp.parent.path) == ("extend", 100, str(source))
    assert stamp.parent.run_id == parent.directory.path.name
    assert stamp.parent.git_commit == "c" * 40
    assert stamp.lineage == [stamp.parent]


def test_lineage_outlives_a_resume(make_run):
    parent = make_run()
    source = parent.save(parent.start(), 100)
    child, keeper = extended(make_run, source, training__steps=400)
    keeper.require_initial_weights()
    first = read_stamp(child.save(keeper, 200))
    keeper = child.start()
    keeper.require_initial_weights()
    assert keeper.step_to_resume() == 200
    keeper.loaded(3200)
    second = read_stamp(child.save(keeper, 300))
    assert (second.parent.kind, second.parent.step) == ("resume", 200)
    assert second.lineage == first.lineage
    assert [ancestor.run_id for ancestor in second.lineage] == [parent.directory.path.name]


def test_lineage_grows_with_each_extension_and_with_initial_weights(make_run):
    run = make_run()
    folder = run.save(run.start(), 100)
    runs = [run.directory.path.name]
    for number, kind in enumerate(["extend_from", "init_from", "extend_from"]):
        run = make_run(tag=str(number), **{f"checkpoint__{kind}": str(folder)})
        keeper = run.start()
        keeper.require_initial_weights()
        folder = run.save(keeper, 200 + 100 * number)
        runs.append(run.directory.path.name)
    stamp = read_stamp(folder)
    assert [ancestor.run_id for ancestor in stamp.lineage] == runs[:-1]
    assert [ancestor.kind for ancestor in stamp.lineage] == ["extend", "init_from", "extend"]
    assert stamp.parent == stamp.lineage[-1]


def test_a_damaged_parent_is_refused(make_run):
    parent = make_run()
    source = parent.save(parent.start(), 100)
    flip(source / "__0_0.distcp")
    _, keeper = extended(make_run, source, training__steps=400)
    with pytest.raises(CheckpointError, match=r"(?s)is damaged.*__0_0\.distcp was changed"):
        keeper.require_initial_weights()


def test_the_parent_is_needed_for_the_first_start_only(make_run):
    parent = make_run()
    source = parent.save(parent.start(), 100)
    child, keeper = extended(make_run, source, training__steps=400)
    keeper.require_initial_weights()
    child.save(keeper, 200)
    shutil.rmtree(source)
    keeper = child.start()
    keeper.require_initial_weights()
    assert keeper.step_to_resume() == 200


# ---------------------------------------------------------------- awaited


@pytest.fixture
def awaiting(make_run):
    """A run of 300 steps, and one that goes on from the step 300 that is not saved yet."""
    parent = make_run(training__steps=300)
    keeper = parent.start()
    child = make_run(training__steps=400, checkpoint__extend_from=str(parent.folder(300)), checkpoint__awaits=True)
    return parent, keeper, child


def test_what_is_awaited_and_not_there_ends_with_exit_code_1(awaiting):
    parent, keeper, child = awaiting
    with pytest.raises(NotThereYet, match=r"step-00000300 of .* is not there: it has saved none\. .*mmhydra\.status"):
        child.start().require_initial_weights()
    assert NotThereYet.exit_code is ExitCode.FAILED
    parent.save(keeper, 100, 200)
    with pytest.raises(NotThereYet, match="it has saved steps 100, 200"):
        child.start().require_initial_weights()
    parent.save(keeper, 300)
    child.start().require_initial_weights()
    assert child.events == [("extend", f"starting from the whole state of {parent.folder(300)}")]


def test_what_is_not_awaited_and_not_there_is_no_checkpoint(make_run):
    child = make_run(training__steps=400, checkpoint__extend_from="/nowhere/step-00000300")
    with pytest.raises(CheckpointError, match="is not a checkpoint") as refusal:
        child.start().require_initial_weights()
    assert refusal.value.exit_code is ExitCode.CONFIG


def test_what_was_awaited_and_is_damaged_is_refused(awaiting):
    parent, keeper, child = awaiting
    flip(parent.save(keeper, 300) / "__0_0.distcp")
    with pytest.raises(CheckpointError, match="is damaged") as refusal:
        child.start().require_initial_weights()
    assert refusal.value.exit_code is ExitCode.CONFIG


def test_what_another_run_put_into_the_place_is_refused(awaiting, make_run):
    parent, _, child = awaiting
    other = make_run(training__steps=300, tag="other")
    shutil.copytree(other.save(other.start(), 300), parent.folder(300))
    told = f"was saved by run {other.directory.path.name}, awaited is run {parent.directory.path.name}"
    with pytest.raises(CheckpointError, match=told):
        child.start().require_initial_weights()


def test_a_stream_that_does_not_go_on_is_refused_by_the_worker_too(awaiting, make_run):
    parent, keeper, _ = awaiting
    parent.save(keeper, 300)
    start = {"checkpoint__extend_from": str(parent.folder(300)), "checkpoint__awaits": True}
    child = make_run(training__steps=400, seed__data=7, **start)
    with pytest.raises(CheckpointError, match=r"would have read other samples\n  seed\.data: 42 there, 7 here"):
        child.start().require_initial_weights()
