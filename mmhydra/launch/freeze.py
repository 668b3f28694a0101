"""Turns a checked request into a frozen attempt: data, identity, run directory, provenance."""

import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mmhydra.checkpoint.stamp import CheckpointError, stamped_steps, step_folder
from mmhydra.checkpoint.verify import faults
from mmhydra.compose import Request
from mmhydra.config import secrets
from mmhydra.config.differences import differences
from mmhydra.config.frozen import config_sha256, to_yaml
from mmhydra.config.schema import RunConfig
from mmhydra.data.datasets import digests
from mmhydra.data.prepare import prepare
from mmhydra.data.shards.manifest import Manifest
from mmhydra.data.stream import ALGORITHM
from mmhydra.errors import UserError
from mmhydra.launch.naming import name_run
from mmhydra.run.directory import Attempt, RunDirectory, newest_frozen
from mmhydra.run.identity import Identity, identify
from mmhydra.run.provenance import collect, read_code, read_config_folder, store_code, store_config_folder
from mmhydra.run.snapshot import snapshot_of, yaml_files
from mmhydra.run.status import read_status


@dataclass(frozen=True)
class Plan:
    """A run that is known by name and place, not yet started."""

    request: Request
    manifests: dict[str, Manifest]
    identity: Identity
    run: RunDirectory

    @property
    def config(self) -> RunConfig:
        """What will be frozen."""
        return self.request.config

    @property
    def is_complete(self) -> bool:
        """Whether its last checkpoint is whole, or, where it saves none, its newest attempt ended well."""
        if self.config.checkpoint.enabled and not self.config.evaluates:
            last = step_folder(self.run.checkpoints, self.config.training.num_steps)
            try:
                return not faults(last)
            except CheckpointError:  # no stamp, or one that can't be read: the run goes on from the one before
                return False
        return _ended_well(self.run)


def _ended_well(run: RunDirectory) -> bool:
    attempts = run.attempts
    status = read_status(attempts[-1].status) if attempts else None
    return status is not None and status.state == "done"


def plan(request: Request, on_progress: Callable[[str], None]) -> Plan:
    """Finds or builds the data and names the run. Raises UserError for data or weights that do not fit."""
    config = request.config
    manifests = prepare(
        *(config.data, config.tokens, Path(config.paths.data), on_progress),
        store=config.loader.store,
        seq_len=config.training.seq_len,
        goes_on_without=config.loader.on_bad_chunk == "skip",
    )
    if request.run is not None:
        return Plan(request, manifests, _resumed(request.run, config, manifests), request.run)
    identity = name_run(config, manifests)
    return Plan(request, manifests, identity, run_directory(config, identity))


def _resumed(run: RunDirectory, config: RunConfig, manifests: Mapping[str, Manifest]) -> Identity:
    """The identity of a run that goes on. The weights that it started from are needed until it has its own.

    Raises UserError where what the frozen config names has changed since: the data, or the weights to start from.
    """
    there = run.read_identity()
    if stamped_steps(run.checkpoints) or (config.evaluates and _ended_well(run)):
        starts = [there.document.get(name) for name in ("init_from", "extends")]
        here = identify(config, digests(manifests), *starts)
    else:
        here = name_run(config, manifests)
    if there != here:
        changed = [f"  {difference}" for difference in differences(there.document, here.document)]
        head = f"{run.path} can't be resumed, its numbers would come from something else (then -> now):"
        raise UserError("\n".join([head, *changed]))
    return here


def run_directory(config: RunConfig, identity: Identity) -> RunDirectory:
    """`outputs/<name>/<run id>`."""
    return RunDirectory(Path(config.paths.outputs) / config.name / identity.run_id)


@dataclass(frozen=True)
class Origin:
    """Where a run comes from: provenance.json, and the uncommitted changes by file name."""

    provenance: dict[str, Any]
    patches: dict[str, bytes]


def read_origin(request: Request, run: RunDirectory) -> Origin:
    """The code and the user's config folders as they are now, which are stored; or those of the attempt before.

    Raises SecretError for a secret in a patch, before anything is stored.
    """
    if request.code_is_frozen:
        return _frozen_origin(run)
    outputs = Path(request.config.paths.outputs)
    code, patch = read_code()
    patches: dict[str, bytes] = {"code.patch": patch}
    folders: list[dict[str, Any]] = []
    for number, folder in enumerate(request.config_dirs, 1):
        state, changes = read_config_folder(folder)
        folders.append(asdict(state))
        if changes:
            patches[f"config-{number}.patch"] = changes
    secrets.refuse(
        finding
        for name, changes in patches.items()
        for finding in secrets.find_in_patch(changes, name[: -len(".patch")])
    )
    secrets.refuse(  # what git has is no secret any more, and what it has not is in the patches
        finding
        for recorded, folder in zip(folders, request.config_dirs, strict=True)
        if recorded["commit"] is None
        for file in yaml_files(folder)
        for finding in secrets.find_in_file(file)
    )
    for recorded, folder in zip(folders, request.config_dirs, strict=True):
        recorded["snapshot"] = str(store_config_folder(folder, outputs).path)
    # With the way in which this code puts samples in order: code with another one can't trace the run.
    made_of = {"config_folders": folders, "stream_algorithm": ALGORITHM}
    return Origin({**made_of, **collect(code, store_code(code, outputs))}, patches)


def _frozen_origin(run: RunDirectory) -> Origin:
    """The code of the newest attempt of the run that goes on. Raises UserError if it is not at hand any more."""
    if not run.attempts:
        raise UserError(f"code=frozen: {run.path} has no attempt yet whose code could be taken; leave it out")
    before = newest_frozen(run)
    provenance = before.provenance()
    snapshot = snapshot_of(provenance)
    if snapshot is None:
        raise UserError(f"code=frozen: {before.path} was frozen by a version that stored no code; leave it out")
    snapshot.require_intact()
    now = {"created": datetime.now(UTC).isoformat(), "argv": sys.argv, "host": socket.gethostname()}
    return Origin({**provenance, **now}, {patch.name: patch.read_bytes() for patch in before.patches})


def freeze(plan: Plan, origin: Origin) -> Attempt:
    """Writes the next attempt of a run. From here on editing YAML or code changes nothing of it."""
    text = to_yaml(plan.config)
    plan.run.create(plan.identity)
    attempt = plan.run.new_attempt()
    provenance = {
        **origin.provenance,
        "run_id": plan.identity.run_id,
        "run_name": plan.config.name,
        "attempt": attempt.number,
        "config_sha256": config_sha256(text),
        "manifests": digests(plan.manifests),
        "vocabulary": {name: manifest.vocabulary.digest for name, manifest in sorted(plan.manifests.items())},
    }
    attempt.freeze(text, plan.request.overrides, provenance, origin.patches)
    return attempt
