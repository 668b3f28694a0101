"""Helpers to make tiny datasets by hand."""

import gc
import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import webdataset

from mmhydra.data.shards.document import Document, text_document
from mmhydra.data.shards.manifest import Manifest, Source, Vocabulary, write_manifest
from mmhydra.data.shards.writer import DocumentInfo, ShardWriter


@dataclass(frozen=True)
class Built:
    folder: Path
    manifest: Manifest


def info(name: str, source: str = "web") -> DocumentInfo:
    return DocumentInfo(name, source, f"file:///{name}", ("text",), "CC0-1.0", "en", "plain", {"title": name})


def as_document(document: Document | Sequence[int]) -> Document:
    """Ids as a text, closed by id 0."""
    return document if isinstance(document, Document) else text_document(document, 0)


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., Built]:
    """Write documents (or lists of ids; the end-of-document id 0 is added) as one source, split "train"."""

    def make(
        documents: Sequence[Document | Sequence[int]],
        vocab_size: int = 100,
        max_bytes: int = 10**6,
        chunk_bytes: int = 4096,
        name: str = "made",
        source: str = "web",
    ) -> Built:
        folder = tmp_path / name
        with ShardWriter(
            folder, source, "train", vocab_size=vocab_size, eod_id=0, max_bytes=max_bytes, chunk_bytes=chunk_bytes
        ) as writer:
            for number, document in enumerate(documents):
                writer.write(as_document(document), info(f"d{number}", source))
        empty = hashlib.sha256(b"{}").hexdigest()
        manifest = Manifest(
            dataset=name,
            builder={},
            vocabulary=Vocabulary(
                size=vocab_size,
                digest=empty,
                layout_digest=empty,
                layout={},
                eod_id=0,
                tokenizer_file="tokenizer.json",
                tokenizer_sha256=empty,
            ),
            sources=(Source(name=source, description="", modality="text"),),
            shards=tuple(writer.shards),
            unigram_entropy_nats=1.0,
            codecs={},
        )
        (folder / "tokenizer.json").write_bytes(b"{}")
        write_manifest(folder, manifest)
        return Built(folder, manifest)

    return make


@pytest.fixture
def read_with_webdataset() -> Callable[[Sequence[str]], list[dict[str, Any]]]:
    """All samples of the tars at these paths as webdataset itself decodes them."""

    def read(paths: Sequence[str]) -> list[dict[str, Any]]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # it leaves its tars to the garbage collector
            samples = list(webdataset.WebDataset(list(paths), shardshuffle=False).decode())
            gc.collect()
        return samples

    return read
