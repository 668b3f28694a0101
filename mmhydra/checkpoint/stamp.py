"""stamp.json: what a checkpoint is, written last. A folder without a valid stamp is not a checkpoint.

The folder holds torchtitan's DCP files, `config.yaml` and `code.patch` of the attempt that saved it, and the stamp.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from mmhydra.data.stream.skips import Skip
from mmhydra.errors import UserError
from mmhydra.files import sha256_of_file, sync, write_json

STAMP = "stamp.json"
_STEP = re.compile(r"step-(\d{8,})")
_HASH_THREADS = 8  # hashlib releases the interpreter lock


class CheckpointError(UserError):
    """A checkpoint that can't be used, with the reasons."""


class _Record(BaseModel):
    # Built when first used: most commands import stamps and read none.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class File(_Record):
    """One file of the checkpoint."""

    name: str
    size_bytes: int
    sha256: str


class Mesh(_Record):
    """The world that saved it."""

    world_size: int
    dp_replicate: int
    dp_shard: int
    tp: int
    pp: int


class Tokens(_Record):
    """Input positions that made the weights, repeats included: all, and what they were.

    `total` is the sum of `by_source` (and of `by_modality`), `padding` and `skipped`. Stamps without `padding` count
    padding with the sources, and the modality of a source for that of its tokens.
    """

    total: int
    by_source: dict[str, int]
    by_modality: dict[str, int]
    padding: int | None = None
    skipped: int | None = None  # positions of samples that were left out, `Stream.skips`
    skipped_samples: int | None = None


class Stream(_Record):
    """Where the data stream stands: the number of the next global sample, the seed, and what is left out.

    `algorithm` numbers the ways in which samples were put in order; a stamp that has none is of the first.
    """

    sample: int
    seed: int
    algorithm: int = 1
    skips: list[Skip] = []


class Parent(_Record):
    """The checkpoint that the weights came from."""

    path: str
    step: int
    stamp_sha256: str
    kind: Literal["resume", "init_from", "extend"]
    run_id: str | None = None
    git_commit: str | None = None
    code_patch_sha256: str | None = None


class Stamp(_Record):
    """Schema version 1. Fields with a default came later; stamps before them lack them."""

    schema_version: Literal[1]
    created: str
    run_id: str
    run_name: str
    attempt: int
    step: int
    config_sha256: str
    code_patch_sha256: str
    git: dict[str, Any]
    packages: dict[str, str]
    mesh: Mesh
    tokens: Tokens
    stream: Stream
    manifests: dict[str, str]
    vocabulary: dict[str, str]
    parent: Parent | None
    lineage: list[Parent] = []  # other runs that the weights went through, the oldest first
    config_folders: list[dict[str, Any]] = []  # the user's own groups: path, commit, digest
    exemptions: list[str]
    files: list[File]


def step_folder(checkpoints: Path, step: int) -> Path:
    """Folder of the checkpoint after an optimizer step."""
    return checkpoints / f"step-{step:08d}"


def step_of(folder: Path) -> int | None:
    """The step in a checkpoint folder's name; None for other names."""
    match = _STEP.fullmatch(folder.name)
    return int(match.group(1)) if match else None


def stamped_steps(checkpoints: Path) -> list[int]:
    """Steps of folders that have a stamp, oldest first. Their content is not checked."""
    if not checkpoints.is_dir():
        return []
    folders = [checkpoints / name for name in os.listdir(checkpoints)]
    steps = {step_of(folder) for folder in folders if (folder / STAMP).is_file()}
    return sorted(step for step in steps if step is not None)


def hash_files(folder: Path, names: Iterable[str]) -> list[File]:
    """Size and SHA-256 of files, several at a time."""

    def describe(name: str) -> File:
        path = folder / name
        return File(name=name, size_bytes=path.stat().st_size, sha256=sha256_of_file(path))

    with ThreadPoolExecutor(_HASH_THREADS) as pool:
        return list(pool.map(describe, sorted(names)))


def file_names(folder: Path) -> list[str]:
    """All files below a checkpoint folder but the stamp and unfinished ones, relative, sorted."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    names = (str(path.relative_to(folder)) for path in paths)
    return sorted(name for name in names if name != STAMP and not name.endswith(".tmp"))


def write_stamp(folder: Path, stamp: Stamp) -> None:
    """Closes a checkpoint: every file is on disk before the stamp appears in one step."""
    for file in stamp.files:
        sync(folder / file.name)
    document = stamp.model_dump(mode="json")
    write_json(folder / STAMP, {**document, "digest": _digest(document)})


def _digest(document: dict[str, Any]) -> str:
    """The stamp vouches for all other files; this line vouches for the stamp."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def read_stamp(folder: Path) -> Stamp:
    """The stamp of a checkpoint. Raises CheckpointError if there is none or it can't be read."""
    path = folder / STAMP
    try:
        document = json.loads(path.read_bytes())
        if not isinstance(document, dict):
            raise ValueError("it is no JSON object")
        digest = document.pop("digest", None)
        stamp = Stamp.model_validate(document)
        if digest is None:
            raise ValueError("digest: Field required")
    except FileNotFoundError:
        raise CheckpointError(f"{folder} is not a checkpoint: it has no {STAMP}") from None
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        raise CheckpointError(f"{path} can't be read as a stamp: {'; '.join(faults)}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} can't be read as a stamp: {error}") from error
    if digest != _digest(document):
        raise CheckpointError(f"{path} was changed: its own digest is {_digest(document)}, it says {digest}")
    return stamp
