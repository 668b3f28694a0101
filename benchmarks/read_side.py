"""What reading packed sequences costs: packing, cutting, sequences of 8192, and the check of chunks.

    python benchmarks/read_side.py FOLDER

FOLDER gets about 1 GB of shards the first time; later calls read them again.
"""

import sys
import time
from pathlib import Path

import numpy as np

from mmhydra.data.packing.pack import first_fit, pack
from mmhydra.data.packing.sequences import PackedSequences
from mmhydra.data.shards.document import Document, Segment, text_document
from mmhydra.data.shards.manifest import Manifest, Source, Vocabulary, load_manifest, write_manifest
from mmhydra.data.shards.reader import TokenShards
from mmhydra.data.shards.writer import DocumentInfo, ShardWriter

SEQ_LEN, VOCAB_SIZE, TOKENS = 8192, 200_000, 250_000_000


def main() -> None:
    """Prints a table."""
    folder = Path(sys.argv[1])
    if not (folder / "manifest.json").is_file():
        build(folder)
    manifest = load_manifest(folder)
    for source in manifest.sources:
        measure(folder, manifest, source.name)
    needs = np.minimum(np.random.default_rng(0).lognormal(6.5, 1.2, 2_000_000).astype(int) + 1, SEQ_LEN)
    began = time.process_time()
    first_fit(needs, SEQ_LEN)
    print(f"first fit of {len(needs):,} pieces: {(time.process_time() - began) / len(needs) * 1e6:.2f} us a piece")


def build(folder: Path) -> None:
    """Texts of log-normal length, and speech of 75 frames of 8 ids a second between marks."""
    draw = np.random.default_rng(0)
    shards = []
    for source in ("texts", "speech"):
        began, written = time.process_time(), 0
        with ShardWriter(folder, source, "train", vocab_size=VOCAB_SIZE, eod_id=0, max_bytes=200_000_000) as writer:
            info = DocumentInfo("d", source, "file:///d", ("text",), "CC0-1.0", "en", record={"title": "d"})
            while written < TOKENS // 2:
                size = int(draw.lognormal(6.5, 1.2)) + 1
                document = text_document(draw.integers(1, VOCAB_SIZE, size), 0) if source == "texts" else speech(draw)
                writer.write(document, info)
                written += len(document.ids)
        took = time.process_time() - began
        print(f"{source}: written at {sum(s.size_bytes for s in writer.shards) / took / 1e6:.0f} MB/s")
        shards += writer.shards
    zero = "0" * 64
    vocabulary = Vocabulary(
        size=VOCAB_SIZE, digest=zero, layout_digest=zero, layout={}, eod_id=0, tokenizer_file="t", tokenizer_sha256=zero
    )
    sources = tuple(Source(name=name, description="", modality="text") for name in ("texts", "speech"))
    made = {"dataset": "bench", "builder": {}, "unigram_entropy_nats": 1.0, "codecs": {}}
    write_manifest(folder, Manifest(vocabulary=vocabulary, sources=sources, shards=tuple(shards), **made))


def speech(draw: np.random.Generator) -> Document:
    """2 to 60 seconds, and what is said."""
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


def measure(folder: Path, manifest: Manifest, source: str) -> None:
    """Packs a source and reads all of it once cold (chunks are hashed) and once warm."""
    shards = TokenShards(folder, manifest, source, "train")
    began = time.process_time()
    packed = pack(shards, SEQ_LEN)
    took = time.process_time() - began
    print(
        f"{source}: {shards.num_documents:,} documents packed at {took / shards.num_documents * 1e6:.2f} us each, "
        f"{len(packed.pieces) / packed.num_sequences:.1f} pieces a sequence, {packed.padding_share:.2%} padding"
    )
    for what in ("first", "second"):
        found = PackedSequences(shards, packed, 0)
        began = time.process_time()
        for k in range(len(found)):
            found[k]
        took = time.process_time() - began
        rate = len(found) * SEQ_LEN / took / 1e6
        print(f"  {what} pass: {took / len(found) * 1e6:.0f} us a sequence of {SEQ_LEN}, {rate:.0f} million tokens/s")


if __name__ == "__main__":
    main()
