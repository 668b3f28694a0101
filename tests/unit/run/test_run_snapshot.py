"""The stored code: the same content is the same folder, nothing else gets in, and a worker runs nothing else."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from frozen import freeze, store_ranks
from git_repository import git, without_settings

import mmhydra
from mmhydra import paths
from mmhydra.compose import Request
from mmhydra.compose.request import LazyProvenance
from mmhydra.config.explain import Provenance
from mmhydra.config.secrets import SecretError
from mmhydra.errors import UserError
from mmhydra.launch.freeze import read_origin
from mmhydra.run.directory import RunDirectory
from mmhydra.run.provenance import read_code, store_code, store_config_folder
from mmhydra.run.snapshot import Snapshot, SnapshotError, content_sha256, snapshot_of, store

TOKEN = "ghp" + "_" + "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8"


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A repository of one commit that stands for the checkout. No setting of the user counts."""
    without_settings(monkeypatch, tmp_path)
    root = tmp_path / "checkout"
    (root / "mmhydra").mkdir(parents=True)
    (root / "conf").mkdir()
    (root / "mmhydra" / "__init__.py").write_text("version = 1\n")
    (root / "conf" / "config.yaml").write_text("a: 1\n")
    (root / "pyproject.toml").write_text("[project]\n")
    (root / "README.md").write_text("not read by a job\n")
    (root / ".gitignore").write_text("*.log\n__pycache__/\n")
    git(root, "init", "--quiet")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "-m", "first")
    monkeypatch.setattr(paths, "checkout", lambda: root)
    return root


@pytest.fixture
def outputs(tmp_path):
    return tmp_path / "outputs"


def stored(outputs: Path, **settings) -> Snapshot:
    return store_code(read_code()[0], outputs, **settings)


def files(folder: Path) -> set[str]:
    found = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return {path.relative_to(folder).as_posix() for path in found}


def shelf(outputs: Path) -> list[str]:
    return sorted(os.listdir(outputs / ".store" / "code"))


# ---------------------------------------------------------------- the store


def test_it_holds_what_a_job_reads_and_nothing_else(checkout, outputs):
    snapshot = stored(outputs)
    assert files(snapshot.path) == {"mmhydra/__init__.py", "conf/config.yaml", "pyproject.toml"}
    assert snapshot.path == outputs / ".store" / "code" / snapshot.sha256[:16]
    snapshot.require_intact()


def test_the_same_content_is_the_same_folder(checkout, outputs):
    first = stored(outputs)
    written = first.path.stat().st_mtime_ns
    (checkout / "README.md").write_text("edited\n")
    git(checkout, "commit", "--quiet", "--all", "-m", "second")
    assert stored(outputs) == first
    assert (first.path.stat().st_mtime_ns, len(shelf(outputs))) == (written, 1)


def test_an_edit_is_another_folder_and_leaves_the_first(checkout, outputs):
    first = stored(outputs)
    (checkout / "mmhydra" / "__init__.py").write_text("version = 2\n")
    second = stored(outputs)
    assert second.path != first.path
    assert (first.path / "mmhydra" / "__init__.py").read_text() == "version = 1\n"
    assert (second.path / "mmhydra" / "__init__.py").read_text() == "version = 2\n"
    first.require_intact()


def test_what_is_new_is_in_and_what_is_ignored_is_out(checkout, outputs):
    (checkout / "mmhydra" / "new.py").write_text("x = 1\n")
    (checkout / "mmhydra" / "debug.log").write_text("long\n")
    (checkout / "conf" / "deleted.yaml").touch()
    git(checkout, "add", "conf/deleted.yaml")
    (checkout / "conf" / "deleted.yaml").unlink()
    (checkout / "mmhydra" / "ünicode name.py").touch()
    found = files(stored(outputs).path)
    assert {"mmhydra/new.py", "mmhydra/ünicode name.py"} <= found
    assert not {"mmhydra/debug.log", "conf/deleted.yaml"} & found


def test_storing_changes_nothing_of_the_repository(checkout, outputs):
    (checkout / "mmhydra" / "new.py").write_text("x = 1\n")
    before = git(checkout, "status", "--porcelain"), (checkout / ".git" / "index").read_bytes()
    stored(outputs)
    assert (git(checkout, "status", "--porcelain"), (checkout / ".git" / "index").read_bytes()) == before


def test_files_are_read_only_and_keep_their_executable_bit(checkout, outputs):
    script = checkout / "mmhydra" / "run.sh"
    script.write_text("#!/bin/sh\n")
    plain = stored(outputs)
    script.chmod(0o755)
    executable = stored(outputs)
    assert plain.path != executable.path
    modes = [(snapshot.path / "mmhydra" / "run.sh").stat().st_mode & 0o777 for snapshot in (plain, executable)]
    assert [mode & 0o222 for mode in modes] == [0, 0]
    assert [bool(mode & 0o100) for mode in modes] == [False, True]


def test_links_are_stored_as_links_and_where_they_lead_counts(checkout, outputs):
    (checkout / "mmhydra" / "sub").mkdir()
    (checkout / "mmhydra" / "sub" / "a.py").touch()
    (checkout / "mmhydra" / "file").symlink_to("__init__.py")
    (checkout / "mmhydra" / "folder").symlink_to("sub")
    (checkout / "mmhydra" / "nowhere").symlink_to("/does/not/exist")
    first = stored(outputs)
    for name, target in (("file", "__init__.py"), ("folder", "sub"), ("nowhere", "/does/not/exist")):
        assert os.readlink(first.path / "mmhydra" / name) == target
    hashes = {first.sha256}
    for name in ("file", "folder"):
        (checkout / "mmhydra" / name).unlink()
        (checkout / "mmhydra" / name).symlink_to("../conf")
        hashes.add(stored(outputs).sha256)
    assert len(hashes) == 3


def test_compiled_python_beside_the_stored_code_is_no_change(checkout, outputs):
    snapshot = stored(outputs)
    (snapshot.path / "mmhydra" / "__pycache__").mkdir()
    (snapshot.path / "mmhydra" / "__pycache__" / "x.pyc").write_bytes(b"x")
    snapshot.require_intact()


def test_a_changed_snapshot_is_refused_with_both_hashes(checkout, outputs):
    snapshot = stored(outputs)
    file = snapshot.path / "mmhydra" / "__init__.py"
    file.chmod(0o644)
    file.write_text("version = 3\n")
    with pytest.raises(SnapshotError) as refusal:
        snapshot.require_intact()
    assert content_sha256(snapshot.path) in str(refusal.value)
    assert snapshot.sha256 in str(refusal.value)
    assert content_sha256(snapshot.path) != snapshot.sha256
    with pytest.raises(SnapshotError, match="was changed after it was stored"):
        stored(outputs)  # it is not mended without a word: jobs may run from it


def test_a_file_that_was_added_or_taken_away_is_a_change(checkout, outputs):
    snapshot = stored(outputs)
    added = snapshot.path / "conf" / "more.yaml"
    added.touch()
    with pytest.raises(SnapshotError, match="was changed"):
        snapshot.require_intact()
    added.unlink()
    (snapshot.path / "pyproject.toml").unlink()
    with pytest.raises(SnapshotError, match="was changed"):
        snapshot.require_intact()
    shutil.rmtree(snapshot.path)
    with pytest.raises(SnapshotError, match="is gone"):
        snapshot.require_intact()


def test_without_keep_nothing_is_written(checkout, outputs):
    planned = stored(outputs, keep=False)
    assert not outputs.exists()
    assert stored(outputs) == planned


def test_code_that_changes_while_it_is_recorded_is_refused(checkout, outputs):
    code, _ = read_code()
    (checkout / "mmhydra" / "__init__.py").write_text("version = 2\n")
    with pytest.raises(UserError, match="was changed while it was being recorded; start again"):
        store_code(code, outputs)
    assert not outputs.exists()


def test_a_place_that_can_t_be_written_is_told_with_a_cure(checkout, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SnapshotError, match=r"can't be stored in .*; point paths\.outputs \(or MMHYDRA_OUTPUTS\)"):
        stored(tmp_path / "file")


RACER = """
import sys, time
from pathlib import Path
from mmhydra.run.snapshot import store
outputs, number = Path(sys.argv[1]), sys.argv[2]
def export(folder):
    for index in range(50):
        (folder / f"{index}.py").write_text("x" * 1000)
    (outputs / f"ready-{number}").touch()
    while len(list(outputs.glob("ready-*"))) < 3:
        time.sleep(0.001)
print(store(outputs, "code", export).path)
"""


def test_of_processes_that_store_the_same_at_once_each_has_it_whole(outputs):
    outputs.mkdir()
    command = [sys.executable, "-c", RACER, str(outputs)]
    racers = [subprocess.Popen([*command, str(number)], stdout=subprocess.PIPE, text=True) for number in range(3)]
    told = {racer.communicate(timeout=30)[0].strip() for racer in racers}
    assert [racer.returncode for racer in racers] == [0, 0, 0]
    (place,) = told
    assert shelf(outputs) == [Path(place).name]  # nothing is left of those that came second
    assert len(files(Path(place))) == 50


def test_a_checkout_without_git_is_copied_as_it_is(tmp_path, monkeypatch, outputs):
    root = tmp_path / "unpacked"
    (root / "conf").mkdir(parents=True)
    (root / "conf" / "config.yaml").write_text("a: 1\n")
    (root / "pyproject.toml").touch()
    monkeypatch.setattr(paths, "checkout", lambda: root)
    snapshot = stored(outputs)
    found = files(snapshot.path)
    assert {"mmhydra/worker.py", "mmhydra/titan/job.py", "conf/config.yaml", "pyproject.toml"} <= found
    assert not [name for name in found if "__pycache__" in name]


def test_an_installed_package_is_copied_alone(monkeypatch, outputs):
    monkeypatch.setattr(paths, "checkout", lambda: None)
    found = files(stored(outputs).path)
    assert "mmhydra/worker.py" in found
    assert {name.partition("/")[0] for name in found} == {"mmhydra"}


def test_a_config_folder_is_stored_by_its_yaml_files(tmp_path, outputs):
    lab = tmp_path / "lab"
    (lab / "optim").mkdir(parents=True)
    (lab / "optim" / "mine.yaml").write_text("lr: 1\n")
    (lab / "notes.md").write_text("x")
    snapshot = store_config_folder(lab, outputs)
    assert files(snapshot.path) == {"optim/mine.yaml"}
    assert snapshot.path.parent == outputs / ".store" / "config"


# ---------------------------------------------------------------- an attempt


def request_for(config, *, frozen: bool = False) -> Request:
    origins = LazyProvenance(lambda: Provenance([]))
    return Request(config, (), None, confirm=False, origins=origins, code_is_frozen=frozen)


@pytest.fixture
def config(default_config, change, outputs, tmp_path):
    return change(default_config, {"paths.outputs": str(outputs), "paths.data": str(tmp_path / "data")})


def test_nothing_is_stored_when_a_secret_is_in_the_changes(checkout, outputs, config):
    (checkout / "mmhydra" / "new.py").write_text(f'token = "{TOKEN}"\n')
    with pytest.raises(SecretError):
        read_origin(request_for(config), RunDirectory(outputs / "debug" / "x"))
    assert not outputs.exists()


def test_frozen_code_is_that_of_the_attempt_before(checkout, outputs, config):
    run = RunDirectory(outputs / "debug" / "0123456789ab")
    then = stored(outputs)
    attempt = freeze(run.path, config, then)
    (checkout / "mmhydra" / "__init__.py").write_text("version = 2\n")
    now = read_origin(request_for(config), run)
    frozen = read_origin(request_for(config, frozen=True), run)
    assert snapshot_of(frozen.provenance) == then
    assert snapshot_of(now.provenance) != then
    assert frozen.provenance["git"] == attempt.provenance()["git"]
    assert frozen.patches == {"code.patch": b"diff\n"}
    assert frozen.provenance["argv"] == sys.argv


def test_frozen_code_without_an_attempt_says_so(checkout, outputs, config):
    with pytest.raises(UserError, match=r"code=frozen: .* has no attempt yet"):
        read_origin(request_for(config, frozen=True), RunDirectory(outputs / "debug" / "0123456789ab"))


def test_frozen_code_of_a_version_that_stored_none_says_so(outputs, config):
    run = freeze(outputs / "debug" / "0123456789ab", config).run
    with pytest.raises(UserError, match=r"code=frozen: .* by a version that stored no code; leave it out"):
        read_origin(request_for(config, frozen=True), run)


def test_frozen_code_that_was_changed_is_refused(checkout, outputs, config):
    snapshot = stored(outputs)
    run = freeze(outputs / "debug" / "0123456789ab", config, snapshot).run
    (snapshot.path / "more.py").touch()
    with pytest.raises(SnapshotError, match="was changed after it was stored"):
        read_origin(request_for(config, frozen=True), run)


# ---------------------------------------------------------------- the worker

PRINTS_ITS_PATH = """
def run_attempt(attempt):
    print("rank code", __file__, attempt.number, flush=True)
    return 3
"""


def start_worker(attempt, **variables: str) -> "subprocess.CompletedProcess[str]":
    cleared = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "PYTHON", "RANK"))}
    command = [sys.executable, "-m", "mmhydra.worker", str(attempt.path)]
    return subprocess.run(command, env=cleared | variables, capture_output=True, text=True, timeout=60)


@pytest.fixture
def ranks(outputs):
    return store_ranks(outputs, PRINTS_ITS_PATH)


def test_a_worker_of_other_code_starts_over_from_the_stored_code(outputs, config, ranks):
    attempt = freeze(outputs / "debug" / "0123456789ab", config, ranks)
    assert not Path(mmhydra.__file__).is_relative_to(ranks.path)
    done = start_worker(attempt, RANK="5")
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "")
    first, second = (attempt.logs / "rank-0005.log").read_text().splitlines()
    sha256 = attempt.provenance()["config_sha256"]
    assert first == (
        f"mmhydra {mmhydra.__version__} run 0123456789ab attempt 1 config sha256 {sha256} "
        f"code sha256 {ranks.sha256} commit {'c' * 40}"
    )
    assert second == f"rank code {ranks.path}/mmhydra/titan/job.py 1"


def test_a_worker_of_the_stored_code_does_not_start_over(outputs, config, ranks):
    attempt = freeze(outputs / "debug" / "0123456789ab", config, ranks)
    assert start_worker(attempt, RANK="0", **ranks.variables({})).returncode == 3
    assert str(ranks.path) in (attempt.logs / "rank-0000.log").read_text()


def test_a_bare_srun_gives_a_worker_its_rank(outputs, config, ranks):
    attempt = freeze(outputs / "debug" / "0123456789ab", config, ranks)
    slurm = {"SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_LOCALID": "0", "SLURMD_NODENAME": "127.0.0.1"}
    assert start_worker(attempt, **slurm).returncode == 3
    assert (attempt.logs / "rank-0000.log").is_file()


def test_a_worker_refuses_a_changed_snapshot(outputs, config, ranks):
    attempt = freeze(outputs / "debug" / "0123456789ab", config, ranks)
    (ranks.path / "mmhydra" / "more.py").write_text("x")
    done = start_worker(attempt, RANK="0")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert content_sha256(ranks.path) in done.stderr
    assert ranks.sha256 in done.stderr
    assert "Traceback" not in done.stderr


def test_a_worker_without_a_rank_or_an_attempt_says_how_it_is_started(outputs, config, tmp_path):
    done = start_worker(freeze(outputs / "debug" / "0123456789ab", config))
    assert (done.returncode, done.stderr.startswith("usage: ")) == (2, True)
    (tmp_path / "attempts" / "0001").mkdir(parents=True)
    (tmp_path / "attempts" / "0001" / "provenance.json").write_text(json.dumps([]))
    done = subprocess.run(
        [sys.executable, "-m", "mmhydra.worker", tmp_path / "attempts" / "0001"],
        env={**os.environ, "RANK": "0"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr.startswith("error: ")) == (2, True)


def test_an_export_that_fails_leaves_nothing(outputs):
    def export(folder: Path) -> None:
        (folder / "half").touch()
        raise UserError("no")

    with pytest.raises(UserError, match="no"):
        store(outputs, "code", export)
    assert shelf(outputs) == []
