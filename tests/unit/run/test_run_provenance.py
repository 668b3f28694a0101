"""The patch leads from the recorded commit to the code that ran, byte for byte."""

import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest
from git_repository import git, without_settings

from mmhydra import paths
from mmhydra.errors import UserError
from mmhydra.run.provenance import MAX_PATCH_BYTES, collect, read_code
from mmhydra.run.snapshot import Snapshot


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A commit of a few files; `read_code` takes it for the checkout. No setting of the user counts."""
    without_settings(monkeypatch, tmp_path)
    root = tmp_path / "checkout"
    root.mkdir()
    git(root, "init", "--quiet")
    (root / "kept.py").write_text("kept = 1\n")
    (root / "changed.py").write_text("".join(f"line {number}\n" for number in range(40)))
    (root / "deleted.py").write_text("x = 1\n")
    (root / "moved.py").write_text("a long enough file to be found again\n" * 5)
    (root / "script.sh").write_text("#!/bin/sh\n")
    (root / "binary.bin").write_bytes(bytes(range(256)))
    (root / ".gitignore").write_text("ignored/\n*.log\n")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "-m", "first")
    monkeypatch.setattr(paths, "checkout", lambda: root)
    return root


def edit(root: Path) -> None:
    """One of each kind of change."""
    text = (root / "changed.py").read_text()
    (root / "changed.py").write_text(text.replace("line 20\n", "line zwänzig\n").rstrip("\n"))
    (root / "deleted.py").unlink()
    (root / "moved.py").rename(root / "new name.py")
    (root / "script.sh").chmod(0o755)
    (root / "binary.bin").write_bytes(bytes(reversed(range(256))) * 3)
    (root / "empty").touch()
    (root / "new").mkdir()
    (root / "new" / "ünicode.bin").write_bytes(b"\x00\xff\r\n" * 100)
    (root / "link").symlink_to("kept.py")
    (root / "ignored").mkdir()
    (root / "ignored" / "secret").write_text("no part of the code")
    (root / "run.log").write_text("no part of the code")


def tree(root: Path) -> dict[str, tuple[str, bytes]]:
    """Mode and content of all files that are part of the code."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if name.startswith((".git/", "ignored")) or name.endswith(".log") or (path.is_dir() and not path.is_symlink()):
            continue
        if path.is_symlink():
            found[name] = ("link", os.readlink(path).encode())
        else:
            found[name] = ("x" if os.access(path, os.X_OK) else "-", path.read_bytes())
    return found


def restored(root: Path, commit: str, patch: bytes, place: Path) -> dict[str, tuple[str, bytes]]:
    git(root, "clone", "--quiet", str(root), str(place))
    git(place, "checkout", "--quiet", commit)
    if patch:
        subprocess.run(["git", "-C", place, "apply", "-"], input=patch, check=True, capture_output=True)
    return tree(place)


def test_a_clean_tree_has_an_empty_patch(repository):
    code, patch = read_code()
    assert patch == b""
    assert not code.dirty
    assert (code.commit, code.branch) == (git(repository, "rev-parse", "HEAD").strip(), "main")
    assert code.wheel_record_sha256 is None


def test_the_patch_restores_the_tree_byte_for_byte(repository, tmp_path):
    edit(repository)
    code, patch = read_code()
    assert code.dirty
    assert code.patch_sha256 == hashlib.sha256(patch).hexdigest()
    assert restored(repository, code.commit, patch, tmp_path / "clean") == tree(repository)
    assert b"no part of the code" not in patch


@pytest.mark.parametrize(
    "setting",
    [
        "diff.noprefix=true",
        "diff.mnemonicPrefix=true",
        "diff.context=0",
        "diff.external=false",
        "diff.renames=copies",
        "color.ui=always",
        "core.quotePath=false",
    ],
)
def test_settings_of_the_user_do_not_spoil_the_patch(repository, tmp_path, setting):
    edit(repository)
    name, _, value = setting.partition("=")
    git(repository, "config", name, value)
    code, patch = read_code()
    assert restored(repository, code.commit, patch, tmp_path / "clean") == tree(repository)


def test_a_text_filter_of_the_user_does_not_spoil_the_patch(repository, tmp_path):
    (repository / ".gitattributes").write_text("*.py diff=upper\n")
    git(repository, "config", "diff.upper.textconv", "tr a-z A-Z <")
    edit(repository)
    code, patch = read_code()
    assert restored(repository, code.commit, patch, tmp_path / "clean") == tree(repository)


def test_staged_changes_belong_to_the_patch_and_stay_staged(repository, tmp_path):
    edit(repository)
    git(repository, "add", "changed.py")
    (repository / "changed.py").write_text("more\n")
    index = (repository / ".git" / "index").read_bytes()
    status = git(repository, "status", "--porcelain")
    objects = sorted((repository / ".git" / "objects").rglob("*"))
    code, patch = read_code()
    assert (repository / ".git" / "index").read_bytes() == index
    assert git(repository, "status", "--porcelain") == status
    assert sorted((repository / ".git" / "objects").rglob("*")) == objects
    assert restored(repository, code.commit, patch, tmp_path / "clean") == tree(repository)


def test_more_than_10_mb_are_refused_with_a_cure(repository):
    (repository / "large.bin").write_bytes(os.urandom(MAX_PATCH_BYTES))
    with pytest.raises(UserError, match=r"MB; a run carries at most 10\.5 MB\. Commit them, or name large files"):
        read_code()
    (repository / "large.bin").rename(repository / "large.log")
    assert read_code()[1] == b""


def test_the_branch_of_a_detached_head(repository):
    git(repository, "checkout", "--quiet", "--detach")
    assert read_code()[0].branch == "HEAD"


def test_a_checkout_without_a_commit_has_none(repository):
    subprocess.run(["rm", "-rf", repository / ".git"], check=True)
    assert read_code()[0].commit is None
    git(repository, "init", "--quiet")
    code, patch = read_code()
    assert (code.commit, code.dirty, patch) == (None, False, b"")


def test_no_git_is_no_crash(repository, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert read_code()[0].commit is None


def test_a_wheel_is_known_by_its_record(monkeypatch):
    monkeypatch.setattr(paths, "checkout", lambda: None)
    code, patch = read_code()
    assert (code.commit, code.branch, code.dirty, patch) == (None, None, False, b"")


def test_a_repository_that_git_does_not_trust_is_refused(repository, monkeypatch):
    """The commit would be lost without a word: checkouts on clusters often belong to somebody else."""
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(UserError, match=r"(?s)does not trust .*safe\.directory"):
        read_code()


def test_what_git_refuses_is_told_in_its_words(repository):
    """A repository inside without a commit: git can't add it."""
    git(repository, "init", "--quiet", "inner")
    (repository / "inner" / "file").write_text("x")
    with pytest.raises(UserError, match=r"(?s)can't be recorded, `git add` says: .*inner"):
        read_code()


def test_provenance_is_json_and_holds_no_other_variable(repository, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-hush")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    document = collect(read_code()[0], Snapshot(tmp_path / "code", "5" * 64))
    text = json.dumps(document)
    assert "hush-hush" not in text
    assert document["environment"]["OMP_NUM_THREADS"] == "3"
    assert document["git"]["commit"] == git(repository, "rev-parse", "HEAD").strip()
    assert (document["snapshot"], document["git"]["snapshot_sha256"]) == (str(tmp_path / "code"), "5" * 64)
    assert document["packages"]["pydantic"]
