"""Turns a checked request into a frozen attempt: data, identity, run directory, provenance."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mmhydra.checkpoint.stamp import STAMP, CheckpointError, step_folder
from mmhydra.checkpoint.verify import faults, require_same_weights
from mmhydra.config.frozen import config_sha256, to_yaml
from mmhydra.config.schema import RunConfig
from mmhydra.data.datasets import digests, prepare
from mmhydra.data.manifest import Manifest
from mmhydra.run.directory import Attempt, RunDirectory
from mmhydra.run.identity import Identity, identify
from mmhydra.run.provenance import collect, read_code
from mmhydra.run.status import read_status


@dataclass(frozen=True)
class Plan:
    """A run that is known by name and place, not yet started."""

    config: RunConfig
    overrides: tuple[str, ...]
    manifests: dict[str, Manifest]
    identity: Identity

    @property
    def run(self) -> RunDirectory:
        """Its folder, `outputs/<name>/<run id>`."""
        return RunDirectory(Path(self.config.paths.outputs) / self.config.name / self.identity.run_id)

    @property
    def is_complete(self) -> bool:
        """Whether its last checkpoint is whole, or, without checkpoints, its newest attempt ended well."""
        if self.config.checkpoint.enabled:
            last = step_folder(self.run.checkpoints, self.config.training.num_steps)
            try:
                return not faults(last)
            except CheckpointError:  # no stamp, or one that can't be read: the run goes on from the one before
                return False
        attempts = self.run.attempts
        status = read_status(attempts[-1].status) if attempts else None
        return status is not None and status.state == "done"


def plan(config: RunConfig, overrides: tuple[str, ...], on_progress: Callable[[str], None]) -> Plan:
    """Finds or builds the data and names the run. Raises UserError for data or weights that do not fit."""
    manifests = prepare(config.data, config.tokens, Path(config.paths.data), on_progress)
    vocabulary = {name: manifest.vocabulary.digest for name, manifest in manifests.items()}
    identity = identify(config, digests(manifests), _stamp_sha256(config, vocabulary))
    return Plan(config, overrides, manifests, identity)


def _stamp_sha256(config: RunConfig, vocabulary: dict[str, str]) -> str | None:
    """The initial weights are identity by what they are, not by where they lie."""
    if config.checkpoint.init_from is None:
        return None
    folder = Path(config.checkpoint.init_from)
    require_same_weights(folder, config, vocabulary)
    return hashlib.sha256((folder / STAMP).read_bytes()).hexdigest()


def freeze(plan: Plan) -> Attempt:
    """Writes the next attempt of a run. From here on editing YAML or code changes nothing of it."""
    code, patch = read_code()
    text = to_yaml(plan.config)
    plan.run.create(plan.identity)
    attempt = plan.run.new_attempt()
    provenance = {
        "run_id": plan.identity.run_id,
        "run_name": plan.config.name,
        "attempt": attempt.number,
        "config_sha256": config_sha256(text),
        "manifests": digests(plan.manifests),
        "vocabulary": {name: manifest.vocabulary.digest for name, manifest in sorted(plan.manifests.items())},
        **collect(code),
    }
    attempt.freeze(text, plan.overrides, provenance, patch)
    return attempt
