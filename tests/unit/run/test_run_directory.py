"""The run directory: names, attempts, and bytes that are what was frozen."""

import hashlib
import json
import subprocess
import sys

import pytest
import yaml

from mmhydra.config.frozen import to_yaml
from mmhydra.run import directory
from mmhydra.run.directory import Attempt, AttemptError, RunDirectory, RunDirectoryError
from mmhydra.run.identity import identify


@pytest.fixture
def run(tmp_path, default_config):
    run = RunDirectory(tmp_path / "debug" / "0123456789ab")
    run.create(identify(default_config, {}, None))
    return run


@pytest.fixture
def attempt(run, default_config):
    attempt = run.new_attempt()
    text = to_yaml(default_config)
    provenance = {"config_sha256": hashlib.sha256(text).hexdigest()}
    attempt.freeze(text, ("tag=x", "optim.lr=1"), provenance, {"code.patch": b"a patch"})
    return attempt


def test_the_identity_is_written_once(run, default_config):
    document = yaml.safe_load((run.path / "identity.yaml").read_text())
    identity = identify(default_config, {}, None)
    assert (document["run_id"], document["identity"]) == (identity.run_id, identity.document)
    before = (run.path / "identity.yaml").stat().st_mtime_ns
    run.create(identify(default_config, {"other": "digest"}, None))
    assert (run.path / "identity.yaml").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "leaves",
    [
        {},
        {"tag": "2026-01-02"},
        {"tag": "1e5"},
        {"tag": "ü \x85 \u2028 ' \" # : {}"},
        {"optim.lr": 1e-300, "optim.eps": 1.0, "training.steps": 10**15},
    ],
)
def test_the_identity_that_is_read_is_the_one_that_was_written(tmp_path, default_config, change, leaves):
    """Hashed again it gives the same id, whatever YAML makes of its values."""
    identity = identify(change(default_config, leaves), {"demo-v2": "0" * 64}, None, "1e10")
    run = RunDirectory(tmp_path / "run")
    run.create(identity)
    assert run.read_identity() == identity
    assert run.read_identity().run_id == identity.run_id


def test_outputs_that_can_not_be_written_are_refused_with_a_cure(tmp_path, default_config):
    (tmp_path / "file").touch()
    run = RunDirectory(tmp_path / "file" / "debug" / "0123456789ab")
    with pytest.raises(RunDirectoryError, match=r"can't be written to .*; point paths\.outputs \(or MMHYDRA_OUTPUTS\)"):
        run.create(identify(default_config, {}, None))


def test_attempts_are_numbered_by_number_not_by_text(run):
    (run.path / "attempts" / "9999").mkdir()
    (run.path / "attempts" / "notes").mkdir()
    (run.path / "attempts" / ".0005").mkdir()
    attempt = run.new_attempt()
    assert attempt.number == 10000
    assert attempt.logs.is_dir()
    assert attempt.run == run
    assert [one.number for one in run.attempts] == [9999, 10000]


def test_a_run_without_a_folder_has_no_attempts(tmp_path):
    assert RunDirectory(tmp_path / "nowhere").attempts == []


RACE = """
import sys
from pathlib import Path
from mmhydra.run.directory import RunDirectory
run = RunDirectory(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
print(*[run.new_attempt().number for _ in range(100)])
"""


def test_processes_that_race_never_share_an_attempt(run):
    line = [sys.executable, "-c", RACE, str(run.path)]
    racers = [subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    numbers = [int(number) for racer in racers for number in racer.communicate()[0].split()]
    assert sorted(numbers) == list(range(1, 201))


def test_what_was_frozen_is_read(attempt, default_config):
    config, text = attempt.read_frozen()
    assert config == default_config
    assert text == to_yaml(default_config)
    assert attempt.code_patch.read_bytes() == b"a patch"
    assert (attempt.path / "overrides.txt").read_text() == "tag=x\noptim.lr=1\n"


def test_the_hash_file_is_that_of_sha256sum(attempt):
    subprocess.run(["sha256sum", "--check", "--strict", "config.yaml.sha256"], cwd=attempt.path, check=True)


def test_a_changed_config_is_refused_with_the_way_out(attempt):
    file = attempt.path / "config.yaml"
    file.write_bytes(file.read_bytes().replace(b"lr: 0.003", b"lr: 0.004"))
    with pytest.raises(
        AttemptError, match=r"(?s)changed after it was frozen.*Put back what was there; a change is an override"
    ):
        attempt.read_frozen()


def test_a_config_changed_together_with_its_hash_is_refused(attempt):
    file = attempt.path / "config.yaml"
    file.write_bytes(file.read_bytes().replace(b"lr: 0.003", b"lr: 0.004"))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    (attempt.path / "config.yaml.sha256").write_text(f"{digest}  config.yaml\n")
    with pytest.raises(AttemptError, match="changed after it was frozen"):
        attempt.read_frozen()


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("config.yaml", None, "no frozen attempt"),
        ("config.yaml", b"", "changed after it was frozen"),
        ("config.yaml.sha256", None, "no frozen attempt"),
        ("config.yaml.sha256", b"", "no frozen attempt"),
        ("config.yaml.sha256", b"\xff\xff", "no frozen attempt"),
        ("config.yaml.sha256", b"0" * 64, "changed after it was frozen"),
        ("provenance.json", None, "provenance.json can't be read"),
        ("provenance.json", b'{"config_sha', "provenance.json can't be read"),
        ("provenance.json", b"[]", "provenance.json can't be read"),
        ("provenance.json", b"\xff", "provenance.json can't be read"),
        ("provenance.json", b"{}", "changed after it was frozen"),
        ("provenance.json", json.dumps({"config_sha256": "0" * 64}).encode(), "changed after it was frozen"),
    ],
)
def test_a_damaged_attempt_is_refused(attempt, name, content, text):
    (attempt.path / name).unlink()
    if content is not None:
        (attempt.path / name).write_bytes(content)
    with pytest.raises(AttemptError, match=text):
        attempt.read_frozen()


def test_a_folder_that_is_no_attempt_is_refused(tmp_path):
    with pytest.raises(AttemptError, match="no frozen attempt"):
        Attempt(tmp_path).read_frozen()


def test_a_kill_before_the_last_file_leaves_no_frozen_attempt(run, default_config, monkeypatch):
    """The hash file is written last: without it the folder is refused."""
    names = []
    write = directory.write_atomic
    monkeypatch.setattr(
        directory, "write_atomic", lambda path, content: (names.append(path.name), write(path, content))
    )
    run.new_attempt().freeze(to_yaml(default_config), (), {"config_sha256": ""}, {"code.patch": b""})
    assert names[-1] == "config.yaml.sha256"
