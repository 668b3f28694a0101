"""The user's own groups: which commit, which changes, and how both go into provenance.json and every stamp."""

import hashlib
import os
import subprocess
from pathlib import Path

import pytest
from fake_run import MESH
from git_repository import git, without_settings

from mmhydra import paths
from mmhydra.checkpoint.keeper import Keeper, World
from mmhydra.checkpoint.stamp import Tokens, read_stamp, step_folder
from mmhydra.checkpoint.verify import faults
from mmhydra.compose import Request
from mmhydra.compose.request import LazyProvenance
from mmhydra.config.explain import Provenance
from mmhydra.errors import UserError
from mmhydra.launch.freeze import Plan, freeze, read_origin
from mmhydra.run.directory import Attempt, RunDirectory
from mmhydra.run.identity import identify
from mmhydra.run.provenance import MAX_PATCH_BYTES, read_config_folder

NOTHING = hashlib.sha256(b"").hexdigest()


@pytest.fixture
def make_repository(tmp_path, monkeypatch):
    """A repository with one commit of a config folder `conf`. No setting of the user counts."""
    without_settings(monkeypatch, tmp_path)

    def make(name: str) -> Path:
        root = tmp_path / name
        (root / "conf" / "optim").mkdir(parents=True)
        (root / "conf" / "optim" / "mine.yaml").write_text("lr: 1.0\n")
        (root / "readme.md").write_text("of a lab\n")
        git(root, "init", "--quiet")
        git(root, "add", "--all")
        git(root, "commit", "--quiet", "-m", "first")
        return root

    return make


@pytest.fixture
def checkout(make_repository, monkeypatch) -> Path:
    """Stands for the code's own checkout."""
    root = make_repository("checkout")
    monkeypatch.setattr(paths, "checkout", lambda: root)
    return root


@pytest.fixture
def lab(make_repository) -> Path:
    """A repository of the user's own."""
    return make_repository("lab")


def change_a_group(root: Path) -> None:
    (root / "conf" / "optim" / "mine.yaml").write_text("lr: 2.0\n")
    (root / "conf" / "new.yaml").write_text("# not yet added\n")


# ---------------------------------------------------------------- one folder


def test_a_clean_repository_is_its_commit(checkout, lab):
    state, patch = read_config_folder(lab / "conf")
    assert patch == b""
    assert (state.commit, state.branch) == (git(lab, "rev-parse", "HEAD"), "main")
    assert (state.path, state.dirty, state.patch_sha256) == (str(lab / "conf"), False, NOTHING)


def test_changes_are_a_patch_that_restores_the_folder(checkout, lab, tmp_path):
    change_a_group(lab)
    (lab / "readme.md").write_text("changed too\n")
    state, patch = read_config_folder(lab / "conf")
    assert (state.dirty, state.patch_sha256) == (True, hashlib.sha256(patch).hexdigest())
    git(tmp_path, "clone", "--quiet", str(lab), "clone")
    git(tmp_path / "clone", "checkout", "--quiet", state.commit)
    subprocess.run(["git", "-C", tmp_path / "clone", "apply", "-"], input=patch, check=True)
    for name in ("conf/optim/mine.yaml", "conf/new.yaml", "readme.md"):
        assert (tmp_path / "clone" / name).read_bytes() == (lab / name).read_bytes()


def test_reading_changes_nothing_of_the_repository(checkout, lab):
    change_a_group(lab)
    git(lab, "add", "conf/new.yaml")
    before = git(lab, "status", "--porcelain"), (lab / ".git" / "index").read_bytes()
    read_config_folder(lab / "conf")
    assert (git(lab, "status", "--porcelain"), (lab / ".git" / "index").read_bytes()) == before


def test_the_digest_is_that_of_names_and_contents_of_yaml_files(checkout, lab, tmp_path):
    def digest() -> str:
        return read_config_folder(lab / "conf")[0].files_sha256

    seen = [digest()]
    (lab / "conf" / "optim" / "mine.yaml").write_text("lr: 2.0\n")
    seen.append(digest())
    (lab / "conf" / "optim" / "mine.yaml").rename(lab / "conf" / "optim" / "yours.yaml")
    seen.append(digest())
    (lab / "conf" / "more.yaml").touch()
    seen.append(digest())
    assert len(set(seen)) == 4
    (lab / "conf" / "notes.md").write_text("no group")
    assert digest() == seen[-1]


def test_where_the_folder_lies_makes_no_other_digest(checkout, lab, make_repository):
    states = [read_config_folder(root / "conf")[0] for root in (lab, make_repository("lab2"))]
    assert states[0].files_sha256 == states[1].files_sha256


def test_a_name_is_not_taken_for_content(checkout, tmp_path):
    digests = []
    for number, files in enumerate([{"a.yaml": "b.yaml 0\n"}, {"a.yaml": "", "b.yaml": ""}]):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_text(content)
        digests.append(read_config_folder(folder)[0].files_sha256)
    assert digests[0] != digests[1]


def test_a_folder_of_the_code_s_own_repository_has_its_changes_in_the_code_s_patch(checkout):
    change_a_group(checkout)
    state, patch = read_config_folder(checkout / "conf")
    assert patch == b"", "the same changes would be kept twice"
    assert (state.commit, state.dirty) == (git(checkout, "rev-parse", "HEAD"), True)


def test_a_folder_without_git_has_its_digest_alone(checkout, tmp_path):
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "x.yaml").write_text("a: 1\n")
    state, patch = read_config_folder(tmp_path / "plain")
    assert (state.commit, state.branch, state.dirty, state.patch_sha256, patch) == (None, None, False, NOTHING, b"")
    assert len(state.files_sha256) == 64


def test_a_repository_without_a_commit_has_none(checkout, tmp_path):
    git(tmp_path, "init", "--quiet", "fresh")
    assert read_config_folder(tmp_path / "fresh")[0].commit is None


def test_changes_that_are_too_large_are_refused(checkout, lab):
    (lab / "large.bin").write_bytes(os.urandom(MAX_PATCH_BYTES))
    with pytest.raises(UserError, match=rf"the uncommitted changes of {lab} are .* MB; a run carries at most 10\.5 MB"):
        read_config_folder(lab / "conf")


def test_a_repository_that_git_does_not_trust_is_refused(checkout, lab, monkeypatch):
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(UserError, match="git does not trust"):
        read_config_folder(lab / "conf")


# ---------------------------------------------------------------- an attempt and its stamps


@pytest.fixture
def start(tmp_path, default_config, change):
    """Freezes the next attempt of one run, composed with these config folders."""
    config = change(default_config, {"paths.outputs": str(tmp_path / "outputs")})
    identity = identify(config, {}, None)
    run = RunDirectory(tmp_path / "outputs" / "debug" / identity.run_id)

    def freeze_next(*folders: Path) -> Attempt:
        origins = LazyProvenance(lambda: Provenance([]))
        request = Request(config, (), None, confirm=False, origins=origins, config_dirs=folders)
        return freeze(Plan(request, {}, identity, run), read_origin(request, run))

    return freeze_next


def save(attempt: Attempt, step: int, events: list[tuple[str, str]]) -> Path:
    """What a job does: resume, then save a step."""
    keeper = Keeper(
        attempt,
        World(MESH, lambda sample, skips: Tokens(total=sample, by_source={}, by_modality={})),
        lambda kind, text: events.append((kind, text)),
    )
    keeper.require_initial_weights()
    keeper.step_to_resume()
    keeper.prepare(step)
    folder = step_folder(attempt.run.checkpoints, step)
    folder.mkdir()
    keeper.stamp(step, step * 16)
    return folder


def test_all_folders_are_recorded_and_their_patches_lie_beside_the_code_s(start, checkout, lab, make_repository):
    clean = make_repository("clean")
    change_a_group(lab)
    change_a_group(checkout)
    attempt = start(clean / "conf", lab / "conf", checkout / "conf")
    assert [path.name for path in attempt.patches] == ["code.patch", "config-2.patch"]
    folders = attempt.provenance()["config_folders"]
    assert [folder["path"] for folder in folders] == [str(root / "conf") for root in (clean, lab, checkout)]
    assert [folder["dirty"] for folder in folders] == [False, True, True]
    assert [folder["commit"] for folder in folders] == [
        git(root, "rev-parse", "HEAD") for root in (clean, lab, checkout)
    ]
    patches = [hashlib.sha256(path.read_bytes()).hexdigest() for path in attempt.patches]
    assert [folders[2]["patch_sha256"], folders[1]["patch_sha256"]] == patches
    assert attempt.provenance()["git"]["patch_sha256"] == patches[0]


def test_no_folder_is_an_empty_list(start, checkout):
    assert start().provenance()["config_folders"] == []


def test_a_checkpoint_carries_folders_and_patches(start, checkout, lab):
    change_a_group(lab)
    attempt = start(lab / "conf")
    folder = save(attempt, 100, [])
    stamp = read_stamp(folder)
    assert stamp.config_folders == attempt.provenance()["config_folders"]
    assert (folder / "config-1.patch").read_bytes() == attempt.patches[1].read_bytes() != b""
    assert {"code.patch", "config-1.patch", "config.yaml"} <= {file.name for file in stamp.files}
    assert faults(folder) == []
    (folder / "config-1.patch").write_text("edited")
    assert [fault.partition(" ")[0] for fault in faults(folder)] == ["config-1.patch"]


# ---------------------------------------------------------------- other code, the same run


def test_the_same_code_is_no_event(start, checkout):
    events: list[tuple[str, str]] = []
    save(start(), 100, events)
    save(start(), 200, events)
    assert "code_changed" not in [kind for kind, _ in events]


def test_another_commit_is_told_and_stamped(start, checkout):
    events: list[tuple[str, str]] = []
    save(start(), 100, events)
    then = git(checkout, "rev-parse", "HEAD")
    git(checkout, "commit", "--quiet", "--allow-empty", "-m", "second")
    now = git(checkout, "rev-parse", "HEAD")
    stamp = read_stamp(save(start(), 200, events))
    assert [text for kind, text in events if kind == "code_changed"] == [
        f"step 100 was saved by commit {then}, this is {now}"
    ]
    assert (stamp.git["commit"], stamp.parent.git_commit) == (now, then)
    assert stamp.parent.code_patch_sha256 == NOTHING


def test_other_uncommitted_changes_are_told_too(start, checkout):
    events: list[tuple[str, str]] = []
    save(start(), 100, events)
    change_a_group(checkout)
    stamp = read_stamp(save(start(), 200, events))
    (text,) = [text for kind, text in events if kind == "code_changed"]
    assert text.endswith(", with other uncommitted changes")
    assert stamp.git["commit"] == stamp.parent.git_commit
    assert stamp.code_patch_sha256 != stamp.parent.code_patch_sha256 == NOTHING
