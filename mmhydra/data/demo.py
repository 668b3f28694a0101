"""Builds the demo dataset from text that every machine has: the running Python's standard library."""

import hashlib
import math
import platform
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tokenizers
from numpy.typing import NDArray
from pydantic import JsonValue
from tokenizers import Tokenizer

from mmhydra.data.corpus import Module, choose_modules
from mmhydra.data.dataset_folder import DatasetError, build_once
from mmhydra.data.manifest import Manifest, Shard, Source, Vocabulary, write_manifest
from mmhydra.data.shard_writer import DocumentInfo, ShardWriter
from mmhydra.data.tokenizer import EOD_ID, MIN_VOCAB_SIZE, encode_documents, train_tokenizer
from mmhydra.files import write_atomic

BUILDER_VERSION = 1  # raise it when the same settings would give other shards
TRAIN, HELDOUT = "train", "heldout"
CODE, DOCS = "stdlib_code", "stdlib_docs"
LICENSE = "PSF-2.0"
TOKENIZER_FILE = "tokenizer.json"
MODALITY = "text"
SOURCES: dict[str, tuple[str, str]] = {  # name: (language, description)
    CODE: ("python", "source files of the Python standard library, one document per module"),
    DOCS: ("en", "docstrings of the Python standard library, one document per module"),
}


def build_demo(
    folder: Path,
    *,
    vocab_size: int,
    corpus_mb: float,
    heldout_fraction: float,
    shard_mb: float,
    on_progress: Callable[[str], None],
) -> Manifest:
    """Build the demo dataset in `folder`, or return the one of the same settings that is there.

    `corpus_mb` and `shard_mb` are in 10^6 bytes of text and of tar file. `heldout_fraction` of the modules,
    chosen by their paths, goes to the split "heldout" with both code and docstrings; the rest is "train", and
    the tokenizer is trained on that alone. The result depends on the settings and the Python version only.
    `on_progress` gets one line at each stage.

    Raises UserError for a wrong setting, an unusable folder, or a corpus too small for the vocabulary or a
    split.
    """
    settings: dict[str, JsonValue] = {
        "builder_version": BUILDER_VERSION,
        "vocab_size": vocab_size,
        "corpus_mb": float(corpus_mb),
        "heldout_fraction": float(heldout_fraction),
        "shard_mb": float(shard_mb),
    }
    if vocab_size < MIN_VOCAB_SIZE:
        raise DatasetError(f"vocab_size of the demo is at least {MIN_VOCAB_SIZE}, not {vocab_size}")
    if not (0 < corpus_mb < math.inf and 0 < shard_mb < math.inf):
        raise DatasetError(f"corpus_mb and shard_mb of the demo are above 0, not {corpus_mb} and {shard_mb}")
    if not 0 < heldout_fraction < 1:
        raise DatasetError(f"heldout_fraction of the demo is between 0 and 1, not {heldout_fraction}")

    def build(building: Path) -> Manifest:
        on_progress(f"reading {corpus_mb:g} MB of the standard library of Python {platform.python_version()}")
        splits = _split(choose_modules(int(corpus_mb * 1e6)), heldout_fraction, corpus_mb)
        on_progress(f"training a tokenizer of {vocab_size} ids on {len(splits[TRAIN])} modules")
        tokenizer = train_tokenizer(_texts(splits[TRAIN]), vocab_size)
        text = tokenizer.to_str().encode()
        write_atomic(building / TOKENIZER_FILE, text)
        on_progress("writing shards")
        vocabulary = Vocabulary(
            size=vocab_size,
            digest=hashlib.sha256(text).hexdigest(),
            eod_id=EOD_ID,
            tokenizer_file=TOKENIZER_FILE,
        )
        manifest = _write(building, settings, splits, tokenizer, vocabulary, int(shard_mb * 1e6))
        write_manifest(building, manifest)
        return manifest

    return build_once(folder, settings, build, on_progress)


def _split(modules: Sequence[Module], heldout_fraction: float, corpus_mb: float) -> dict[str, list[Module]]:
    splits: dict[str, list[Module]] = {TRAIN: [], HELDOUT: []}
    for module in modules:
        splits[HELDOUT if module.held_out(heldout_fraction) else TRAIN].append(module)
    for split, members in splits.items():
        if not any(module.docs for module in members):
            raise DatasetError(
                f"{corpus_mb:g} MB of the standard library leave no documented module for the split {split} "
                f"at heldout_fraction {heldout_fraction:g}; raise corpus_mb or change heldout_fraction"
            )
    return splits


def _texts(modules: Sequence[Module]) -> list[str]:
    return [text for module in modules for text in (module.code, module.docs) if text]


def _write(
    building: Path,
    settings: dict[str, JsonValue],
    splits: dict[str, list[Module]],
    tokenizer: Tokenizer,
    vocabulary: Vocabulary,
    shard_bytes: int,
) -> Manifest:
    counts = np.zeros(vocabulary.size, np.int64)  # of the train split's ids
    shards: list[Shard] = []
    for source in SOURCES:
        for split, modules in splits.items():
            texts = {module.path: module.code if source == CODE else module.docs for module in modules}
            texts = {path: text for path, text in texts.items() if text}
            with ShardWriter(
                building, source, split, vocab_size=vocabulary.size, eod_id=EOD_ID, max_bytes=shard_bytes
            ) as writer:
                documents = encode_documents(tokenizer, list(texts.values()))
                for path, tokens in zip(texts, documents, strict=True):
                    writer.write(tokens, _info(source, path))
                    if split == TRAIN:
                        counts += np.bincount(tokens, minlength=vocabulary.size)
            shards += writer.shards
    return Manifest(
        dataset="demo",
        version=f"v{BUILDER_VERSION}",
        builder={
            "name": "demo",
            "settings": settings,
            "python": platform.python_version(),
            "tokenizers": tokenizers.__version__,
        },
        vocabulary=vocabulary,
        sources=tuple(_source(name, shards) for name in SOURCES),
        shards=tuple(shards),
        unigram_entropy_nats=entropy_nats(counts),
        codecs={},
    )


def entropy_nats(counts: NDArray[np.int64]) -> float:
    """Entropy of the distribution of `counts` [n]: the loss of a model that knows only frequencies."""
    shares = counts[counts > 0] / counts.sum()
    # fsum rounds once, so the digest does not hang on the order in which this machine adds.
    return -math.fsum((shares * np.log(shares)).tolist())


def _source(name: str, shards: Sequence[Shard]) -> Source:
    language, description = SOURCES[name]
    tokens = sum(shard.num_tokens for shard in shards if (shard.source, shard.split) == (name, TRAIN))
    return Source(
        name=name,
        license=LICENSE,
        description=description,
        languages=(language,),
        tokens_per_modality={MODALITY: tokens},
    )


def _info(source: str, path: str) -> DocumentInfo:
    tag = platform.python_version()
    return DocumentInfo(
        unique_id=f"{source}/{path}",
        source=source,
        source_uri=f"https://github.com/python/cpython/blob/v{tag}/Lib/{path}",
        modalities=(MODALITY,),
        license=LICENSE,
        language=SOURCES[source][0],
    )
