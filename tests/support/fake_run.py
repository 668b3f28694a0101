"""A run with checkpoints of small files: real stamps, no weights. torchtitan's own are tested end to end."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from mmhydra.checkpoint.keeper import Keeper, World
from mmhydra.checkpoint.stamp import Mesh, Tokens, step_folder
from mmhydra.config.frozen import to_yaml
from mmhydra.config.schema import RunConfig
from mmhydra.data.stream.skips import NO_SKIPS, Skips
from mmhydra.run.directory import RunDirectory

DCP_FILES = {".metadata": b"names and shapes", "__0_0.distcp": bytes(range(256)) * 8, "__1_0.distcp": b"\x01" * 999}
MESH = Mesh(world_size=1, dp_replicate=1, dp_shard=1, tp=1, pp=1)
MANIFESTS = {"demo-v2": "1" * 64}
VOCABULARY = {"demo-v2": "2" * 64}
GIT = {"commit": "c" * 40, "branch": "main", "dirty": True, "wheel_record_sha256": None}
PATCH = b"diff --git a/x b/x\n"


@dataclass
class FakeRun:
    """One attempt of a run and what its keeper said."""

    config: RunConfig
    directory: RunDirectory
    manifests: dict[str, str]
    events: list[tuple[str, str]] = field(default_factory=list)
    stream_algorithm: int = 2
    skips: Skips = NO_SKIPS

    def start(self) -> Keeper:
        """The next attempt, frozen."""
        attempt = self.directory.new_attempt()
        text = to_yaml(self.config)
        provenance = {
            "run_id": self.directory.path.name,
            "run_name": self.config.name,
            "config_sha256": hashlib.sha256(text).hexdigest(),
            "git": {**GIT, "patch_sha256": hashlib.sha256(PATCH).hexdigest()},
            "packages": {"torch": "2.0"},
            "manifests": self.manifests,
            "vocabulary": VOCABULARY,
            "stream_algorithm": self.stream_algorithm,
        }
        attempt.freeze(text, (), provenance, {"code.patch": PATCH})
        return Keeper(
            attempt,
            World(MESH, self.tokens, self.stream_algorithm),
            lambda kind, text: self.events.append((kind, text)),
        )

    def tokens(self, sample: int, skips: Skips) -> Tokens:
        """Three samples of code to one of docs; a tenth of the positions is padding. Each skip costs one sample."""
        length = self.config.training.seq_len
        docs, padding, skipped = sample // 4 * length, sample * length // 10, len(skips) * length
        by_source = {"stdlib_code": sample * length - docs - padding - skipped, "stdlib_docs": docs}
        by_modality = {"text": sum(by_source.values())}
        return Tokens(
            total=sample * length,
            by_source=by_source,
            by_modality=by_modality,
            padding=padding,
            skipped=skipped,
            skipped_samples=len(skips),
        )

    def save(self, keeper: Keeper, *steps: int) -> Path:
        """Checkpoints after these steps; the folder of the last one."""
        for step in steps:
            keeper.prepare(step)
            folder = self.folder(step)
            folder.mkdir()
            for name, content in DCP_FILES.items():
                (folder / name).write_bytes(content + f" of step {step}".encode())
            keeper.stamp(step, step * self.config.training.global_batch_size, self.skips)
        return folder

    def folder(self, step: int) -> Path:
        return step_folder(self.directory.checkpoints, step)

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.events]
