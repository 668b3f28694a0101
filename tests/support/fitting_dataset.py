"""Datasets of random ids that a config accepts: its sources, its vocabulary, both splits. No builder, no codecs."""

import hashlib
from pathlib import Path

import numpy as np

from mmhydra.config.schema import RunConfig
from mmhydra.data.shards.document import text_document
from mmhydra.data.shards.manifest import Manifest, Source, Vocabulary, write_manifest
from mmhydra.data.shards.writer import DocumentInfo, ShardWriter
from mmhydra.data.vocabulary import Vocabulary as Layout

EMPTY = hashlib.sha256(b"{}").hexdigest()


def write_fitting(config: RunConfig, num_documents: int = 3, num_ids: int = 400) -> None:
    """Writes each dataset version that a config names below its data folder; two shards a source."""
    for dataset in config.data.datasets:
        folder = Path(config.paths.data) / dataset
        layout = Layout.of(config.tokens)
        rng = np.random.default_rng(0)
        shards = []
        for source in config.data.sources:
            for split in ("train", "heldout"):
                with ShardWriter(
                    folder, source.name, split, vocab_size=layout.size, eod_id=layout.eod_id, max_bytes=4000
                ) as writer:
                    for number in range(num_documents):
                        ids = rng.integers(0, 256, num_ids)
                        name = f"{source.name}-{split}-{number}"
                        info = DocumentInfo(name, source.name, "", ("text",), "CC0-1.0", "en")
                        writer.write(text_document(ids, layout.eod_id), info)
                shards += writer.shards
        (folder / "tokenizer.json").write_bytes(b"{}")
        manifest = Manifest(
            dataset=dataset,
            builder={},
            vocabulary=vocabulary_of(config),
            sources=tuple(Source(name=s.name, description="", modality=s.modality) for s in config.data.sources),
            shards=tuple(shards),
            unigram_entropy_nats=5.5,
            codecs={},
        )
        write_manifest(folder, manifest)


def vocabulary_of(config: RunConfig) -> Vocabulary:
    """What the manifest of a dataset for a config says of its vocabulary."""
    layout = Layout.of(config.tokens)
    return Vocabulary(
        size=layout.size,
        digest="2" * 64,
        layout_digest=layout.layout_digest,
        layout=layout.layout,
        eod_id=layout.eod_id,
        tokenizer_file="tokenizer.json",
        tokenizer_sha256=EMPTY,
    )
