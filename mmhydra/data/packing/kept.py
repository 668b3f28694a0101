"""Keeps pack indexes in a dataset's folder, each made once: `packs/<source>-<split>-<seq_len>.*`.

Beside the arrays of a Pack a small JSON file, written last, says what they were made of, their sizes and their hash;
files that do not fit it are made again, as they follow from the shards alone.
"""

import fcntl
import hashlib
import json
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from mmhydra.data.datasets import DataError
from mmhydra.data.packing.pack import ALGORITHM, Pack, pack
from mmhydra.data.shards.index import digest_of, npy
from mmhydra.data.shards.manifest import Manifest
from mmhydra.data.shards.reader import TokenShards
from mmhydra.data.storage.access import Access
from mmhydra.files import read_object, write_atomic

PACKS = "packs"
ARRAYS = ("pieces", "edges", "groups", "counts", "totals")  # of a Pack, each a file with its name
FACTS_SUFFIX = ".json"
# Most bytes of a pack index that are hashed each time it is opened: a tenth of a second. One of a large corpus has
# gigabytes, which every rank of a node would read before its first step, while a step uses a few pages of them. Of such
# a one the sizes are compared, and the whole is hashed once, before a run is submitted (`discard_damaged`).
HASHED_BYTES = 256_000_000

_told: set[Path] = set()  # packs that this process has already said it cannot keep


def ensure_pack(
    folder: Path, manifest: Manifest, source: str, split: str, seq_len: int, access: Access | None = None
) -> Pack:
    """The pack index of a source and split, mapped from the dataset's folder and made there first if need be.

    What is mapped was hashed if it is smaller than HASHED_BYTES; else its files have the right sizes.

    Any number of processes may ask at once: one makes it, the others wait. Where it cannot be written it is made in
    memory, which is said once on standard error. The shards are read through `access` (None: local files). Raises
    UserError as `TokenShards` and `pack` do.
    """
    base = folder / PACKS / f"{source}-{split}-{seq_len}"
    wanted = _wanted(manifest, source, split, seq_len)
    # One that is there needs no lock: its JSON file appears last, and the folder may be read-only.
    if (ready := _load(base, wanted)) is not None:
        return ready
    made: Pack | None = None
    try:
        with _lock(base.parent):
            if (ready := _load(base, wanted)) is not None:
                return ready
            made = pack(TokenShards(folder, manifest, source, split, access), seq_len)
            _write(base, wanted, made)
            return _load(base, wanted) or made
    except OSError as error:
        if base not in _told:
            _told.add(base)
            print(f"note: the pack index {base} cannot be kept ({error.strerror}): made in memory", file=sys.stderr)
    return made or pack(TokenShards(folder, manifest, source, split, access), seq_len)


def discard_damaged(folder: Path, manifest: Manifest, source: str, seq_len: int) -> list[str]:
    """Hashes the pack indexes of a source that `ensure_pack` takes by their sizes; those that are damaged are removed.

    Returns the names of those, which are made again when they are next used. Raises DataError for one that can't be
    removed.
    """
    removed = []
    for split in sorted({shard.split for shard in manifest.shards if shard.source == source}):
        base = folder / PACKS / f"{source}-{split}-{seq_len}"
        wanted = _wanted(manifest, source, split, seq_len)
        if _load(base, wanted) is None or _load(base, wanted, whole=True) is not None:
            continue  # not there, to be made anyway, or as it should be
        try:
            _beside(base, FACTS_SUFFIX).unlink(missing_ok=True)
        except OSError as error:
            raise DataError(
                f"the pack index {base} is damaged, and can't be removed to be made again ({error.strerror}); type "
                f"rm {shlex.quote(str(base))}.* where that is allowed"
            ) from error
        removed.append(f"{PACKS}/{base.name}")
    return removed


def pack_faults(folder: Path, manifest: Manifest) -> list[str]:
    """One line for each pack index in a dataset's folder that is not the one of its shards; each is made again."""
    faults = []
    for path in sorted((folder / PACKS).glob(f"*{FACTS_SUFFIX}")):
        name = f"{PACKS}/{path.name}"
        facts, base = read_object(path), path.with_name(path.name.removesuffix(FACTS_SUFFIX))
        try:
            source, split, seq_len = str(facts["source"]), str(facts["split"]), int(facts["seq_len"])
            found = _load(base, _wanted(manifest, source, split, seq_len), whole=True)
        except (KeyError, TypeError, ValueError):
            faults.append(f"{name}: not the description of a pack index of this dataset")
            continue
        if found is None:
            faults.append(f"{name}: its files are damaged, or made of other shards; it will be made again when used")
            continue
        right = pack(TokenShards(folder, manifest, source, split), seq_len)
        if not all(np.array_equal(getattr(right, name), getattr(found, name)) for name in ARRAYS):
            faults.append(f"{name}: not how these shards are packed; remove it: it is made again when used")
    return faults


def _wanted(manifest: Manifest, source: str, split: str, seq_len: int) -> dict[str, Any]:
    """What a pack index depends on."""
    shards = [[shard.path, shard.sha256] for shard in manifest.shards_of(source, split)]
    return {
        "algorithm": ALGORITHM,
        "shards_sha256": hashlib.sha256(json.dumps(shards).encode()).hexdigest(),
        "source": source,
        "split": split,
        "seq_len": seq_len,
    }


def _write(base: Path, wanted: dict[str, Any], made: Pack) -> None:
    files = {f".{name}.npy": npy(getattr(made, name)) for name in ARRAYS}
    facts = {
        **wanted,
        "num_sequences": made.num_sequences,
        "num_pieces": len(made.pieces),
        "num_groups": len(made.totals),
        "num_filled": made.num_filled,
        "padding_share": made.padding_share,
        "file_bytes": [len(content) for content in files.values()],
        "files_xxh3": digest_of(files.values()),
    }
    _beside(base, FACTS_SUFFIX).unlink(missing_ok=True)  # it would speak of other arrays until it is replaced
    for suffix, content in files.items():
        write_atomic(_beside(base, suffix), content)
    write_atomic(_beside(base, FACTS_SUFFIX), (json.dumps(facts, indent=1) + "\n").encode())


def _load(base: Path, wanted: dict[str, Any], *, whole: bool = False) -> Pack | None:
    """The pack index that was made of just this, if it is there: hashed if it is small or `whole`, else by sizes."""
    facts = read_object(_beside(base, FACTS_SUFFIX))
    if {key: facts.get(key) for key in wanted} != wanted:
        return None
    paths = [_beside(base, f".{name}.npy") for name in ARRAYS]
    try:
        sizes = [path.stat().st_size for path in paths]
        if sizes != facts["file_bytes"]:
            return None
        is_hashed = whole or sum(sizes) < HASHED_BYTES
        if is_hashed and digest_of(np.memmap(path, np.uint8, "r").data for path in paths) != facts["files_xxh3"]:
            return None
        return Pack(wanted["seq_len"], *(np.asarray(np.load(path, "r", allow_pickle=False)) for path in paths))
    except (OSError, ValueError, KeyError):
        return None


def _beside(base: Path, suffix: str) -> Path:
    return base.with_name(base.name + suffix)


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """One maker at a time. The system frees the lock when the process ends, however it ends; the file stays."""
    folder.mkdir(exist_ok=True)
    with (folder / ".lock").open("a") as file:
        with suppress(OSError):  # a file system without locks: several make it, and each writes the same bytes
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
