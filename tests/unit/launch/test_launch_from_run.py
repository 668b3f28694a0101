"""`resume=` and `extend=`: the config is that of the run, whatever else is there."""

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_run import VOCABULARY, FakeRun

from mmhydra import paths, train
from mmhydra.checkpoint.stamp import CheckpointError
from mmhydra.compose import compose
from mmhydra.config.frozen import from_yaml, to_yaml
from mmhydra.config.problems import ConfigError
from mmhydra.errors import UserError
from mmhydra.launch import freeze as freeze_module
from mmhydra.launch.freeze import Origin, freeze, plan
from mmhydra.launch.naming import name_run
from mmhydra.run.directory import AttemptError, RunDirectory, RunDirectoryError

MANIFESTS = {"demo-v2": SimpleNamespace(vocabulary=SimpleNamespace(digest=VOCABULARY["demo-v2"]), digest="9" * 64)}


@pytest.fixture
def run(make_run):
    """Not what the command line says by default, and not what this environment says."""
    return make_run(100, 200, optim__lr=0.004, cluster__max_processes=7)


@pytest.fixture
def command(monkeypatch, capfdbinary):
    """Runs a command line; a run that would start is refused with code 99."""
    submitted = []
    monkeypatch.setattr(
        "mmhydra.launch.submit.submit", lambda requests: submitted.extend(requests) or [99] * len(requests)
    )

    def start(*arguments: str):
        submitted.clear()
        monkeypatch.setattr(sys, "argv", ["train", *arguments])
        code = train.main()
        sys.stdout.flush()
        out, err = capfdbinary.readouterr()
        return code, out, err.decode(), list(submitted)

    return start


def resume(place: object, *overrides: str):
    return compose([f"resume={place}", *overrides])


def extend(place: object, *overrides: str):
    return compose([f"extend={place}", *overrides])


# ---------------------------------------------------------------- resume


def test_the_frozen_config_is_taken_whatever_conf_and_the_environment_say(run, tmp_path, monkeypatch):
    lab = tmp_path / "lab"
    (lab / "optim").mkdir(parents=True)
    (lab / "optim" / "other.yaml").write_text("lr: 7.0\n")
    monkeypatch.setenv("MMHYDRA_CLUSTER", "h100_256")
    monkeypatch.setenv("MMHYDRA_OUTPUTS", str(tmp_path / "elsewhere"))
    monkeypatch.setattr(paths, "config_dir", lambda: tmp_path / "nowhere")
    request = compose([f"resume={run.directory.path}"], [lab])
    assert request.config == run.config
    assert request.run == run.directory
    assert request.overrides == (f"resume={run.directory.path}",)
    assert (request.dry_run, request.confirm, request.config_dirs) == (None, False, ())


@pytest.mark.parametrize(
    "inside",
    ["", "attempts", "attempts/0001", "attempts/0001/config.yaml", "checkpoints/step-00000200", "checkpoints/.."],
)
def test_any_path_into_the_run_will_do(run, inside):
    request = resume(run.directory.path / inside)
    assert (request.run, request.config) == (run.directory, run.config)


def test_a_path_may_be_relative_or_start_at_home(run, monkeypatch):
    path = run.directory.path
    monkeypatch.chdir(path.parent)
    assert resume(f"./{path.name}").run == run.directory
    monkeypatch.chdir(path / "attempts")
    for place in (".", "..", "../checkpoints"):
        assert resume(place).run == run.directory
    monkeypatch.setenv("HOME", str(path.parent))
    assert resume(f"'~/{path.name}'").run == run.directory


@pytest.mark.parametrize("name", ["123456789012", "012345678901", "1234567890e1", "12345e678901", "true"])
def test_a_run_id_that_reads_as_a_number_is_a_name(run, monkeypatch, name):
    path = shutil.move(run.directory.path, run.directory.path.with_name(name))
    monkeypatch.chdir(path.parent)
    assert resume(name).run == RunDirectory(path)
    assert extend(name, "training.steps=400").config.checkpoint.extend_from == str(path / "checkpoints/step-00000200")


def test_the_newest_attempt_that_was_frozen_to_the_end_counts(run, change):
    run.config = change(run.config, {"checkpoint.interval": 33})  # no identity
    run.start()
    (run.directory.path / "attempts" / "0003").mkdir()
    assert resume(run.directory.path).config.checkpoint.interval == 33


def test_other_overrides_are_refused_with_the_extend_line(run):
    with pytest.raises(UserError) as refusal:
        resume(run.directory.path, "optim.lr=0.1", "training.steps=400")
    text = str(refusal.value)
    assert text.startswith(f"resume={run.directory.path} takes the frozen config as it is, so optim.lr=0.1 ")
    assert f"type extend={run.directory.path} optim.lr=0.1 training.steps=400 to go on" in text


@pytest.mark.parametrize("override", ["+tag=x", "~tag", "optim=adamw_wsd", "hydra.run.dir=x", "nonsense=1"])
def test_no_kind_of_override_slips_through(run, override):
    with pytest.raises(UserError, match="would change nothing"):
        resume(run.directory.path, override)


def test_a_place_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunDirectoryError, match="is no run and in none; give a folder like outputs/NAME/RUN_ID"):
        resume(tmp_path)
    with pytest.raises(RunDirectoryError, match="nowhere does not exist; give a folder"):
        resume(tmp_path / "nowhere")


def test_a_run_without_a_frozen_attempt_is_refused(make_run, run):
    for file in run.directory.path.glob("attempts/*/config.yaml.sha256"):
        file.unlink()
    for verb in (resume, extend):
        with pytest.raises(UserError, match="has no frozen attempt"):
            verb(run.directory.path)


def test_an_edited_config_is_refused(run):
    file = run.directory.attempts[-1].path / "config.yaml"
    file.write_bytes(file.read_bytes().replace(b"lr: 0.004", b"lr: 0.005"))
    for verb in (resume, extend):
        with pytest.raises(AttemptError, match="was changed after it was frozen"):
            verb(run.directory.path, *(["training.steps=400"] if verb is extend else []))


def test_either_resume_or_extend(run):
    with pytest.raises(ConfigError, match="either go on with a run, or extend it"):
        compose([f"resume={run.directory.path}", f"extend={run.directory.path}"])


@pytest.mark.parametrize("verb", ["resume", "extend"])
def test_null_is_no_run(verb):
    assert compose([f"{verb}=null"]).run is None


@pytest.mark.parametrize("value", ["''", "1", "true", "[a]"])
@pytest.mark.parametrize("verb", ["resume", "extend"])
def test_what_is_no_path_is_refused(verb, value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"resume|extend|does not exist"):
        compose([f"{verb}={value}"])


@pytest.mark.parametrize("override", ["dry_run=yes", "dry_run=true", "confirm=1", "confirm=0", "confirm=yes"])
def test_keys_of_the_command_keep_their_values(run, override):
    with pytest.raises(ConfigError, match="legal"):
        resume(run.directory.path, override)


def test_points_of_a_sweep_take_the_frozen_config_too(command, run, tmp_path, monkeypatch):
    code, _, err, (request,) = command("-m", f"resume={run.directory.path}")
    assert code == 99, err
    assert (request.run, request.config) == (run.directory, run.config)
    monkeypatch.setenv("MMHYDRA_DATA", str(tmp_path / "no-data"))  # or its vocabulary is compared with that of the run
    submitted = []
    monkeypatch.setattr(
        "mmhydra.launch.sweeps.submitting.submit_sweep",
        lambda asked, study, points: submitted.extend(points) or [99] * len(points),
    )
    code, _, err, _ = command("-m", f"extend={run.directory.path}", "training.steps=300,400")
    assert code == 99, err
    requests = [point.request for point in submitted]
    assert [request.config.training.steps for request in requests] == [300, 400]
    assert {request.config.optim.lr for request in requests} == {0.004}


@pytest.mark.parametrize("place", ["", "attempts/0001", "checkpoints/step-00000200"])
def test_a_dry_run_prints_the_frozen_bytes(command, run, place):
    code, out, err, submitted = command(f"resume={run.directory.path / place}", "dry_run=config")
    assert (code, submitted) == (0, [])
    assert out == (run.directory.path / "attempts/0001/config.yaml").read_bytes()
    assert "size: 1 process, 200 steps" in err


def test_a_legal_resume_is_submitted(command, run):
    code, out, err, (request,) = command(f"resume={run.directory.path}", "confirm=true")
    assert (code, out, err) == (99, b"", "")
    assert (request.run, request.confirm) == (run.directory, True)


def test_the_rules_of_today_hold_for_a_frozen_config_too(command, run, change):
    run.config = change(run.config, {"checkpoint.keep_latest": 1})
    run.start()
    code, _, err, _ = command(f"resume={run.directory.path}")
    assert code == 2
    assert "checkpoint.keep_latest" in err
    assert "attempts/0002/config.yaml:" in err, "the place that set it is not told"


def test_the_next_attempt_has_the_same_bytes_and_no_word_of_the_command(run, monkeypatch):
    monkeypatch.setattr(freeze_module, "prepare", lambda *arguments, **options: {})
    planned = plan(resume(run.directory.path, "confirm=true"), print)
    assert planned.run == run.directory
    attempt = freeze(planned, Origin({}, {}))
    assert attempt.number == 2
    assert attempt.read_frozen()[1] == (run.directory.path / "attempts/0001/config.yaml").read_bytes()
    assert attempt.provenance()["run_id"] == run.directory.path.name
    assert (attempt.path / "overrides.txt").read_text() == f"resume={run.directory.path}\nconfirm=true\n"


def test_a_run_whose_data_has_changed_since_is_refused(run, monkeypatch):
    """Its folder says what it was made of; without a checkpoint yet nothing else would notice."""
    monkeypatch.setattr(freeze_module, "prepare", lambda *arguments, **options: MANIFESTS)
    with pytest.raises(UserError) as refusal:
        plan(resume(run.directory.path), print)
    head, *lines = str(refusal.value).splitlines()
    assert head.startswith(f"{run.directory.path} can't be resumed, its numbers would come from something else")
    assert lines == [f'  manifests.demo-v2: absent -> "{"9" * 64}"']


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"identity: text\n", b"\xff\xfe"])
def test_a_run_whose_identity_can_not_be_read_is_refused(run, monkeypatch, content):
    monkeypatch.setattr(freeze_module, "prepare", lambda *arguments, **options: {})
    (run.directory.path / "identity.yaml").write_bytes(content)
    with pytest.raises(RunDirectoryError, match=r"identity\.yaml can't be read"):
        plan(resume(run.directory.path), print)


@pytest.mark.parametrize("start", ["checkpoint__init_from", "checkpoint__extend_from"])
def test_what_a_run_started_from_is_needed_until_it_has_a_checkpoint(make_run, run, monkeypatch, start):
    """The parent may go on, and its retention then removes what the child started from."""
    monkeypatch.setattr(freeze_module, "prepare", lambda *arguments, **options: MANIFESTS)
    config = make_run(100, tag="child", training__steps=400, **{start: str(run.folder(200))}).config
    identity = name_run(config, MANIFESTS)
    child = FakeRun(config, RunDirectory(run.directory.path.with_name(identity.run_id)), {"demo-v2": "9" * 64})
    child.directory.create(identity)
    keeper = child.start()
    assert plan(resume(child.directory.path), print).identity == identity
    shutil.rmtree(run.folder(200))
    with pytest.raises(CheckpointError, match="step-00000200 is not a checkpoint"):
        plan(resume(child.directory.path), print)
    child.save(keeper, 300)
    assert plan(resume(child.directory.path), print).identity == identity


def test_a_run_that_was_moved_goes_on_where_it_is(run, monkeypatch, tmp_path):
    monkeypatch.setattr(freeze_module, "prepare", lambda *arguments, **options: {})
    moved = Path(shutil.move(run.directory.path, tmp_path / "moved" / run.directory.path.name))
    assert plan(resume(moved), print).run == RunDirectory(moved)


# ---------------------------------------------------------------- extend


def test_an_extension_has_the_parent_s_values_but_those_that_are_typed(run, change):
    request = extend(run.directory.path, "training.steps=400", "optim.min_lr=1e-5", "tag=more")
    assert request.run is None
    newest = str(run.folder(200))
    assert request.config == change(
        run.config,
        {"training.steps": 400, "optim.min_lr": 1e-5, "tag": "more", "checkpoint.extend_from": newest},
    )


def test_the_newest_checkpoint_or_the_one_that_is_named(run):
    for place, step in {"": 200, "attempts/0001": 200, "checkpoints": 200}.items():
        config = extend(run.directory.path / place, "training.steps=400").config
        assert config.checkpoint.extend_from == str(run.folder(step))
    for place in (run.folder(100), run.folder(100) / "stamp.json"):
        assert extend(place, "training.steps=400").config.checkpoint.extend_from == str(run.folder(100))


def test_a_checkpoint_that_is_named_must_be_one(run):
    (run.directory.checkpoints / "step-00000300").mkdir()
    for step in ("step-00000300", "step-00000400"):
        with pytest.raises(UserError, match=rf"{step} is no checkpoint; the run has the steps \[100, 200\]"):
            extend(run.directory.checkpoints / step, "training.steps=400")


def test_an_older_checkpoint_is_not_resumed_unseen(run):
    with pytest.raises(UserError, match=r"newest checkpoint, step 200; .* type extend=.*step-00000100"):
        resume(run.directory.checkpoints / "step-00000100")


@pytest.mark.parametrize("text", ["~resume={}", "resume@x={}", "+extend={}", "++resume={}"])
def test_other_forms_are_refused(run, text):
    with pytest.raises(UserError, match=r"type (resume|extend)=RUN_DIR"):
        compose([text.format(run.directory.path)])


def test_a_link_to_a_checkpoint_leads_into_its_run(run, tmp_path):
    (tmp_path / "newest").symlink_to(run.folder(200))
    assert resume(tmp_path / "newest").config == run.config


def test_a_child_is_written_where_todays_outputs_are(run, monkeypatch):
    monkeypatch.setenv("MMHYDRA_OUTPUTS", "/mine")
    assert extend(run.directory.path, "training.steps=400").config.paths.outputs == "/mine"
    assert extend(run.directory.path, "training.steps=400", "paths.outputs=/other").config.paths.outputs == "/other"


def test_initial_weights_of_the_parent_are_no_start_of_the_child(make_run, run):
    first = make_run(100, tag="child", checkpoint__init_from=str(run.folder(100)))
    checkpoint = extend(first.directory.path, "training.steps=400").config.checkpoint
    assert (checkpoint.init_from, checkpoint.extend_from) == (None, str(first.folder(100)))


@pytest.mark.parametrize("key", ["checkpoint.init_from", "checkpoint.extend_from"])
def test_another_start_beside_it_is_refused(run, key):
    with pytest.raises(ConfigError, match=f"{key}: extend=.* says where to start from; leave it out"):
        extend(run.directory.path, "training.steps=400", f"{key}=/some/where")


def test_a_run_without_checkpoints_can_not_be_extended(make_run):
    run = make_run()
    with pytest.raises(UserError, match=r"has no stamped checkpoint.*only a run with a checkpoint can be extended"):
        extend(run.directory.path, "training.steps=400")


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("optim=adamw_wsd", r"optim: extend changes single values .*, not groups; type them, such as optim\.name="),
        ("model=1b", "model: extend changes single values"),
        ("track=[aim]", "track: extend changes single values"),
        ("experiment=alpha_1b", "experiment: no such key"),
        ("optim.lrr=1", r"optim\.lrr: no such key; did you mean optim\.lr"),
        ("+lab=x", "lab: no such key"),
        ("~optim.lr", r"optim\.lr: "),
        ("hydra.run.dir=x", "no such key"),
    ],
)
def test_only_single_values_can_be_changed(run, override, text):
    with pytest.raises(ConfigError, match=text):
        extend(run.directory.path, "training.steps=400", override)


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("training.steps=abc", r"training\.steps: .*got 'abc'"),
        ("optim.lr=-1", r"optim\.lr: "),
        ("optim.lr=${nope}", r"optim\.lr: .*nope"),
        ("training.steps=1,2", r"training\.steps=1,2 names several values; type -m"),
    ],
)
def test_values_that_do_not_fit_are_named(run, override, text):
    with pytest.raises(UserError, match=text):
        extend(run.directory.path, override)


def test_values_may_refer_to_others(run):
    config = extend(run.directory.path, "training.steps=400", "optim.min_lr='${optim.lr}'").config
    assert config.optim.min_lr == config.optim.lr == 0.004


def test_a_typed_secret_is_a_name(run):
    config = extend(run.directory.path, "training.steps=400", "tag='${secret:LAB}'").config
    assert config.tag == "secret:LAB"


def test_confirm_and_dry_run_are_no_values(run):
    request = extend(run.directory.path, "training.steps=400", "confirm=true", "dry_run=config")
    assert (request.confirm, request.dry_run) == (True, "config")
    assert b"confirm:" not in to_yaml(request.config).replace(b"confirm_gpu_hours:", b"")


def test_a_dry_run_of_an_extension(command, run):
    code, out, err, submitted = command(f"extend={run.directory.path}", "training.steps=400", "dry_run=config")
    assert (code, submitted) == (0, [])
    config = from_yaml(out)
    assert (config.training.steps, config.checkpoint.extend_from) == (400, str(run.folder(200)))
    assert "size: 1 process, 400 steps" in err


def test_rules_name_the_frozen_file_and_the_override(command, run):
    code, _, err, _ = command(f"extend={run.directory.path}", "training.steps=400", "optim.min_lr=0.5")
    assert code == 2
    assert "attempts/0001/config.yaml:" in err
    assert "optim.min_lr=0.5 (command line)" in err


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (["training.steps=200"], r"has 200 steps already, training\.steps=200 adds none; type training\.steps=400"),
        (["training.steps=100"], "has 200 steps already"),
        ([], "has 200 steps already"),
        (
            ["training.steps=400", "training.seq_len=64"],
            r"(?s)read other samples\n  training\.seq_len: 128 there, 64 here\ntype checkpoint\.init_from=.*00200",
        ),
        (
            ["training.steps=400", "training.global_batch_size=32"],
            r"(?s)  training\.global_batch_size: 16 there, 32 here\ntype checkpoint\.init_from=",
        ),
        (
            ["training.steps=400", "model.num_layers=5", "model.ffn_dim=512"],
            r"(?s)its weights do not fit.*\n  model\.num_layers: 4 -> 5\n  model\.ffn_dim: 384 -> 512",
        ),
    ],
)
def test_what_can_not_go_on_is_refused(run, overrides, text):
    config = extend(run.directory.path, *overrides).config
    with pytest.raises(CheckpointError, match=text):
        name_run(config, MANIFESTS)


def test_another_vocabulary_is_refused(run):
    config = extend(run.directory.path, "training.steps=400").config
    other = {"demo-v2": SimpleNamespace(vocabulary=SimpleNamespace(digest="8" * 64), digest="9" * 64)}
    with pytest.raises(CheckpointError, match=r"vocabulary\.digests"):
        name_run(config, other)


def test_the_child_is_another_run_and_the_same_command_the_same_child(run):
    config = extend(run.directory.path, "training.steps=400").config
    child = name_run(config, MANIFESTS)
    assert child.run_id == name_run(extend(run.folder(200), "training.steps=400").config, MANIFESTS).run_id
    assert set(child.document) == {"config", "manifests", "init_from", "extends"}
    others = {
        run.directory.path.name,
        name_run(run.config, MANIFESTS).run_id,
        name_run(extend(run.directory.path, "training.steps=401").config, MANIFESTS).run_id,
        name_run(extend(run.folder(100), "training.steps=400").config, MANIFESTS).run_id,
    }
    assert len(others | {child.run_id}) == 5


def test_the_child_is_known_by_the_stamp_and_not_by_the_path(run, tmp_path):
    before = name_run(extend(run.directory.path, "training.steps=400").config, MANIFESTS)
    moved = shutil.move(run.directory.path, tmp_path / "moved")
    assert name_run(extend(moved, "training.steps=400").config, MANIFESTS) == before
