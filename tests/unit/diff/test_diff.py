"""`python -m mmhydra.diff A B`: each kind of side against the others, what makes the numbers first."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fake_run import MANIFESTS, FakeRun

from mmhydra import paths
from mmhydra.checkpoint.stamp import Parent
from mmhydra.config.differences import differences, is_identity
from mmhydra.config.frozen import flatten
from mmhydra.config.schema import RunConfig
from mmhydra.diff import __main__ as diff
from mmhydra.run.directory import RunDirectory
from mmhydra.run.identity import excluded_fields, identify, identity_fields

CONF = paths.config_dir()
SLOW = ("10b*", "100m*", "p0_demo*", "alpha_1b*")  # each run that a conf/ has is composed
IDENTITY, REST = "identity (what makes the numbers):", "everything else:"


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.delenv("MMHYDRA_CLUSTER", raising=False)
    monkeypatch.setenv("MMHYDRA_DATA", "/data")
    monkeypatch.setenv("MMHYDRA_OUTPUTS", "/outputs")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def make_run(tmp_path, default_config, change):
    def make(manifests=MANIFESTS, init_from=None, **leaves):
        config = change(default_config, {name.replace("__", "."): value for name, value in leaves.items()})
        identity = identify(config, manifests, init_from)
        directory = RunDirectory(tmp_path / "outputs" / config.name / identity.run_id)
        directory.create(identity)
        return FakeRun(config, directory, manifests)

    return make


@pytest.fixture
def command(capsys):
    """The exit code and the two streams; errors never are tracebacks."""

    def run(*arguments):
        code = diff.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert (code == 2) == err.startswith("error: ") == (out == "")
        return code, out, err

    return run


@pytest.fixture
def show(command):
    """The title and the notes, the identity, the rest and the last line of a comparison."""

    def run(*arguments):
        code, out, _ = command(*arguments)
        assert code == 0
        head, found = out.split(f"{IDENTITY}\n")
        identity, rest = found.split(f"{REST}\n")
        rest, _, run_ids = rest.partition("run id: ")
        return head, identity.splitlines(), rest.splitlines(), run_ids.strip()

    return run


class Repository:
    """A checkout with a conf/ of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        shutil.copytree(CONF, root / "conf", ignore=shutil.ignore_patterns(*SLOW))
        self.git("init", "-q", "-b", "main")
        self.commit("first")

    def git(self, *arguments: str) -> None:
        identity = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *identity, *arguments], cwd=self.root, check=True, capture_output=True)

    def commit(self, tag: str) -> None:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", tag)
        self.git("tag", tag)

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.root / "conf" / file
        text = path.read_text()
        assert text.count(old) == 1, f"{old} in {file}"
        path.write_text(text.replace(old, new))


@pytest.fixture
def repository(tmp_path, monkeypatch):
    repository = Repository(tmp_path / "checkout")
    monkeypatch.setattr(paths, "checkout", lambda: repository.root)
    monkeypatch.setattr(paths, "config_dir", lambda: repository.root / "conf")
    return repository


def test_two_command_lines(show):
    head, identity, rest, run_ids = show("", "model=1b optim.lr=3e-4 'tag=a b' track=tensorboard")
    assert head.startswith("the default command line -> command line `model=1b optim.lr=3e-4")
    assert "  optim.lr: 0.003 -> 0.0003" in identity
    assert '  tag: "" -> "a b"' in identity
    assert '  name: "debug" -> "1b"' in rest
    assert any(line.startswith("  track.tensorboard.logdir: absent -> ") for line in rest)
    assert run_ids == ""
    assert not any("track.tensorboard: null" in line for line in rest)


def test_a_command_line_and_itself(show):
    assert show("model=1b", "model=1b")[1:] == (["  no difference"], ["  no difference"], "")


def test_overrides_go_to_both_command_lines(show):
    _, identity, rest, _ = show("", "seed.data=7", "model=1b")
    assert (identity, rest) == (["  seed.data: 42 -> 7"], ["  no difference"])


def test_own_groups_take_part(show, tmp_path):
    (tmp_path / "mine" / "optim").mkdir(parents=True)
    text = (CONF / "optim" / "adamw_cosine.yaml").read_text()
    (tmp_path / "mine" / "optim" / "mine.yaml").write_text(text.replace("beta2: 0.95", "beta2: 0.5"))
    _, identity, _, _ = show("", "optim=mine", "--config-dir", tmp_path / "mine")
    assert any(line.startswith("  optim.beta") and line.endswith("-> 0.5") for line in identity)


def test_two_runs_by_their_newest_attempts(make_run, show):
    one, other = make_run(), make_run(model__ffn_dim=512, checkpoint__interval=7, manifests={"demo-v2": "3" * 64})
    for run in (one, one, other):
        run.start()
    head, identity, rest, run_ids = show(one.directory.path, other.directory.path)
    ids = [run.directory.path.name for run in (one, other)]
    assert head == f"attempt 2 of outputs/debug/{ids[0]} -> attempt 1 of outputs/debug/{ids[1]}\n"
    assert identity == ["  model.ffn_dim: 384 -> 512", f'  manifests.demo-v2: "{"1" * 64}" -> "{"3" * 64}"']
    assert rest == ["  checkpoint.interval: 100 -> 7", "  attempt: 2 -> 1"]
    assert run_ids == f"{ids[0]} -> {ids[1]}"


def test_initial_weights_are_named_by_what_they_are(make_run, show):
    """The config names a path only, which is no identity."""
    one, other = make_run(), make_run(init_from="5" * 64, checkpoint__init_from="/elsewhere")
    one.start()
    other.start()
    _, identity, rest, _ = show(one.directory.path, other.directory.path)
    assert identity == [f'  init_from_sha256: null -> "{"5" * 64}"']
    assert rest == ['  checkpoint.init_from: null -> "/elsewhere"']


def test_an_awaited_checkpoint_is_named_by_its_run_and_step(make_run, show):
    path = "/o/debug/3f83c51a9fd0/checkpoints/step-00000100"
    one, other = make_run(), make_run(init_from={"run": "3f83c51a9fd0", "step": 100}, checkpoint__init_from=path)
    one.start()
    other.start()
    _, identity, rest, _ = show(one.directory.path, other.directory.path)
    assert identity == ['  init_from_sha256: null -> "step 100 of run 3f83c51a9fd0"']
    assert rest == [f'  checkpoint.init_from: null -> "{path}"']


def test_attempts_differ_in_their_origin(make_run, show, monkeypatch):
    run = make_run()
    run.start()
    monkeypatch.setattr("fake_run.GIT", {"commit": "d" * 40, "branch": "main", "dirty": False})
    monkeypatch.setattr("fake_run.PATCH", b"")
    run.start()
    first, second = (attempt.path for attempt in run.directory.attempts)
    head, identity, rest, _ = show(first / "logs", second)
    assert head.startswith("attempt 1 of ")
    assert identity == ["  no difference"]
    fields = [line.split(":")[0].strip() for line in rest]
    assert fields == ["attempt", "git.commit", "git.dirty", "git.wheel_record_sha256", "git.patch_sha256"]


def test_two_checkpoints(make_run, show):
    run = make_run()
    keeper = run.start()
    first = run.save(keeper, 100)
    keeper._provenance["packages"] = {"torch": "2.1", "new": "1"}
    keeper._parent = Parent(path="p", step=100, stamp_sha256="4" * 64, kind="resume")
    second = run.save(keeper, 200)
    head, identity, rest, _ = show(first, second / "config.yaml")
    assert "(step 100) -> checkpoint" in head
    assert identity == ["  no difference"]
    for line in (
        "step: 100 -> 200",
        'packages.torch: "2.0" -> "2.1"',
        'packages.new: absent -> "1"',
        'parent.kind: absent -> "resume"',
        "tokens_trained.total: 204800 -> 409600",
    ):
        assert f"  {line}" in rest
    assert "  step: 200 -> 100" in show(run.directory.checkpoints, first)[2]


def test_a_copied_checkpoint_lies_in_no_run(make_run, show, tmp_path):
    run = make_run()
    checkpoint = run.save(run.start(), 100)
    copy = shutil.copytree(checkpoint, tmp_path / "elsewhere" / checkpoint.name)
    head, identity, rest, _ = show(checkpoint, copy)
    assert identity == rest == ["  no difference"]
    title = f"checkpoint {paths.short(checkpoint)} (step 100)"
    assert f"note: not compared, as only {title} has it: init_from_sha256, extends_sha256\n" in head
    assert show(copy / "stamp.json", copy)[1:3] == (["  no difference"], ["  no difference"])


def test_a_checkpoint_and_an_attempt(make_run, show):
    run = make_run()
    checkpoint = run.save(run.start(), 100)
    head, identity, rest, run_ids = show(checkpoint, run.directory.path)
    assert identity == rest == ["  no difference"]
    assert "has it: step, mesh, stream, parent, lineage, config_folders, exemptions, tokens_trained\n" in head
    assert run_ids == " -> ".join([run.directory.path.name] * 2)


def test_a_run_and_a_command_line(make_run, show):
    run = make_run(optim__lr=1e-4)
    run.start()
    head, identity, rest, run_ids = show(run.directory.path, "track.log_interval=2")
    assert "note: not compared, as only attempt 1 of" in head
    assert "manifests, vocabulary" in head
    assert identity == ["  optim.lr: 0.0001 -> 0.003"]
    assert rest == ["  track.log_interval: 1 -> 2"]
    assert run_ids == ""


def test_a_run_or_a_command_line_and_a_revision(make_run, show, repository):
    repository.edit("model/debug.yaml", "ffn_dim: 384", "ffn_dim: 512")
    repository.commit("second")
    run = make_run()
    checkpoint = run.save(run.start(), 100)
    for side in (run.directory.path, checkpoint):
        head, identity, rest, _ = show(side, "main", "seed.data=7")
        assert "-> conf/ of main (" in head
        assert identity == ["  seed.data: 42 -> 7", "  model.ffn_dim: 384 -> 512"]
        assert rest == ["  no difference"]
    assert show("tag=x", "first")[1] == ['  tag: "x" -> ""', "  model.ffn_dim: 512 -> 384"]
    assert show("first", "tag=x", "seed.data=7")[1] == ['  tag: "" -> "x"', "  model.ffn_dim: 384 -> 512"]


def test_two_revisions_by_a_command_line(show, repository):
    repository.edit("model/1b.yaml", "num_layers: 24", "num_layers: 25")
    repository.commit("second")
    assert show("HEAD~1", "HEAD", "model=1b")[1] == ["  model.num_layers: 24 -> 25"]
    assert show("HEAD~1", "HEAD", "model=debug")[1:3] == (["  no difference"], ["  no difference"])
    repository.edit("model/1b.yaml", "num_layers: 25", "num_layers: 26")
    assert show("HEAD", "worktree", "model=1b")[1] == ["  model.num_layers: 25 -> 26"]


def test_all_runs_of_two_revisions(command, repository):
    conf = repository.root / "conf"
    shutil.copy(conf / "model" / "debug.yaml", conf / "model" / "100m.yaml")
    (conf / "experiment").mkdir(exist_ok=True)
    for name, model in {"p0": "100m", "alpha": "1b"}.items():
        text = f"# @package _global_\ndefaults:\n  - override /model: {model}\n"
        (conf / "experiment" / f"{name}.yaml").write_text(text)
    repository.commit("second")
    (conf / "model" / "100m.yaml").rename(conf / "model" / "90m.yaml")
    repository.edit("model/1b.yaml", "num_layers: 24", "num_layers: 25")
    code, out, _ = command("second", "worktree", "--exit-code")
    assert code == 1
    lines = out.splitlines()
    assert lines[0].endswith(" -> conf/ as it is now")
    assert lines.count("    model.num_layers: 24 -> 25") == 1
    assert lines[1] == "experiment=alpha, model=1b:"
    title = lines[0].partition(" -> ")[0]
    assert lines[lines.index("model=90m:") + 1] == f"  not in {title}"
    assert lines[lines.index("model=100m:") + 1] == "  not in conf/ as it is now"
    assert lines[lines.index("experiment=p0:") + 1].startswith("  conf/ as it is now can't be composed: ")
    assert lines[-1] == "no difference in 2 of 7 runs"


def test_a_revision_and_itself(command, repository):
    code, out, _ = command("main", "first", "--exit-code")
    assert (code, out.splitlines()[1:]) == (0, ["no difference in 3 of 3 runs"])


def test_an_older_schema(show, command, repository):
    """Fields that came later have their legacy value; values that no RunConfig takes are compared as composed."""
    for file in ("default", "none", "three_two_one"):
        repository.edit(f"checkpoint/{file}.yaml", "extend_from: null", "")
    repository.commit("before_extend")
    repository.edit("optim/adamw_cosine.yaml", "beta1:", "momentum: 0.9\nbeta1:")
    repository.commit("older")
    head, identity, rest, _ = show("older", "first", "training.seq_len=64")
    assert "note: conf/ of older" in head
    assert "does not fit today's schema (optim.momentum: no such key" in head
    assert identity == ["  optim.momentum: 0.9 -> absent"]
    assert rest == ["  no difference"]
    assert show("before_extend", "first", "model=debug")[1:3] == (["  no difference"], ["  no difference"])
    assert command("older", "first")[1].count("note: ") == 1


def test_json(make_run, command, repository):
    one, other = make_run(), make_run(seed__data=7)
    one.start()
    other.start()
    found = json.loads(command(one.directory.path, other.directory.path, "--json")[1])
    ids = [run.directory.path.name for run in (one, other)]
    assert found == {
        "a": f"attempt 1 of outputs/debug/{ids[0]}",
        "b": f"attempt 1 of outputs/debug/{ids[1]}",
        "notes": [],
        "identity": {"seed.data": [42, 7]},
        "rest": {},
        "run_id": ids,
    }
    found = json.loads(command("--json", "", "track=tensorboard track.tensorboard.logdir=/x")[1])
    assert found["rest"] == {"track.tensorboard.logdir": ["absent", "/x"]}
    repository.edit("model/1b.yaml", "num_layers: 24", "num_layers: 25")
    (repository.root / "conf" / "model" / "mine.yaml").touch()
    runs = json.loads(command("main", "worktree", "--json")[1])["runs"]
    assert runs["model=1b"] == {"identity": {"model.num_layers": [24, 25]}, "rest": {}}
    assert runs[""] == {"identity": {}, "rest": {}}
    assert runs["model=mine"]["problem"].startswith("not in conf/ of main")


def test_the_exit_code_says_whether_the_numbers_differ(command):
    for other, code in {"track.log_interval=2": 0, "tag=x": 1}.items():
        assert command("", other, "--exit-code")[0] == code
    assert command("", "tag=x")[0] == 0


REFUSED = {
    ("nowhere", ""): "nowhere is nothing that can be compared: no path, no command line and no git revision",
    ("checkout", ""): "a folder in no run",
    ("checkout/conf/config.yaml", ""): "a file in no run",
    ("~nobody", ""): "no path",
    ("HEAD~99", ""): "worktree: conf/ as it is now",
    ("", "'model=1b"): "no command line: No closing quotation",
    ("", "modle=1b"): "did you mean model",
    ("", "optim.lr=fast"): "optim.lr: Input should be a valid number",
    ("main", "worktree", "modle=1b"): "can't be composed: modle: no such key",
    ("main", "worktree", "resume=/x"): "give the run instead",
    ("empty", ""): "can't be composed",
    ("confless", ""): "has no conf/",
    ("", "", "--config-dir", "nowhere"): "nowhere: there is no such folder",
}


def test_what_can_not_be_compared(command, repository):
    (repository.root / "conf" / "config.yaml").unlink()
    repository.commit("empty")
    shutil.rmtree(repository.root / "conf")
    (repository.root / "code.py").touch()
    repository.commit("confless")
    repository.git("checkout", "-q", "-B", "main", "first")
    for arguments, text in REFUSED.items():
        code, _, err = command(*arguments)
        assert (code, text in err) == (2, True), err


def test_two_frozen_sides_take_no_overrides(make_run, command):
    run = make_run()
    run.start()
    code, _, err = command(run.directory.path, run.directory.path, "tag=x")
    assert code == 2
    assert "tag=x would change nothing" in err


def test_what_was_changed_afterwards_is_refused(make_run, command):
    run = make_run()
    checkpoint = run.save(run.start(), 100)
    for folder, text in {
        checkpoint: "config.yaml is not the config that the stamp names",
        run.directory.attempts[0].path: "config.yaml was changed after it was frozen",
    }.items():
        file = folder / "config.yaml"
        file.write_bytes(file.read_bytes().replace(b"lr: 0.003", b"lr: 0.004"))
        code, _, err = command(folder, "")
        assert code == 2
        assert text in err
    fresh = make_run(tag="fresh")
    code, _, err = command(fresh.directory.path, "")
    assert code == 2
    assert "it has no frozen attempt" in err
    fresh.start()
    (fresh.directory.path / "identity.yaml").write_text("- no\n")
    assert "can't be read as an identity" in command(fresh.directory.path, "")[2]


def test_without_git_revisions_are_refused_with_the_reason(command, monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "checkout", lambda: None)
    assert "not here: mmhydra is installed as a wheel" in command("main", "")[2]
    monkeypatch.setattr(paths, "checkout", lambda: tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert "not a git repository" in command("main", "")[2]
    monkeypatch.setenv("PATH", "")
    assert "git can't be started" in command("main", "")[2]
    assert command("worktree", "")[0] == 0


def test_keys_are_told_apart_as_the_run_id_does(default_config, change):
    """Also elements of lists and sections that are null by default."""
    config = change(
        default_config,
        {
            "data.schedule": [
                {"name": "a", "fraction": 0.5, "shares": {"name": [0.5, 0.5]}, "lr_multiplier": [0.1, 1.0]}
            ],
            "checkpoint.remote": {"url": "s3://bucket", "every_hours": 24.0},
            "track.aim": {"repo": "/aim"},
        },
    )
    keys, excluded = set(flatten(config.model_dump())), tuple(f"{key}." for key in excluded_fields(RunConfig))
    numbers = {key for key in keys if is_identity(key)}
    assert numbers == {key for key in keys if not re.sub(r"\.\d+", ".*", f"{key}.").startswith(excluded)}
    assert numbers >= set(flatten(identity_fields(config)))  # which lacks what has its legacy value
    assert {"data.schedule.0.shares.name.1", "tokens.ranges.0.size"} <= numbers
    assert not any(is_identity(key) for key in ("checkpoint.remote.url", "track.aim.repo", "model.name", "cluster.old"))
    assert is_identity("model.of_old")


def test_a_null_section_is_told_by_its_fields():
    assert [str(pair) for pair in differences({"a": None, "b": []}, {"a": {"x": 1}, "b": [2]})] == [
        "a.x: absent -> 1",
        "b.0: absent -> 2",
    ]
    assert [str(pair) for pair in differences({"a": 1}, {"a": {"x": "é"}})] == ["a: 1 -> absent", 'a.x: absent -> "é"']
    assert [str(pair) for pair in differences({}, {"a": None})] == ["a: absent -> null"]


def test_as_a_module_without_torch(tmp_path):
    program = (
        "import sys; from mmhydra.diff.__main__ import main; main(['', 'tag=x']); assert 'torch' not in sys.modules"
    )
    root = str(Path(paths.__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": root}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert '  tag: "" -> "x"' in done.stdout


def test_a_command_line_may_be_longer_than_a_file_name(show):
    assert show("", f"tag={'a' * 5000}")[1] == [f'  tag: "" -> "{"a" * 5000}"']
