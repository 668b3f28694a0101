"""Names inside `outputs/<name>/<run id>/`. Nothing else in the code spells them."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mmhydra.config.frozen import config_sha256, from_yaml
from mmhydra.config.schema import RunConfig
from mmhydra.errors import UserError
from mmhydra.files import read_object, write_atomic, write_json
from mmhydra.run.identity import Identity

_ATTEMPT = re.compile(r"\d{4,}")
FROZEN_CONFIG = "config.yaml"
IDENTITY = "identity.yaml"
TRIGGERS = ("save", "stop", "drain")  # save and go on; save and end; save, end and go on elsewhere


class RunDirectoryError(UserError):
    """A place where no run can be written, or where there is none."""


class AttemptError(UserError):
    """An attempt directory that is not what was frozen."""


@dataclass(frozen=True)
class RunDirectory:
    """One run: the same identity always leads to the same folder."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        """Folder of `step-*` checkpoints, shared by all attempts."""
        return self.path / "checkpoints"

    @property
    def lease(self) -> Path:
        """Who may write to this run now."""
        return self.path / "lease.json"

    @property
    def slurm(self) -> Path:
        """What submitit writes: the batch script, what it starts, and the output of both."""
        return self.path / "slurm"

    def trigger(self, name: str) -> Path:
        """A file by which a person asks a running job for something; see `TRIGGERS`."""
        return self.path / name

    def clear_triggers(self) -> list[str]:
        """Removes the trigger files that are there and returns their names: who starts a run wants it to run."""
        found = [name for name in TRIGGERS if self.trigger(name).exists()]
        for name in found:
            self.trigger(name).unlink(missing_ok=True)
        return found

    @property
    def attempts(self) -> list["Attempt"]:
        """All attempts, oldest first."""
        folder = self.path / "attempts"
        try:
            names = [name for name in os.listdir(folder) if _ATTEMPT.fullmatch(name)]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [Attempt(folder / name) for name in sorted(names, key=int)]

    def create(self, identity: Identity) -> None:
        """Makes the folder and writes identity.yaml once; later starts find it there.

        Raises RunDirectoryError where nothing can be written.
        """
        try:
            (self.path / "attempts").mkdir(parents=True, exist_ok=True)
            self.checkpoints.mkdir(exist_ok=True)
            file = self.path / IDENTITY
            if not file.exists():
                document = {"schema_version": 1, "run_id": identity.run_id, "identity": identity.document}
                write_atomic(file, yaml.dump(document, Dumper=yaml.CSafeDumper, sort_keys=False).encode())
        except (OSError, ValueError) as error:
            raise RunDirectoryError(
                f"the run can't be written to {self.path}: {error}; point paths.outputs (or MMHYDRA_OUTPUTS) elsewhere"
            ) from error

    def read_identity(self) -> Identity:
        """What identity.yaml says. Raises RunDirectoryError if it can't be read."""
        path = self.path / IDENTITY
        try:
            document = yaml.load(path.read_bytes(), Loader=yaml.CSafeLoader)["identity"]
            if not isinstance(document, dict):
                raise ValueError("it holds no identity")
        except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
            raise RunDirectoryError(f"{path} can't be read: {error}") from error
        return Identity(document)

    @property
    def next_attempt(self) -> Path:
        """Where the next attempt would be; nothing is written."""
        existing = self.attempts
        return self.path / "attempts" / f"{existing[-1].number + 1 if existing else 1:04d}"

    def new_attempt(self) -> "Attempt":
        """Claims the next attempt number; of two processes that race, each gets its own."""
        while True:
            folder = self.next_attempt
            try:
                folder.mkdir()
            except FileExistsError:
                continue
            (folder / "logs").mkdir()
            return Attempt(folder)


def find_run(path: Path) -> RunDirectory:
    """The run that a path leads into: its own folder, an attempt, a checkpoint or a file of it.

    Raises RunDirectoryError for any other place.
    """
    try:
        for folder in (path, *path.parents):
            if (folder / IDENTITY).is_file():
                return RunDirectory(folder)
        what = "is no run and in none" if path.exists() else "does not exist"
    except (OSError, ValueError) as error:  # too long, not readable, or no path at all
        what = f"can't be read ({getattr(error, 'strerror', None) or error})"
    raise RunDirectoryError(f"{path} {what}; give a folder like outputs/NAME/RUN_ID")


def newest_frozen(run: RunDirectory) -> "Attempt":
    """The newest attempt that was frozen to the end. Raises RunDirectoryError if there is none."""
    for attempt in reversed(run.attempts):
        if (attempt.path / f"{FROZEN_CONFIG}.sha256").is_file():
            return attempt
    raise RunDirectoryError(f"{run.path} is no run: it has no frozen attempt; give a folder like outputs/NAME/RUN_ID")


@dataclass(frozen=True)
class Attempt:
    """One start of a run. The worker reads this folder and nothing else of the submit side."""

    path: Path

    @property
    def number(self) -> int:
        """1 for the first start."""
        return int(self.path.name)

    @property
    def run(self) -> RunDirectory:
        """The run that it belongs to."""
        return RunDirectory(self.path.parent.parent)

    @property
    def metrics(self) -> Path:
        """JSON lines, written by the rank that knows the loss."""
        return self.path / "metrics.jsonl"

    @property
    def events(self) -> Path:
        """JSON lines, written by rank 0."""
        return self.path / "events.jsonl"

    @property
    def status(self) -> Path:
        """State of the attempt, written by rank 0."""
        return self.path / "status.json"

    @property
    def outcome(self) -> Path:
        """How the attempt ended, written by the launcher; missing while it runs, or if the launcher was killed."""
        return self.path / "outcome.json"

    @property
    def submitted(self) -> Path:
        """The SLURM job, written by the submitter; missing in attempts that a requeue made, and in local ones."""
        return self.path / "submitted.json"

    @property
    def array(self) -> Path:
        """The folder of the job array that may run it, written by the first that claims it; missing in others."""
        return self.path / "array"

    @property
    def job(self) -> Path:
        """The SLURM allocation, written by the batch script as the attempt starts."""
        return self.path / "job.json"

    @property
    def batch_output(self) -> Path:
        """Folder of what its batch script prints: the run's own, or that of the array that the job is a task of."""
        said = read_object(self.job).get("output") or read_object(self.submitted).get("output")
        return Path(said) if isinstance(said, str) else self.run.slurm

    @property
    def preflight(self) -> Path:
        """One report a node, written by it before the ranks start."""
        return self.path / "preflight"

    @property
    def failures(self) -> Path:
        """How each rank that failed did so, written by it or by what watches it."""
        return self.path / "failures"

    @property
    def nodes(self) -> Path:
        """JSON lines of step times by node, written by rank 0."""
        return self.path / "nodes.jsonl"

    @property
    def logs(self) -> Path:
        """One log a process."""
        return self.path / "logs"

    @property
    def code_patch(self) -> Path:
        """The uncommitted part of the code."""
        return self.path / "code.patch"

    @property
    def patches(self) -> list[Path]:
        """code.patch, and config-N.patch for each config folder of the user's that has changes of its own."""
        return [self.code_patch, *sorted(self.path.glob("config-*.patch"))]

    def freeze(
        self, config: bytes, overrides: tuple[str, ...], provenance: dict[str, Any], patches: Mapping[str, bytes]
    ) -> None:
        """Writes what the worker will read; `patches` by file name. config.yaml.sha256 has the format of sha256sum."""
        digest = config_sha256(config)
        for name, patch in patches.items():
            write_atomic(self.path / name, patch)
        write_atomic(self.path / "overrides.txt", "".join(f"{line}\n" for line in overrides).encode())
        write_json(self.path / "provenance.json", provenance)
        write_atomic(self.path / FROZEN_CONFIG, config)
        write_atomic(self.path / f"{FROZEN_CONFIG}.sha256", f"{digest}  {FROZEN_CONFIG}\n".encode())

    def read_frozen(self) -> tuple[RunConfig, bytes]:
        """The config and its bytes. Raises AttemptError if they are not the bytes that were frozen."""
        try:
            text = (self.path / FROZEN_CONFIG).read_bytes()
            recorded = (self.path / f"{FROZEN_CONFIG}.sha256").read_text().split()[0]
        except (OSError, IndexError, UnicodeDecodeError) as error:
            raise AttemptError(f"{self.path} is no frozen attempt: {error}") from error
        found = config_sha256(text)
        expected = {recorded, str(self.provenance().get("config_sha256"))}
        if expected != {found}:
            raise AttemptError(
                f"{self.path / FROZEN_CONFIG} was changed after it was frozen: its SHA-256 is {found}, recorded is "
                f"{' and '.join(sorted(expected))}. Put back what was there; a change is an override of a new start."
            )
        return from_yaml(text), text

    def provenance(self) -> dict[str, Any]:
        """provenance.json. Raises AttemptError if it can't be read."""
        try:
            document = json.loads((self.path / "provenance.json").read_text())
            if not isinstance(document, dict):
                raise ValueError("not a JSON object")
            return document
        except (OSError, ValueError) as error:
            raise AttemptError(f"{self.path / 'provenance.json'} can't be read: {error}") from error
