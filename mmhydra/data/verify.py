"""Are the files of a dataset what its manifest says? Whole shards are hashed, so this takes as long as reading them."""

import hashlib
import io
from pathlib import Path

import numpy as np

from mmhydra.data.index import INDEX_SUFFIX, ShardError, build_index
from mmhydra.data.manifest import Manifest, Shard


def verify_shards(folder: Path, manifest: Manifest) -> list[str]:
    """Hash every shard and make its index again. Returns one line for each faulty one, else []."""
    lines = (_shard_fault(folder, shard, manifest.vocabulary.size) for shard in manifest.shards)
    return [line for line in lines if line]


def verify_vocabulary(folder: Path, manifest: Manifest) -> list[str]:
    """Hash the tokenizer's file. Returns one line when it is missing or not the one of the shards."""
    name, digest = manifest.vocabulary.tokenizer_file, manifest.vocabulary.digest
    try:
        found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    except OSError as error:
        return [f"{name}: cannot read it ({error.strerror})"]
    return [] if found == digest else [f"{name}: sha256 is {found}, the manifest says {digest}"]


def _shard_fault(folder: Path, shard: Shard, vocab_size: int) -> str | None:
    path = folder / shard.path
    try:
        if (size := path.stat().st_size) != shard.size_bytes:
            return f"{shard.path}: {size} bytes, the manifest says {shard.size_bytes}"
        with path.open("rb") as file:
            if (found := hashlib.file_digest(file, "sha256").hexdigest()) != shard.sha256:
                return f"{shard.path}: sha256 is {found}, the manifest says {shard.sha256}"
            file.seek(0)
            index = build_index(file, shard.path, vocab_size)
        buffer = io.BytesIO()
        np.save(buffer, index)
        if path.with_name(path.name + INDEX_SUFFIX).read_bytes() != buffer.getvalue():
            return f"{shard.path}{INDEX_SUFFIX}: not the index of this shard"
    except OSError as error:
        return f"{shard.path}: cannot read it or its index ({error.strerror}: {error.filename})"
    except ShardError as error:
        return str(error)
    if (len(index), int(index[:, 1].sum())) != (shard.num_documents, shard.num_tokens):
        return (
            f"{shard.path}: {len(index)} documents and {index[:, 1].sum()} tokens, "
            f"the manifest says {shard.num_documents} and {shard.num_tokens}"
        )
    return None
