"""Where a run comes from: commit, uncommitted diff, packages, command line, host."""

import hashlib
import os
import platform
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from mmhydra import __version__, paths
from mmhydra.errors import UserError
from mmhydra.run.snapshot import EXPORTED, Snapshot, export_installed, export_yaml, store, yaml_files

MAX_PATCH_BYTES = 10 * 1024 * 1024
# Variables that change numbers or speed. Values only of these: an environment can hold secrets.
_VARIABLES = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "NCCL_DEBUG", "PYTORCH_CUDA_ALLOC_CONF", "SLURM_JOB_ID")


@dataclass(frozen=True)
class Code:
    """The code that runs: a git checkout, or an installed wheel."""

    commit: str | None
    branch: str | None
    dirty: bool
    patch_sha256: str
    wheel_record_sha256: str | None


def read_code() -> tuple[Code, bytes]:
    """The state of the code and the patch that leads from the commit to it (empty for a clean tree)."""
    root = paths.checkout()
    if root is None or not _is_git(root):
        return Code(None, None, False, _sha256(b""), _record_sha256()), b""
    commit, branch = _head(root)
    patch = _bounded_patch(root)
    return Code(commit, branch, bool(patch), _sha256(patch), None), patch


def store_code(code: Code, outputs: Path, *, keep: bool = True) -> Snapshot:
    """Puts the code that `read_code` found into the store; without `keep` only tells where it would be.

    Raises UserError if it is not the same any more.
    """
    root = paths.checkout()
    if code.commit is None or root is None:
        return store(outputs, "code", export_installed, keep=keep)
    with _worktree_index(root) as environment:
        now = (_head(root)[0], _sha256(_patch(root, environment)))
        if now != (code.commit, code.patch_sha256):
            raise UserError(f"the code in {root} was changed while it was being recorded; start again")
        return store(outputs, "code", lambda folder: _export(root, environment, folder), keep=keep)


def _bounded_patch(root: Path) -> bytes:
    """The working tree's patch. Raises UserError if it is too large to go with every checkpoint."""
    with _worktree_index(root) as environment:
        return _bounded(root, _patch(root, environment))


def _bounded(root: Path, patch: bytes) -> bytes:
    if len(patch) > MAX_PATCH_BYTES:
        raise UserError(
            f"the uncommitted changes of {root} are {len(patch) / 1e6:.1f} MB; a run carries at most "
            f"{MAX_PATCH_BYTES / 1e6:.1f} MB. Commit them, or name large files in .gitignore (`git status` lists them)."
        )
    return patch


@dataclass(frozen=True)
class ConfigFolder:
    """A folder of the user's own groups, and the git repository that it lies in, if any."""

    path: str
    files_sha256: str  # over names and contents of its YAML files
    commit: str | None
    branch: str | None
    dirty: bool
    patch_sha256: str


def read_config_folder(folder: Path) -> tuple[ConfigFolder, bytes]:
    """The state of a config folder, and its repository's patch, which is empty where the code's patch has it."""
    digest = hashlib.sha256()
    for file in yaml_files(folder):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(folder)} {len(content)}\n".encode() + content)
    where = str(folder.absolute())
    if not _is_git(folder):
        return ConfigFolder(where, digest.hexdigest(), None, None, False, _sha256(b"")), b""
    root = Path(_git(folder, "rev-parse", "--show-toplevel").decode().strip())
    commit, branch = _head(root)
    patch = _bounded_patch(root)
    state = ConfigFolder(where, digest.hexdigest(), commit, branch, bool(patch), _sha256(patch))
    return state, b"" if root == paths.checkout() else patch


def store_config_folder(folder: Path, outputs: Path) -> Snapshot:
    """Puts the YAML files of a config folder into the store."""
    return store(outputs, "config", lambda into: export_yaml(folder, into))


def _head(root: Path) -> tuple[str, str]:
    commit = _git(root, "rev-parse", "HEAD").strip().decode()
    return commit, _git(root, "rev-parse", "--abbrev-ref", "HEAD").strip().decode()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _is_git(root: Path) -> bool:
    """Whether there is a commit. Raises UserError where git refuses to look: a run must not lose its origin unseen."""
    try:
        found = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True)
    except OSError:
        return False  # no git
    if b"dubious ownership" in found.stderr:
        raise UserError(f"git does not trust {root}, so its commit can't be recorded: {found.stderr.decode().strip()}")
    return found.returncode == 0  # else no repository, or one without a commit


def _git(root: Path, *arguments: str, environment: dict[str, str] | None = None, text: bytes = b"") -> bytes:
    done = subprocess.run(
        ["git", "-C", str(root), *arguments],
        input=text,
        capture_output=True,
        env={**os.environ, **(environment or {})},
    )
    if done.returncode:
        why = done.stderr.decode(errors="replace").strip()
        raise UserError(f"the code in {root} can't be recorded, `git {arguments[0]}` says: {why}")
    return done.stdout


@contextmanager
def _worktree_index(root: Path) -> Iterator[dict[str, str]]:
    """The environment in which git's index is the working tree with untracked, non-ignored files.

    A private index and object folder keep the user's own index and repository untouched.
    """
    objects = _git(root, "rev-parse", "--path-format=absolute", "--git-path", "objects").strip().decode()
    with tempfile.TemporaryDirectory(prefix="mmhydra-diff-") as scratch:
        environment = {
            "GIT_INDEX_FILE": f"{scratch}/index",
            "GIT_OBJECT_DIRECTORY": scratch,
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": objects,
        }
        _git(root, "read-tree", "HEAD", environment=environment)
        _git(root, "add", "--all", ".", environment=environment)
        yield environment


def _patch(root: Path, environment: dict[str, str]) -> bytes:
    """A binary diff from HEAD to the index.

    Plumbing: `git diff` follows the user's settings (noprefix, textconv), and `git apply` then fails.
    """
    return _git(root, "diff-index", "-p", "--cached", "--binary", "--no-ext-diff", "HEAD", environment=environment)


def _export(root: Path, environment: dict[str, str], folder: Path) -> None:
    """Writes the files of the index that a job can read."""
    names = _git(root, "ls-files", "--cached", "-z", "--", *EXPORTED, environment=environment)
    prefix = f"--prefix={folder}/"
    _git(root, "checkout-index", "--quiet", prefix, "-z", "--stdin", environment=environment, text=names)


def _record_sha256() -> str | None:
    try:
        record = metadata.distribution("mmhydra").read_text("RECORD")
    except metadata.PackageNotFoundError:
        return None
    return _sha256(record.encode()) if record else None


def packages() -> dict[str, str]:
    """Versions of all installed distributions; one that is being installed or removed may have no name yet."""
    found = ((dist.metadata["Name"], dist.version) for dist in metadata.distributions())
    return dict(sorted((name, version) for name, version in found if name))


def collect(code: Code, snapshot: Snapshot) -> dict[str, Any]:
    """The part of provenance.json that describes code, command and host."""
    return {
        "created": datetime.now(UTC).isoformat(),
        "mmhydra": __version__,
        # With the code's hash in it, which stamps copy.
        "git": {**asdict(code), "snapshot_sha256": snapshot.sha256},
        "snapshot": str(snapshot.path),
        "argv": sys.argv,
        "python": platform.python_version(),
        "host": socket.gethostname(),
        "environment": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
        "packages": packages(),
    }
