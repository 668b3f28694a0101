"""Is a checkpoint what its stamp says, and does it belong to this run? Every fault is listed, none repaired."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from mmhydra.checkpoint.stamp import (
    STAMP,
    CheckpointError,
    Stamp,
    file_names,
    hash_files,
    read_stamp,
    stamped_steps,
    step_folder,
    step_of,
)
from mmhydra.config.differences import Difference, differences
from mmhydra.config.frozen import FrozenConfigError, config_sha256, from_yaml
from mmhydra.config.schema import RunConfig
from mmhydra.run.identity import identity_fields


def faults(folder: Path) -> list[str]:
    """What is wrong with the files of a checkpoint: missing, changed, or not in the stamp. Empty if it is whole.

    Raises CheckpointError if there is no stamp to compare with.
    """
    stamp = read_stamp(folder)
    found = []
    if stamp.step != step_of(folder):
        found.append(f"the folder {folder.name} holds step {stamp.step}")
    names = set(file_names(folder))
    recorded = {file.name: file for file in stamp.files}
    found += [f"{name} is missing" for name in sorted(recorded.keys() - names)]
    found += [f"{name} is not in the stamp" for name in sorted(names - recorded.keys())]
    for file in hash_files(folder, recorded.keys() & names):
        expected = recorded[file.name]
        if file.size_bytes != expected.size_bytes:
            found.append(f"{file.name} has {file.size_bytes} bytes, the stamp says {expected.size_bytes}")
        elif file.sha256 != expected.sha256:
            found.append(f"{file.name} was changed: SHA-256 {file.sha256}, the stamp says {expected.sha256}")
    return found + config_faults(folder, stamp)


def config_faults(folder: Path, stamp: Stamp) -> list[str]:
    """What is wrong with config.yaml of a checkpoint that has one."""
    path = folder / "config.yaml"
    if not path.is_file():
        return []  # listed as missing already
    text = path.read_bytes()
    if config_sha256(text) != stamp.config_sha256:
        return [f"config.yaml is not the config that the stamp names ({stamp.config_sha256})"]
    try:
        from_yaml(text)
    except FrozenConfigError as error:
        return [f"config.yaml: {error}"]
    return []


def config_of(folder: Path) -> RunConfig:
    """The config that saved a checkpoint. Raises FrozenConfigError, or CheckpointError if it is missing."""
    try:
        return from_yaml((folder / "config.yaml").read_bytes())
    except OSError as error:
        raise CheckpointError(f"{folder / 'config.yaml'} can't be read: {error}") from error


def require_whole(folder: Path) -> Stamp:
    """The stamp of a checkpoint whose files are all as stamped. Raises CheckpointError with every fault."""
    found = faults(folder)
    if found:
        raise CheckpointError("\n".join([f"checkpoint {folder} is damaged:", *(f"  {fault}" for fault in found)]))
    return read_stamp(folder)


def require_same_run(folder: Path, config: RunConfig, manifests: Mapping[str, str]) -> None:
    """Refuses a checkpoint whose identity is not this run's. Raises CheckpointError with a field-by-field diff."""
    stamp = read_stamp(folder)
    there = {**identity_fields(config_of(folder)), "data_manifests": stamp.manifests}
    here = {**identity_fields(config), "data_manifests": dict(manifests)}
    _refuse(folder, differences(there, here), "another run made it")


class Held(NamedTuple):
    """What a checkpoint holds: by its stamp, or, while it is awaited, by the run that is to save it.

    `config` is that run's; `manifests` and `vocabulary` are digests by dataset.
    """

    folder: Path
    step: int
    config: RunConfig
    manifests: Mapping[str, str]
    vocabulary: Mapping[str, str]
    stream_algorithm: int


def held(folder: Path) -> Held:
    """What the stamp of a checkpoint says. Raises CheckpointError, or FrozenConfigError for its config."""
    stamp = read_stamp(folder)
    return Held(
        folder,
        stamp.step,
        config_of(folder),
        stamp.manifests,
        stamp.vocabulary,
        stream_algorithm=stamp.stream.algorithm,
    )


def require_same_weights(found: Held, config: RunConfig, vocabulary: Mapping[str, str]) -> None:
    """Refuses weights of another shape or vocabulary. Raises CheckpointError with a field-by-field diff."""
    there = {"model": identity_fields(found.config.model), "tokens": identity_fields(found.config.tokens)}
    here = {"model": identity_fields(config.model), "tokens": identity_fields(config.tokens)}
    # By value: another dataset of the same vocabulary is welcome, whatever it is called.
    there["vocabulary"] = {"digests": sorted(set(found.vocabulary.values()))}
    here["vocabulary"] = {"digests": sorted(set(vocabulary.values()))}
    _refuse(found.folder, differences(there, here), "its weights do not fit")


def _refuse(folder: Path, found: list[Difference], why: str) -> None:
    if found:
        lines = [f"  {difference}" for difference in found]
        raise CheckpointError(
            "\n".join([f"checkpoint {folder} is refused, {why} (in the checkpoint -> in this run):", *lines])
        )


def resolve(path: Path) -> Path:
    """A checkpoint folder from a path to one, to a run (its newest) or to a file inside.

    Raises CheckpointError that says what is there instead.
    """
    folder = path.parent if path.name == STAMP else path
    if step_of(folder) is not None:
        return folder
    for checkpoints in (folder / "checkpoints", folder):
        steps = stamped_steps(checkpoints)
        if steps:
            return step_folder(checkpoints, steps[-1])
    what = "has no stamped checkpoint" if folder.is_dir() else "does not exist"
    raise CheckpointError(f"{path} {what}; give a step-* folder or a run directory")
