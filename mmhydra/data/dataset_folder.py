"""Puts a dataset folder in place whole: one builder at a time, and a finished one is never replaced."""

import fcntl
import os
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pydantic import JsonValue

from mmhydra.data.manifest import Manifest, load_manifest
from mmhydra.data.shards import TokenShards
from mmhydra.errors import UserError
from mmhydra.files import sync


class DatasetError(UserError):
    """A dataset folder holds something else than was asked for, or cannot be written."""


def build_once(
    folder: Path,
    settings: Mapping[str, JsonValue],
    build: Callable[[Path], Manifest],
    on_progress: Callable[[str], None],
) -> Manifest:
    """Return the dataset in `folder`, which `build` makes from `settings` if it is not there yet.

    `build` fills a temporary folder beside it (`.<name>.building`), which then takes its name. A concurrent
    caller waits on `<folder>.lock` and uses the first one's result; a killed one leaves at most the temporary
    folder, which the next one removes.

    Raises DatasetError when `folder` holds a dataset of other settings or a damaged one (it is never changed:
    runs refer to it), or when writing fails, and ManifestError when it holds something without a valid
    manifest.
    """
    try:
        # A finished dataset needs no lock: it appears by one rename, and may lie on a read-only disk.
        if (ready := _ready(folder, settings)) is not None:
            return ready
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _lock(folder, on_progress):
            return _ready(folder, settings) or _build(folder, build)
    except OSError as error:
        raise DatasetError(
            f"cannot build the dataset in {folder}: {error}. Nothing was left there. "
            "Free some space or give another data folder"
        ) from error


def _ready(folder: Path, settings: Mapping[str, JsonValue]) -> Manifest | None:
    """The dataset in `folder`, or None when there is none; one that cannot be used is an error."""
    try:
        if not any(folder.iterdir()):
            return None
    except FileNotFoundError:
        return None
    except NotADirectoryError as error:
        raise DatasetError(f"{folder} is not a folder; give another data folder") from error
    manifest = load_manifest(folder)
    found = manifest.builder.get("settings")
    found = found if isinstance(found, dict) else {}
    differing = sorted(key for key in {*found, *settings} if found.get(key) != settings.get(key))
    if differing:
        lines = [f"  {key}: there {found.get(key)!r}, asked for {settings.get(key)!r}" for key in differing]
        raise DatasetError(
            f"{folder} holds {manifest.dataset} {manifest.version} made with other settings:\n"
            + "\n".join(lines)
            + f"\nRuns may refer to it, so it is kept. "
            f"Give the sources another dataset name (data.sources.0.dataset=NAME ...), "
            f"or if no run needs it: rm -r {shlex.quote(str(folder))}"
        )
    for source, split in sorted({(shard.source, shard.split) for shard in manifest.shards}):
        TokenShards(folder, manifest, source, split)  # raises where a shard is missing or cut off
    return manifest


def _build(folder: Path, build: Callable[[Path], Manifest]) -> Manifest:
    building = folder.with_name(f".{folder.name}.building")
    if building.exists():  # left by a killed build: we hold the lock
        shutil.rmtree(building)
    building.mkdir()
    try:
        manifest = build(building)
        for path in (building, *building.iterdir()):
            if path.is_dir():
                sync(path)
        os.rename(building, folder)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    sync(folder.parent)
    return manifest


@contextmanager
def _lock(folder: Path, on_progress: Callable[[str], None]) -> Iterator[None]:
    """Hold `<folder>.lock`. The system frees it when the process ends, however it ends; the file stays."""
    with folder.with_name(f"{folder.name}.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_progress(f"another process builds {folder}: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
