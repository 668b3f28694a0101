"""The small files of a dataset version whose shards lie in an object store, copied below `paths.data`.

Manifest, tokenizer and pack indexes are read by the machine that submits, by tools, and by every process of a run, so
they are local files. The shards stay where they are.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from mmhydra.config.data import Data
from mmhydra.config.loader import Store as StoreConfig
from mmhydra.data.datasets import DataError
from mmhydra.data.packing.kept import FACTS_SUFFIX, PACKS
from mmhydra.data.shards.manifest import MANIFEST_NAME, Manifest, load_manifest
from mmhydra.data.storage.access import SHARDS
from mmhydra.data.storage.remote import FsspecStore
from mmhydra.data.storage.store import Bytes, Store
from mmhydra.files import write_atomic, write_parts
from mmhydra.paths import short

_TIMEOUT_S = 60.0
_PART_BYTES = 16_000_000  # a pack index may have gigabytes: it is not held in memory
_FETCHING = ".fetching"  # what the names of the lock and of unfinished folders begin with


def mirror(data: Data, folder: Path, config: StoreConfig, seq_len: int | None, on_line: Callable[[str], None]) -> None:
    """Fetches what is not there of each dataset version without shards below `folder`; what is there stays.

    Pack indexes are those of `data`'s sources at `seq_len`; where the store has none they are made at the first start.
    Any number of processes may do so at once. Raises DataError where the store has no such dataset, or does not answer,
    and where `folder` can't be written.
    """
    missing = [name for name in data.datasets if is_remote(folder / name, config)]
    if not missing:
        return
    store = FsspecStore(config.url, config.options, _TIMEOUT_S)
    try:
        for name in missing:
            if not (folder / name / MANIFEST_NAME).is_file():
                on_line(f"the dataset {name} is not in {short(folder)} yet: fetching its small files from {config.url}")
                _fetch_manifest(store, name, folder / name)
            if seq_len is not None:
                for source in data.sources:
                    if source.dataset == name:
                        _fetch_packs(store, name, folder / name, source.name, seq_len)
    except OSError as error:  # of this side: those of the store are DataErrors by now
        raise DataError(
            f"the small files of the datasets in {config.url} can't be written to {error.filename or folder} "
            f"({error.strerror or error}). Free some space there, or type paths.data=DIR with a folder that you may "
            "write to"
        ) from error
    finally:
        store.close()


@contextmanager
def _fetching(folder: Path) -> Iterator[Path]:
    """An empty folder inside of `folder` for what is on its way; one process of all has it where files can be locked.

    What a killed process left there is removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{_FETCHING}.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            pass  # a file system without locks: several fetch, and each renames the same bytes
        else:
            for left in folder.glob(f"{_FETCHING}-*"):
                shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=f"{_FETCHING}-", dir=folder) as attempt:
            yield Path(attempt)


def _fetch_manifest(store: Store, name: str, folder: Path) -> None:
    """Manifest and tokenizer; the manifest last, so what has one is whole."""
    with _fetching(folder) as attempt:
        if (folder / MANIFEST_NAME).is_file():
            return  # another process was faster
        # Read as a file, with the messages of one; it must not have its name before all is there.
        write_atomic(attempt / MANIFEST_NAME, _read(store, f"{name}/{MANIFEST_NAME}").tobytes())
        vocabulary = load_manifest(attempt).vocabulary
        tokenizer = _read(store, f"{name}/{vocabulary.tokenizer_file}")
        if (found := sha256(tokenizer.data).hexdigest()) != vocabulary.tokenizer_sha256:
            where = store.where(f"{name}/{vocabulary.tokenizer_file}")
            raise DataError(
                f"{where} is damaged: its sha256 is {found}, the manifest says {vocabulary.tokenizer_sha256}. "
                "Copy the dataset to the store again"
            )
        target = folder / vocabulary.tokenizer_file
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(attempt / "tokenizer", tokenizer.tobytes())
        os.replace(attempt / "tokenizer", target)
        os.replace(attempt / MANIFEST_NAME, folder / MANIFEST_NAME)


def _fetch_packs(store: Store, name: str, folder: Path, source: str, seq_len: int) -> None:
    """The pack indexes of a source, all splits; whoever opens one compares its files with what its JSON file says."""
    local = folder / PACKS
    there = {path.name for path in local.glob(f"*{FACTS_SUFFIX}")}
    try:
        names = store.names(f"{name}/{PACKS}")
    except OSError as error:
        raise _unreachable(store, f"{name}/{PACKS}", error) from error
    for facts in names:
        base = facts.removesuffix(FACTS_SUFFIX)
        if base == facts or facts in there or not _is_pack(base, source, seq_len):
            continue
        arrays = [entry for entry in names if entry.startswith(f"{base}.") and entry != facts]
        with _fetching(folder) as attempt:
            if (local / facts).is_file():
                continue  # another process was faster
            for entry in [*arrays, facts]:
                write_parts(attempt / entry, _parts(store, f"{name}/{PACKS}/{entry}"))
            local.mkdir(exist_ok=True)
            for entry in [*arrays, facts]:
                os.replace(attempt / entry, local / entry)


def _parts(store: Store, path: str) -> Iterator[memoryview]:
    """A file of the store, piece by piece."""
    try:
        size = store.size(path)
        for start in range(0, size, _PART_BYTES):
            yield store.read(path, start, min(_PART_BYTES, size - start)).data
    except OSError as error:
        raise _unreachable(store, path, error) from error


def _is_pack(base: str, source: str, seq_len: int) -> bool:
    """Whether a name is `<source>-<split>-<seq_len>`."""
    split = base.removeprefix(f"{source}-").removesuffix(f"-{seq_len}")
    return base == f"{source}-{split}-{seq_len}" and "-" not in split


def _read(store: Store, path: str) -> Bytes:
    try:
        return store.read(path)
    except OSError as error:
        raise _unreachable(store, path, error) from error


def _unreachable(store: Store, path: str, error: OSError) -> DataError:
    said = error.strerror or str(error)
    return DataError(
        f"{store.where(path)} can't be read ({said}). Put the dataset there, point loader.store.url to where it is, "
        "set the store's credentials in the environment, or type loader=default and give paths.data with the shards"
    )


def is_remote(folder: Path, config: StoreConfig | None) -> bool:
    """Whether the shards of the dataset version in `folder` are read from the store: local ones win."""
    return config is not None and not (folder / SHARDS).is_dir()


def remote_fault(folder: Path, manifest: Manifest, config: StoreConfig) -> str | None:
    """What is wrong with the first shard in the store, by its size alone; None if it is as the manifest says."""
    store, shard = FsspecStore(config.url, config.options, _TIMEOUT_S), manifest.shards[0]
    path = f"{folder.name}/{shard.path}"
    try:
        size = store.size(path)
    except OSError as error:
        return f"{store.where(path)}: {error.strerror or error}"
    finally:
        store.close()
    if size != shard.size_bytes:
        return f"{store.where(path)} has {size} bytes, the manifest says {shard.size_bytes}"
    return None
