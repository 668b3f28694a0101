"""The code of runs, stored once for each content: a job starts from here, whatever becomes of the checkout meanwhile.

`outputs/.store/code/<first 16 hex digits>/` holds what a job can read of the code: `mmhydra/`, `conf/`, pyproject.toml.
`outputs/.store/config/<...>/` holds the YAML files of a user's config folder. The names are hashes of the content.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmhydra import paths
from mmhydra.errors import UserError

EXPORTED = ("mmhydra", "conf", "pyproject.toml")
_NAME_LENGTH = 16
_BYTECODE = "__pycache__"


class SnapshotError(UserError):
    """A snapshot that can't be made, or that is not what was stored."""


@dataclass(frozen=True)
class Snapshot:
    """A folder of the store, and the SHA-256 of its content."""

    path: Path
    sha256: str

    def variables(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """What makes Python import this code, whatever is installed, and whatever the current folder is.

        Other packages that the user's own PYTHONPATH leads to stay within reach, behind it.
        """
        others = [
            place for place in inherited.get("PYTHONPATH", "").split(os.pathsep) if place not in ("", str(self.path))
        ]
        return {"PYTHONPATH": os.pathsep.join([str(self.path), *others]), "PYTHONSAFEPATH": "1"}

    def require_intact(self) -> None:
        """Raises SnapshotError if the folder does not hold what was stored."""
        if not self.path.is_dir():
            raise SnapshotError(f"the code that this run was frozen with is gone: {self.path}; start the run anew")
        found = content_sha256(self.path)
        if found != self.sha256:
            raise SnapshotError(
                f"{self.path} was changed after it was stored: its SHA-256 is {found}, recorded is {self.sha256}; "
                "remove that folder and start the run anew"
            )


def snapshot_of(provenance: Mapping[str, Any]) -> Snapshot | None:
    """The code that an attempt starts from; None for an attempt of a version that stored none."""
    path, sha256 = provenance.get("snapshot"), provenance["git"].get("snapshot_sha256")
    return None if path is None or sha256 is None else Snapshot(Path(path), sha256)


def content_sha256(folder: Path) -> str:
    """SHA-256 over names, executable bits and contents of all files, but for compiled Python."""
    digest = hashlib.sha256()
    for path in sorted(_files(folder)):
        content = os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
        kind = "l" if path.is_symlink() else "x" if os.access(path, os.X_OK) and path.stat().st_mode & 0o100 else "f"
        digest.update(f"{kind} {path.relative_to(folder).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if name != _BYTECODE]
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]  # not walked into
        for name in [*names, *links]:
            yield Path(place) / name


def _raise(error: OSError) -> None:
    raise error


def store(outputs: Path, kind: str, export: Callable[[Path], None], *, keep: bool = True) -> Snapshot:
    """Lets `export` fill a folder, and keeps it under the hash of its content unless the store has it.

    Of processes that store the same at once the first keeps it. Without `keep` nothing is written: it only tells the
    place and the hash. Raises SnapshotError where nothing can be written.
    """
    shelf = outputs / ".store" / kind
    try:
        if keep:
            _make_shelf(outputs, shelf)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=shelf if keep else None) as scratch:
            filled = Path(scratch) / "content"
            filled.mkdir()
            export(filled)
            sha256 = content_sha256(filled)
            kept = shelf / sha256[:_NAME_LENGTH]
            if not keep:
                return Snapshot(kept, sha256)
            if not kept.is_dir():
                _keep(filled, kept)
    except OSError as error:
        raise SnapshotError(
            f"the code can't be stored in {shelf}: {error}; point paths.outputs (or MMHYDRA_OUTPUTS) elsewhere"
        ) from error
    snapshot = Snapshot(kept, sha256)
    snapshot.require_intact()
    return snapshot


def _make_shelf(outputs: Path, shelf: Path) -> None:
    """Makes a folder that is open to the same people as `outputs`: a team shares the store."""
    outputs.mkdir(parents=True, exist_ok=True)
    for folder in (shelf.parent, shelf):
        if not folder.is_dir():
            folder.mkdir(exist_ok=True)
            folder.chmod(outputs.stat().st_mode & 0o7777)


def _keep(filled: Path, kept: Path) -> None:
    for path in _files(filled):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & ~0o222)  # an editor says that this is not the file to edit
    try:
        filled.rename(kept)
    except OSError:
        if not kept.is_dir():  # else another process was first
            raise


def export_installed(folder: Path) -> None:
    """Copies the code that runs now, where no git repository knows it: a wheel, or an unpacked archive."""
    package = Path(paths.__file__).resolve().parent
    ignore = shutil.ignore_patterns(_BYTECODE)
    shutil.copytree(package, folder / package.name, ignore=ignore)
    root = paths.checkout()
    if root is not None:
        shutil.copytree(root / "conf", folder / "conf", ignore=ignore)
        shutil.copy2(root / "pyproject.toml", folder)


def yaml_files(folder: Path) -> list[Path]:
    """The YAML files of a config folder, which may be `.`: no hidden folders, no runs, no virtual environments."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not _is_foreign(Path(place) / name)]
        found += [Path(place) / name for name in names if name.endswith(".yaml")]
    return sorted(found)


def _is_foreign(folder: Path) -> bool:
    signs = ("pyvenv.cfg", "identity.yaml", ".store")
    return folder.name.startswith(".") or any((folder / sign).exists() for sign in signs)


def export_yaml(source: Path, folder: Path) -> None:
    """Copies the YAML files of a config folder."""
    for file in yaml_files(source):
        target = folder / file.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
