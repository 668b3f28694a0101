"""Puts a dataset folder in place whole: one builder at a time, and a finished one is never replaced."""

import errno
import fcntl
import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pydantic import JsonValue

from mmhydra.config.frozen import flatten
from mmhydra.data.shards.manifest import Manifest, load_manifest
from mmhydra.data.shards.reader import check_sizes
from mmhydra.errors import UserError
from mmhydra.files import sync

_COMPARED = ("recipe", "tokens", "outside")
_MAX_LINES = 10
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class _Absent:
    """Equal to no value."""

    def __repr__(self) -> str:
        return "nothing"


_ABSENT = _Absent()


class DatasetError(UserError):
    """A dataset folder holds something else than was asked for, or cannot be written."""


def build_once(
    folder: Path,
    settings: Mapping[str, JsonValue],
    build: Callable[[Path], Manifest],
    on_line: Callable[[str], None],
) -> Manifest:
    """Return the dataset in `folder`, which `build` makes if it is not there yet.

    `build` fills a folder beside it (`.<name>.building`), which then takes its name. It may find there what an
    earlier start left, and decides itself whether that can be used. A concurrent caller waits on `<folder>.lock` and
    uses the first one's result.

    `settings` are those of `settings_of`. Raises DatasetError when `folder` holds a dataset of another recipe or a
    damaged one (it is never changed: runs refer to it), or when writing fails, and ManifestError when it holds
    something without a valid manifest.
    """
    try:
        # A finished dataset needs no lock: it appears by one rename, and may lie on a read-only disk.
        if (ready := ready_in(folder, settings)) is not None:
            return ready
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _lock(folder, on_line):
            return ready_in(folder, settings) or _build(folder, build)
    except OSError as error:
        raise DatasetError(_cannot(folder, error)) from error


def _cannot(folder: Path, error: OSError) -> str:
    """What the system said, and what would help."""
    kept = _building(folder)
    stays = f" What is done stays in {kept}:" if kept.is_dir() else ""
    if error.errno in _FULL:
        cure = "free some space and type the same command again, it goes on from there; or give another data folder"
    else:
        cure = "mend that and type the same command again; or give another data folder"
    return f"cannot build the dataset in {folder}: {error}.{stays} {cure if stays else cure.capitalize()}"


def ready_in(folder: Path, settings: Mapping[str, JsonValue]) -> Manifest | None:
    """The dataset in `folder`, or None when there is none; one that cannot be used is an error, see `build_once`.

    Only what `settings` says of recipe, vocabulary and files outside of the records is compared; a dataset stays what
    it is when packages change.
    """
    try:
        if not any(folder.iterdir()):
            return None
    except FileNotFoundError:
        return None
    except NotADirectoryError as error:
        raise DatasetError(f"{folder} is not a folder; give another data folder") from error
    manifest = load_manifest(folder)
    asked = {key: value for key, value in flatten(settings).items() if key.partition(".")[0] in _COMPARED}
    found = flatten(manifest.builder)
    differing = sorted(key for key, value in asked.items() if found.get(key, _ABSENT) != value)
    if differing:
        lines = [
            f"  {key}: there {found.get(key, _ABSENT)!r}, asked for {asked[key]!r}" for key in differing[:_MAX_LINES]
        ]
        more = [f"  and {len(differing) - _MAX_LINES} more"] if len(differing) > _MAX_LINES else []
        raise DatasetError(
            "\n".join([f"{folder} holds {manifest.dataset} made by another recipe:", *lines, *more])
            + "\nRuns may refer to it, so it is kept. "
            "Give the dataset another name (in a build dataset.name=NAME, in a run data.sources.0.dataset=NAME ...), "
            f"or if no run needs it: rm -r {shlex.quote(str(folder))}"
        )
    check_sizes(folder, manifest)
    return manifest


def _building(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.building")


def _build(folder: Path, build: Callable[[Path], Manifest]) -> Manifest:
    building = _building(folder)
    building.mkdir(exist_ok=True)
    manifest = build(building)
    for path in (building, *building.rglob("*")):
        sync(path)
    os.rename(building, folder)
    sync(folder.parent)
    return manifest


@contextmanager
def _lock(folder: Path, on_line: Callable[[str], None]) -> Iterator[None]:
    """Hold `<folder>.lock`. The system frees it when the process ends, however it ends; the file stays."""
    with folder.with_name(f"{folder.name}.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_line(f"another process builds {folder}: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
