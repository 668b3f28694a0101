"""The dataset versions of a run, built where they can be."""

from collections.abc import Callable
from pathlib import Path

from mmhydra.config.data import Data
from mmhydra.config.tokens import Tokens
from mmhydra.data.datasets import load
from mmhydra.data.demo import build_demo
from mmhydra.data.manifest import Manifest


def prepare(data: Data, tokens: Tokens, folder: Path, on_progress: Callable[[str], None]) -> dict[str, Manifest]:
    """The manifests of all dataset versions by name; the demo is built if it is not there.

    Raises DataError that lists everything that is missing or does not fit the vocabulary.
    """
    if data.builder is not None:
        for dataset in data.datasets:
            build_demo(
                folder / dataset,
                vocab_size=tokens.used_size,
                corpus_mb=data.builder.corpus_mb,
                heldout_fraction=data.builder.heldout_fraction,
                shard_mb=data.builder.shard_mb,
                on_progress=on_progress,
            )
    return load(data, tokens, folder)
