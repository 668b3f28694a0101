"""Where a run comes from: commit, uncommitted diff, packages, command line, host."""

import hashlib
import os
import platform
import socket
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from mmhydra import __version__, paths
from mmhydra.errors import UserError

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


def _bounded_patch(root: Path) -> bytes:
    """The working tree's patch. Raises UserError if it is too large to go with every checkpoint."""
    patch = _worktree_patch(root)
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
    for file in sorted(folder.rglob("*.yaml")):
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


def _git(root: Path, *arguments: str, environment: dict[str, str] | None = None) -> bytes:
    done = subprocess.run(
        ["git", "-C", str(root), *arguments], capture_output=True, env={**os.environ, **(environment or {})}
    )
    if done.returncode:
        why = done.stderr.decode(errors="replace").strip()
        raise UserError(f"the code in {root} can't be recorded, `git {arguments[0]}` says: {why}")
    return done.stdout


def _worktree_patch(root: Path) -> bytes:
    """A binary diff from HEAD to the working tree with untracked, non-ignored files.

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
        # Plumbing: `git diff` follows the user's settings (noprefix, textconv), and `git apply` then fails.
        return _git(root, "diff-index", "-p", "--cached", "--binary", "--no-ext-diff", "HEAD", environment=environment)


def _record_sha256() -> str | None:
    try:
        record = metadata.distribution("mmhydra").read_text("RECORD")
    except metadata.PackageNotFoundError:
        return None
    return _sha256(record.encode()) if record else None


def packages() -> dict[str, str]:
    """Versions of all installed distributions."""
    return dict(sorted((dist.metadata["Name"], dist.version) for dist in metadata.distributions()))


def collect(code: Code) -> dict[str, Any]:
    """The part of provenance.json that describes code, command and host."""
    return {
        "created": datetime.now(UTC).isoformat(),
        "mmhydra": __version__,
        "git": asdict(code),
        "argv": sys.argv,
        "python": platform.python_version(),
        "host": socket.gethostname(),
        "environment": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
        "packages": packages(),
    }
