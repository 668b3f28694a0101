"""A small demo dataset, built once, and helpers to make tiny datasets by hand."""

import gc
import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset

from mmhydra.data.demo import build_demo
from mmhydra.data.manifest import Manifest, Source, Vocabulary, write_manifest
from mmhydra.data.shard_writer import DocumentInfo, ShardWriter

DEMO_SETTINGS = {"vocab_size": 512, "corpus_mb": 0.6, "heldout_fraction": 0.2, "shard_mb": 0.25}


@dataclass(frozen=True)
class Built:
    folder: Path
    manifest: Manifest
    settings: dict[str, float] = field(default_factory=dict)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The demo at 0.6 MB; tests must not write into its folder."""
    folder = tmp_path_factory.mktemp("demo") / "v1"
    return Built(folder, build_demo(folder, **DEMO_SETTINGS, on_progress=lambda line: None), DEMO_SETTINGS)


def info(name: str, source: str = "web") -> DocumentInfo:
    return DocumentInfo(name, source, f"file:///{name}", ("text",), "CC0-1.0", "en")


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., Built]:
    """Write documents (lists of ids; the end-of-document id 0 is added) as source "web", split "train"."""

    def make(documents: Sequence[Sequence[int]], vocab_size: int = 100, max_bytes: int = 10**6) -> Built:
        folder = tmp_path / "made"
        with ShardWriter(folder, "web", "train", vocab_size=vocab_size, eod_id=0, max_bytes=max_bytes) as writer:
            for number, document in enumerate(documents):
                writer.write(np.array([*document, 0]), info(f"d{number}"))
        manifest = Manifest(
            dataset="made",
            version="v1",
            builder={},
            vocabulary=Vocabulary(
                size=vocab_size,
                digest=hashlib.sha256(b"{}").hexdigest(),
                eod_id=0,
                tokenizer_file="tokenizer.json",
            ),
            sources=(Source(name="web", license="CC0-1.0", description="", languages=("en",), tokens_per_modality={}),),
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


@pytest.fixture
def row() -> Callable[[Sequence[Sequence[int]]], np.ndarray]:
    """All documents end to end, each closed by id 0: what TokenShards must read."""
    return lambda documents: np.array([i for document in documents for i in [*document, 0]], dtype=np.int64)
