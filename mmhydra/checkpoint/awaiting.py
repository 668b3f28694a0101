"""A checkpoint that is not there yet: what it will hold follows from the config of the run that is to save it.

So a run that starts from it is checked and named before either of them is submitted.
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from mmhydra.checkpoint.keeper import steps_to_remove
from mmhydra.checkpoint.stamp import CheckpointError, step_of
from mmhydra.checkpoint.verify import Held
from mmhydra.config.checkpoint import awaited
from mmhydra.config.schema import RunConfig
from mmhydra.data.shards.manifest import MANIFEST_NAME, load_manifest
from mmhydra.data.stream import ALGORITHM
from mmhydra.errors import UserError
from mmhydra.run.directory import RunDirectory, newest_frozen

_MANY = 5  # steps in one message


class Digests(NamedTuple):
    """Those of one dataset version."""

    manifest: str
    vocabulary: str


def will_hold(folder: Path, parent: RunConfig | None, known: Mapping[str, Digests]) -> Held:
    """What a checkpoint folder of a run will hold, whether or not it is there by now.

    `parent` is the config of that run, None for the one of its newest frozen attempt. `known` are the datasets below
    the data folder of `parent` that are read already.

    Raises CheckpointError for a run that is not there, or that will not have the checkpoint at its end, and UserError
    for data of the parent that can't be read.
    """
    named = awaited(str(folder))
    if named is None:
        raise CheckpointError(
            f"{folder} is awaited, and no run saves a checkpoint there; name "
            "OUTPUTS/NAME/RUN_ID/checkpoints/step-NNNNNNNN"
        )
    found = _of_run(folder, named.step) if parent is None else _of_config(folder, named.step, parent, known)
    _require_kept(found)
    return found


def _of_run(folder: Path, step: int) -> Held:
    """By what the run was frozen with last."""
    run = RunDirectory(folder.parent.parent)
    try:
        attempt = newest_frozen(run)
        config, _ = attempt.read_frozen()
        provenance = attempt.provenance()
        manifests, vocabulary = provenance["manifests"], provenance["vocabulary"]
    except UserError as error:
        raise CheckpointError(f"{folder} is awaited, and nothing says what it will hold: {error}") from error
    except KeyError as error:
        raise CheckpointError(f"{folder} is awaited, and provenance.json of its run lacks {error}") from error
    return Held(folder, step, config, manifests, vocabulary, provenance.get("stream_algorithm", 1))


def _of_config(folder: Path, step: int, parent: RunConfig, known: Mapping[str, Digests]) -> Held:
    """By what the run will be frozen with: this code, and the data that are there now."""
    data = Path(parent.paths.data)
    digests = {name: known.get(name) or _digests(data / name) for name in parent.data.datasets}
    manifests = {name: found.manifest for name, found in digests.items()}
    vocabulary = {name: found.vocabulary for name, found in digests.items()}
    return Held(folder, step, parent, manifests, vocabulary, ALGORITHM)


def _digests(dataset: Path) -> Digests:
    try:
        modified_ns = (dataset / MANIFEST_NAME).stat().st_mtime_ns
    except OSError:
        modified_ns = 0  # reading it says what is wrong
    return _read_digests(dataset, modified_ns)


@lru_cache(maxsize=256)
def _read_digests(dataset: Path, modified_ns: int) -> Digests:
    """Many children have parents with the same data."""
    manifest = load_manifest(dataset)
    return Digests(manifest.digest, manifest.vocabulary.digest)


def kept_steps(config: RunConfig) -> list[int]:
    """Steps whose checkpoints a run has at its end, the oldest first, if nothing makes it save at others as well."""
    checkpoint, last = config.checkpoint, config.training.num_steps
    if not checkpoint.enabled or config.evaluates:
        return []
    before = step_of(Path(checkpoint.extend_from)) if checkpoint.extend_from is not None else None
    first = ((before or 0) // checkpoint.interval + 1) * checkpoint.interval
    saved = [*range(first, last, checkpoint.interval), last]
    removed = set(steps_to_remove(saved, config))
    return [step for step in saved if step not in removed]


def _require_kept(found: Held) -> None:
    kept = kept_steps(found.config)
    if found.step in kept:
        return
    if not kept:
        raise CheckpointError(
            f"{found.folder} is awaited, and its run saves no checkpoint (an evaluation, or checkpoint.enabled=false)"
        )
    newest = ", ".join(str(step) for step in kept[-_MANY:])
    raise CheckpointError(
        f"{found.folder} is awaited, and its run does not have step {found.step} at its end: the last ones that it "
        f"keeps are {newest} (checkpoint.interval={found.config.checkpoint.interval}, "
        f"checkpoint.keep_latest={found.config.checkpoint.keep_latest}); name one of them"
    )
