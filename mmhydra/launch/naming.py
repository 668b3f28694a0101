"""The run id of a config: known as soon as its data and its initial weights are at hand."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from mmhydra.checkpoint.awaiting import Digests, will_hold
from mmhydra.checkpoint.lineage import require_going_on
from mmhydra.checkpoint.stamp import STAMP, read_stamp
from mmhydra.checkpoint.verify import held, require_same_weights
from mmhydra.config.schema import RunConfig
from mmhydra.data.datasets import absent, digests, load
from mmhydra.data.shards.manifest import Manifest
from mmhydra.run.identity import Identity, StartedFrom, identify


def name_run(
    config: RunConfig,
    manifests: Mapping[str, Manifest],
    of_section: Callable[[BaseModel], dict[str, Any]] | None = None,
    parent: RunConfig | None = None,
) -> Identity:
    """The identity of a run; `of_section` as in `identify`.

    With `checkpoint.awaits`, `parent` is the config of the run that is to save what this one starts from; None for
    the config that it was frozen with.

    Raises UserError for a checkpoint to start from that does not fit, or will not.
    """
    checkpoint, own = config.checkpoint, digests(manifests)
    data = {name: Digests(own[name], manifest.vocabulary.digest) for name, manifest in manifests.items()}
    return identify(
        config,
        own,
        _started_from(checkpoint.init_from, config, data, parent, goes_on=False),
        _started_from(checkpoint.extend_from, config, data, parent, goes_on=True),
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
    if config.checkpoint.awaits:  # what the awaited run will save follows from its data as well
        return
    for start in (config.checkpoint.init_from, config.checkpoint.extend_from):
        if start is not None:
            read_stamp(Path(start))


def _started_from(
    path: str | None,
    config: RunConfig,
    data: Mapping[str, Digests],
    parent: RunConfig | None,
    *,
    goes_on: bool,
) -> StartedFrom:
    """Initial weights are identity by what they are, not by where they lie; awaited ones by the run that makes them.

    `data` are the config's own datasets. `goes_on`: optimizer, step and stream are taken as well.
    """
    if path is None:
        return None
    folder, awaits = Path(path), config.checkpoint.awaits
    if awaits:
        same_folder = parent is not None and parent.paths.data == config.paths.data
        found = will_hold(folder, parent, data if same_folder else {})
    else:
        found = held(folder)
    require_same_weights(found, config, {name: one.vocabulary for name, one in data.items()})
    if goes_on:
        require_going_on(found, config, {name: one.manifest for name, one in data.items()})
    if awaits:
        return {"run": folder.parent.parent.name, "step": found.step}
    return hashlib.sha256((folder / STAMP).read_bytes()).hexdigest()
