"""Shards for the benchmarks of the stream: two sources of random ids, and a source of very many small shards."""

import sys
from pathlib import Path

import numpy as np

from mmhydra.config.data import Data, Source
from mmhydra.data.shards.document import Document, Segment, text_document
from mmhydra.data.shards.manifest import Manifest, Shard, Vocabulary, load_manifest, write_manifest
from mmhydra.data.shards.manifest import Source as ShardSource
from mmhydra.data.shards.writer import DocumentInfo, ShardWriter

SEQ_LEN, VOCAB_SIZE = 8192, 200_000
TOKENS = 125_000_000  # of each source
SOURCES = ("texts", "speech")
NUM_SHARDS = 10_000
DATASET, MANY_DATASET = "bench", "many"


def build(folder: Path) -> Manifest:
    """`folder`/bench with 1.2 GB of shards, made if it is not there.

    Texts of log-normal length (median 670 ids), and speech of 75 frames of 8 ids a second between marks.
    """
    if (folder / DATASET / "manifest.json").is_file():
        return load_manifest(folder / DATASET)
    draw = np.random.default_rng(0)
    shards: list[Shard] = []
    for source in SOURCES:
        print(f"writing {TOKENS:,} ids of {source}", file=sys.stderr)
        written = 0
        with _writer(folder / DATASET, source, 200_000_000) as writer:
            while written < TOKENS:
                size = int(draw.lognormal(6.5, 1.2)) + 1
                document = text_document(draw.integers(1, VOCAB_SIZE, size), 0) if source == "texts" else _speech(draw)
                writer.write(document, _info(source))
                written += len(document.ids)
        shards += writer.shards
    return _keep(folder / DATASET, SOURCES, shards)


def build_many(folder: Path) -> Manifest:
    """`folder`/many with 10,000 shards of about 30 kB, made if it is not there."""
    if (folder / MANY_DATASET / "manifest.json").is_file():
        return load_manifest(folder / MANY_DATASET)
    print(f"writing {NUM_SHARDS:,} shards", file=sys.stderr)
    draw = np.random.default_rng(0)
    shards: list[Shard] = []
    num_documents = 0
    while len(shards) < NUM_SHARDS:
        with _writer(folder / MANY_DATASET, "texts", None, len(shards), num_documents) as writer:
            for size in draw.integers(500, 2500, 4).tolist():
                writer.write(text_document(draw.integers(1, VOCAB_SIZE, size), 0), _info("texts"))
                num_documents += 1
        shards += writer.shards
    return _keep(folder / MANY_DATASET, ("texts",), shards)


def data(dataset: str, manifest: Manifest) -> Data:
    """The `data` section that reads all sources, each with as large a share as it has ids."""
    ids = {name: sum(shard.num_tokens for shard in manifest.shards if shard.source == name) for name in SOURCES}
    sources = [
        Source(name=name, dataset=dataset, modality="text", weight=float(count), max_epochs=None)
        for name, count in ids.items()
        if count
    ]
    return Data(
        name=dataset,
        sources=sources,
        planned_tokens=None,
        max_epochs=None,
        schedule=[],
        shuffle=True,
        window_chunks=8,
        builder=None,
    )


def _writer(
    folder: Path, source: str, max_bytes: int | None, first_shard: int = 0, first_document: int = 0
) -> ShardWriter:
    return ShardWriter(
        folder,
        source,
        "train",
        vocab_size=VOCAB_SIZE,
        eod_id=0,
        max_bytes=max_bytes,
        first_shard=first_shard,
        first_document=first_document,
    )


def _info(source: str) -> DocumentInfo:
    return DocumentInfo("d", source, "file:///d", ("text",), "CC0-1.0", "en", record={"title": "d"})


def _speech(draw: np.random.Generator) -> Document:
    """2 to 60 seconds without loss, and what is said."""
    frames, words = int(draw.integers(150, 4500)), int(draw.integers(10, 200))
    segments, place = [], 0
    for modality, length, unit, opener in (
        ("special", 1, 1, -1),
        ("audio", frames * 8, 8, 7),
        ("special", 1, 1, -1),
        ("text", words, 1, -1),
        ("special", 1, 1, -1),
    ):
        segments.append(Segment(modality, place, length, unit, modality != "audio", opener))
        place += length
    ids = draw.integers(1, VOCAB_SIZE, place)
    ids[-1] = 0
    return Document(ids, tuple(segments))


def _keep(folder: Path, names: tuple[str, ...], shards: list[Shard]) -> Manifest:
    zero = "0" * 64
    vocabulary = Vocabulary(
        size=VOCAB_SIZE, digest=zero, layout_digest=zero, layout={}, eod_id=0, tokenizer_file="t", tokenizer_sha256=zero
    )
    manifest = Manifest(
        dataset=folder.name,
        builder={},
        vocabulary=vocabulary,
        sources=tuple(ShardSource(name=name, description="", modality="text") for name in names),
        shards=tuple(shards),
        unigram_entropy_nats=1.0,
        codecs={},
    )
    write_manifest(folder, manifest)
    return manifest
