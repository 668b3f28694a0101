"""What one run does with its checkpoints: which to resume from, when to stamp, which to keep. Used by rank 0."""

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from mmhydra.checkpoint.lineage import require_going_on
from mmhydra.checkpoint.stamp import (
    STAMP,
    CheckpointError,
    Mesh,
    Parent,
    Stamp,
    Stream,
    Tokens,
    file_names,
    hash_files,
    read_stamp,
    stamped_steps,
    step_folder,
    write_stamp,
)
from mmhydra.checkpoint.verify import held, require_same_run, require_same_weights, require_whole
from mmhydra.config.schema import RunConfig
from mmhydra.data.stream.skips import NO_SKIPS, Skips
from mmhydra.errors import ExitCode
from mmhydra.files import write_atomic
from mmhydra.run.directory import FROZEN_CONFIG, Attempt
from mmhydra.run.lease import JobLease

REJECTED_STAMP = "stamp.rejected.json"


class Event(Protocol):
    """Told of what happens: its kind, a message, and values for programs."""

    def __call__(self, kind: str, message: str, /, **values: Any) -> None:
        """Takes one event."""


class NotThereYet(CheckpointError):
    """A checkpoint that is awaited and that its run has not saved. Exit code 1: a later start may find it."""

    exit_code = ExitCode.FAILED


class Superseded(RuntimeError):
    """A newer attempt of this run has started; this one must not write any more."""


@dataclass(frozen=True)
class World:
    """What only the job knows: its mesh, what the first n samples were, and how its stream puts samples in order."""

    mesh: Mesh
    tokens: Callable[[int, Skips], Tokens]
    stream_algorithm: int = 1


class Keeper:
    """The checkpoints of one attempt."""

    def __init__(self, attempt: Attempt, world: World, on_event: Event) -> None:
        self._attempt = attempt
        self._world = world
        self._on_event = on_event
        self._config, self._text = attempt.read_frozen()
        self._provenance: dict[str, Any] = attempt.provenance()
        self._folder = attempt.run.checkpoints
        self._lease = JobLease.of(attempt)
        self._parent: Parent | None = None
        self._lineage: list[Parent] = []

    @property
    def samples_per_step(self) -> int:
        """Sequences of one optimizer step."""
        return self._config.training.global_batch_size

    def step_to_resume(self) -> int:
        """The newest step whose checkpoint is whole and of this run; -1 if the run has none.

        Raises CheckpointError if stamped checkpoints exist and none can be used, or `on_corrupt=refuse`.
        """
        steps = stamped_steps(self._folder)
        for step in reversed(steps):
            folder = step_folder(self._folder, step)
            try:
                require_whole(folder)  # first: what is damaged can't say which run made it
            except CheckpointError as error:
                self._on_event("checkpoint_corrupt", str(error))
                if self._config.checkpoint.on_corrupt == "refuse":
                    raise
                continue
            require_same_run(folder, self._config, self._provenance["manifests"])
            self._require_same_order(folder)
            self._set_aside([rejected for rejected in steps if rejected > step])
            self._parent = _parent(folder, "resume")
            self._lineage = read_stamp(folder).lineage
            self._on_event("resume", f"resuming from {folder}")
            self._tell_other_code()
            return step
        if steps:
            raise CheckpointError(
                f"none of the {len(steps)} checkpoints in {self._folder} is whole; restore one, or move the folder "
                "away to start the run again"
            )
        return -1

    def _set_aside(self, steps: list[int]) -> None:
        """Takes the stamps off damaged checkpoints, so that retention counts only what can be loaded."""
        for step in steps:
            stamp = step_folder(self._folder, step) / STAMP
            stamp.rename(stamp.with_name(REJECTED_STAMP))

    def require_initial_weights(self) -> None:
        """Checks the checkpoint of another run that this one starts from, if there is one.

        Raises CheckpointError if it is damaged or does not fit, NotThereYet if it is still awaited.
        """
        checkpoint = self._config.checkpoint
        source = checkpoint.extend_from or checkpoint.init_from
        if source is None or stamped_steps(self._folder):
            return
        folder, kind = Path(source), "extend" if checkpoint.extend_from else "init_from"
        if checkpoint.awaits and not (folder / STAMP).is_file():
            raise NotThereYet(_not_there(folder))
        stamp, found = require_whole(folder), held(folder)
        if checkpoint.awaits and stamp.run_id != folder.parent.parent.name:
            raise CheckpointError(
                f"{folder} was saved by run {stamp.run_id}, awaited is run {folder.parent.parent.name}; put back what "
                "that run saved, or type checkpoint.awaits=false to make a run of its own of this one"
            )
        require_same_weights(found, self._config, self._provenance["vocabulary"])
        if kind == "extend":
            self._require_same_order(folder)
        if kind == "extend" and checkpoint.awaits:  # for any other one the launcher has looked
            require_going_on(found, self._config, self._provenance["manifests"])
        self._parent = _parent(folder, kind)
        self._lineage = [*read_stamp(folder).lineage, self._parent]
        what = "whole state" if kind == "extend" else "weights"
        self._on_event(kind, f"starting from the {what} of {folder}")

    def _require_same_order(self, folder: Path) -> None:
        """Refuses to go on with a stream that gave its samples in another order: some would come twice, some never."""
        there, here = read_stamp(folder).stream.algorithm, self._world.stream_algorithm
        if there != here:
            raise CheckpointError(
                f"checkpoint {folder} is refused: version {there} of the stream put its samples in order, this code "
                f"has version {here}, so its sample {read_stamp(folder).stream.sample:,} is another one. Go on with "
                "the code that made it (its commit is in the stamp), or type "
                f"checkpoint.init_from={folder} to take its weights alone into a new run"
            )

    def _tell_other_code(self) -> None:
        """The same run under other code is allowed, never unseen."""
        assert self._parent is not None
        git = self._provenance["git"]
        there = (self._parent.git_commit, self._parent.code_patch_sha256)
        if there != (git["commit"], git["patch_sha256"]):
            changes = "" if there[0] != git["commit"] else ", with other uncommitted changes"
            self._on_event(
                "code_changed",
                f"step {self._parent.step} was saved by commit {there[0]}, this is {git['commit']}{changes}",
            )

    def loaded(self, sample: int) -> None:
        """Checks that the stream stands where the loaded step left it. Raises CheckpointError otherwise."""
        continues = self._parent is not None and self._parent.kind != "init_from"
        step = self._parent.step if continues and self._parent is not None else 0
        expected = step * self._config.training.global_batch_size
        if sample != expected:
            raise CheckpointError(f"the data stream stands at sample {sample}, step {step} ends at {expected}")

    def prepare(self, step: int) -> None:
        """Clears the place for a step. Raises Superseded if a newer attempt owns the run."""
        self._require_newest()
        folder = step_folder(self._folder, step)
        (folder / STAMP).unlink(missing_ok=True)  # first, so that a kill leaves no stamp on half a folder
        if folder.is_dir():
            shutil.rmtree(folder)

    def discard(self, step: int) -> None:
        """Removes what there is of a step that could not be saved."""
        folder = step_folder(self._folder, step)
        if not (folder / STAMP).exists():
            shutil.rmtree(folder, ignore_errors=True)

    def _require_newest(self) -> None:
        newest = self._attempt.run.attempts[-1]
        # A network file system may show an old listing for a while; a file that is opened is looked at anew.
        if newest.number != self._attempt.number or (self._lease is not None and not self._lease.is_ours()):
            raise Superseded(f"attempt {newest.number} has taken over this run; attempt {self._attempt.number} ends")

    def stamp(self, step: int, sample: int, skips: Skips = NO_SKIPS) -> None:
        """Closes the checkpoint of a step, then removes those that retention does not keep.

        `sample` and `skips` are the state of the stream. Raises Superseded if a newer attempt has started since the
        save began.
        """
        self._require_newest()
        folder = step_folder(self._folder, step)
        write_atomic(folder / FROZEN_CONFIG, self._text)
        for patch in self._attempt.patches:
            write_atomic(folder / patch.name, patch.read_bytes())
        write_stamp(folder, self._stamp(step, sample, skips, folder))
        self._on_event("checkpoint", f"saved {folder}")
        self._retain()

    def _stamp(self, step: int, sample: int, skips: Skips, folder: Path) -> Stamp:
        provenance = self._provenance
        return Stamp(
            schema_version=1,
            created=datetime.now(UTC).isoformat(),
            run_id=provenance["run_id"],
            run_name=provenance["run_name"],
            attempt=self._attempt.number,
            step=step,
            config_sha256=provenance["config_sha256"],
            code_patch_sha256=provenance["git"]["patch_sha256"],
            git=provenance["git"],
            packages=provenance["packages"],
            mesh=self._world.mesh,
            tokens=self._world.tokens(sample, skips),
            stream=Stream(
                sample=sample,
                seed=self._config.seed.data,
                algorithm=self._world.stream_algorithm,
                skips=list(skips),
            ),
            manifests=provenance["manifests"],
            vocabulary=provenance["vocabulary"],
            parent=self._parent,
            lineage=self._lineage,
            config_folders=provenance.get("config_folders", []),
            exemptions=[],
            files=hash_files(folder, file_names(folder)),
        )

    def _retain(self) -> None:
        for step in steps_to_remove(stamped_steps(self._folder), self._config):
            folder = step_folder(self._folder, step)
            (folder / STAMP).unlink()  # first, so that a kill leaves no stamp on half a folder
            shutil.rmtree(folder)
            self._on_event("checkpoint_removed", f"removed {folder}, {self._config.checkpoint.keep_latest} are kept")


def steps_to_remove(steps: list[int], config: RunConfig) -> list[int]:
    """Steps neither among the newest `keep_latest` nor the first to reach a multiple of `keep_every_tokens`."""
    checkpoint, tokens_per_step = config.checkpoint, config.training.tokens_per_step
    if checkpoint.keep_latest == 0:
        return []
    tagged: dict[int, int] = {}
    if checkpoint.keep_every_tokens is not None:
        for step in steps:
            tagged.setdefault(step * tokens_per_step // checkpoint.keep_every_tokens, step)
        tagged.pop(0, None)  # before the first multiple
    kept = {*steps[-checkpoint.keep_latest :], *tagged.values()}
    return [step for step in steps if step not in kept]


def _not_there(folder: Path) -> str:
    run = folder.parent.parent
    there = stamped_steps(folder.parent)
    saved = f"it has saved steps {', '.join(map(str, there))}" if there else "it has saved none"
    return (
        f"this run starts from {folder.name} of {run}, which is not there: {saved}. See how that run is doing "
        f"(python -m mmhydra.status {run}), and start this one again when it has saved the step"
    )


def _parent(folder: Path, kind: Any) -> Parent:
    digest = hashlib.sha256((folder / STAMP).read_bytes()).hexdigest()
    stamp = read_stamp(folder)
    return Parent(
        path=str(folder),
        step=stamp.step,
        stamp_sha256=digest,
        kind=kind,
        run_id=stamp.run_id,
        git_commit=stamp.git["commit"],
        code_patch_sha256=stamp.code_patch_sha256,
    )
