"""Are the files of a dataset what its manifest says? Whole shards are read, so this takes as long as reading them."""

import hashlib
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import accumulate
from pathlib import Path

from mmhydra.data.packing.kept import pack_faults
from mmhydra.data.shards.index import SIDECAR_SUFFIXES, Sidecars, digest_of, scan
from mmhydra.data.shards.manifest import Manifest, Shard
from mmhydra.data.storage.chunks import ChunkHasher
from mmhydra.data.storage.faults import ShardError
from mmhydra.errors import UserError
from mmhydra.files import sha256_of_file

_BLOCK = 1 << 20  # bytes

_Task = tuple[Path, Shard, int, int]  # folder, shard, its vocabulary's size, its first document's number


def verify(
    folder: Path,
    manifest: Manifest,
    *,
    num_processes: int = 1,
    on_progress: Callable[[Shard], None] = lambda shard: None,
) -> list[str]:
    """Check everything that a manifest speaks of, and the pack indexes. Returns one line for each fault, else [].

    `on_progress` is called for each shard that is done.
    """
    faults = verify_shards(folder, manifest, num_processes=num_processes, on_progress=on_progress)
    # Pack indexes are made from the shards, so wrong shards would blame them.
    return [*verify_vocabulary(folder, manifest), *faults, *([] if faults else verify_packs(folder, manifest))]


def verify_shards(
    folder: Path,
    manifest: Manifest,
    *,
    num_processes: int = 1,
    on_progress: Callable[[Shard], None] = lambda shard: None,
) -> list[str]:
    """Hash every shard and make what lies beside it again. Returns one line for each faulty one, else []."""
    tasks = list(_tasks(folder, manifest))
    lines = []
    for task, line in zip(tasks, _run(tasks, num_processes), strict=True):
        on_progress(task[1])
        if line:
            lines.append(line)
    return lines


def verify_vocabulary(folder: Path, manifest: Manifest) -> list[str]:
    """Hash the tokenizer's file. Returns one line when it is missing or not the one of the shards."""
    name, digest = manifest.vocabulary.tokenizer_file, manifest.vocabulary.tokenizer_sha256
    try:
        found = sha256_of_file(folder / name)
    except OSError as error:
        return [f"{name}: cannot read it ({error.strerror})"]
    return [] if found == digest else [f"{name}: sha256 is {found}, the manifest says {digest}"]


def verify_packs(folder: Path, manifest: Manifest) -> list[str]:
    """Pack every source again for which there is a pack index. Returns one line for each that is another."""
    try:
        return pack_faults(folder, manifest)
    except UserError as error:
        return [str(error)]


def _tasks(folder: Path, manifest: Manifest) -> Iterator[_Task]:
    for source, split in dict.fromkeys((shard.source, shard.split) for shard in manifest.shards):
        shards = manifest.shards_of(source, split)
        firsts = accumulate((shard.num_documents for shard in shards), initial=0)
        for shard, first in zip(shards, firsts, strict=False):
            yield folder, shard, manifest.vocabulary.size, first


def _run(tasks: list[_Task], num_processes: int) -> Iterable[str | None]:
    if num_processes == 1 or len(tasks) < 2:
        yield from map(_shard_fault, tasks)
        return
    # Not forked: the caller may hold threads and locks.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(num_processes, len(tasks)), context) as pool:
        yield from pool.map(_shard_fault, tasks)


def _shard_fault(task: _Task) -> str | None:
    folder, shard, vocab_size, first = task
    path = folder / shard.path
    try:
        if (size := path.stat().st_size) != shard.size_bytes:
            return f"{shard.path}: {size} bytes, the manifest says {shard.size_bytes}"
        hashed, chunks = hashlib.sha256(), ChunkHasher(shard.chunk_bytes)
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                hashed.update(block)
                chunks.update(block)
            if (found := hashed.hexdigest()) != shard.sha256:
                return f"{shard.path}: sha256 is {found}, the manifest says {shard.sha256}"
            file.seek(0)
            index, segments = scan(file, shard.path, vocab_size, first)
        files = Sidecars(index, segments, chunks.table()).files()
        wrong = [s for s in SIDECAR_SUFFIXES if path.with_name(path.name + s).read_bytes() != files[s]]
    except OSError as error:
        return f"{shard.path}: cannot read it or what lies beside it ({error.strerror}: {error.filename})"
    except ShardError as error:
        return str(error)
    if wrong:
        return f"{', '.join(shard.path + suffix for suffix in wrong)}: not what follows from this shard"
    if (len(index), int(index[:, 1].sum())) != (shard.num_documents, shard.num_tokens):
        return (
            f"{shard.path}: {len(index)} documents and {index[:, 1].sum()} tokens, "
            f"the manifest says {shard.num_documents} and {shard.num_tokens}"
        )
    if digest_of(files.values()) != shard.sidecars_xxh3:
        return f"{shard.path}: the manifest names another hash of what lies beside it"
    return None
