"""The run id of a config: known as soon as its data and its initial weights are at hand."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from mmhydra.checkpoint.lineage import require_going_on
from mmhydra.checkpoint.stamp import STAMP, read_stamp
from mmhydra.checkpoint.verify import require_same_weights
from mmhydra.config.schema import RunConfig
from mmhydra.data.datasets import absent, digests, load
from mmhydra.data.shards.manifest import Manifest
from mmhydra.run.identity import Identity, identify


def name_run(
    config: RunConfig,
    manifests: Mapping[str, Manifest],
    of_section: Callable[[BaseModel], dict[str, Any]] | None = None,
) -> Identity:
    """The identity of a run; `of_section` as in `identify`.

    Raises UserError for a checkpoint to start from that does not fit.
    """
    vocabulary = {name: manifest.vocabulary.digest for name, manifest in manifests.items()}
    checkpoint = config.checkpoint
    return identify(
        config,
        digests(manifests),
        _stamp_sha256(checkpoint.init_from, config, vocabulary),
        _extended_sha256(config, manifests, vocabulary),
        of_section,
    )


def name_or_reason(config: RunConfig) -> str:
    """The run id, or `pending` and why: what a dry run says without building anything.

    Raises UserError for what a start would refuse: data or a checkpoint that is there and does not fit, or is none.
    """
    missing = absent(config.data, Path(config.paths.data))
    if missing:
        require_starts(config)
        place = f"{', '.join(missing)} is not in {config.paths.data}"
        return f"pending ({place}{'; the first start builds it' if config.data.builder else ''})"
    return name_run(config, load(config.data, config.tokens, Path(config.paths.data))).run_id


def require_starts(config: RunConfig) -> None:
    """What can be told of the checkpoints that a run starts from before its data is there. Raises CheckpointError."""
    for start in (config.checkpoint.init_from, config.checkpoint.extend_from):
        if start is not None:
            read_stamp(Path(start))


def _stamp_sha256(path: str | None, config: RunConfig, vocabulary: dict[str, str]) -> str | None:
    """The initial weights are identity by what they are, not by where they lie."""
    if path is None:
        return None
    folder = Path(path)
    require_same_weights(folder, config, vocabulary)
    return hashlib.sha256((folder / STAMP).read_bytes()).hexdigest()


def _extended_sha256(config: RunConfig, manifests: Mapping[str, Manifest], vocabulary: dict[str, str]) -> str | None:
    path = config.checkpoint.extend_from
    digest = _stamp_sha256(path, config, vocabulary)
    if path is not None:
        require_going_on(Path(path), config, digests(manifests))
    return digest
