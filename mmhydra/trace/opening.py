"""A run as trace sees it: its frozen config, the stream over the data that it read, and what it wrote of its steps."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mmhydra.checkpoint.stamp import step_of
from mmhydra.config.schema import RunConfig
from mmhydra.data.datasets import TRAIN, absent, digests
from mmhydra.data.packing.sequences import Batch
from mmhydra.data.shards.manifest import Manifest, load_manifest
from mmhydra.data.storage.access import Access
from mmhydra.data.storage.faults import ShardError
from mmhydra.data.stream import ALGORITHM
from mmhydra.data.stream.batches import OpenSplit, open_run_split
from mmhydra.data.stream.ledger import Ledger
from mmhydra.data.stream.skips import Skips
from mmhydra.errors import UserError
from mmhydra.paths import short
from mmhydra.run.directory import RunDirectory, find_run, newest_frozen
from mmhydra.trace.logged import Logged
from mmhydra.trace.skipped import skips_of

_MANY = 10  # names in one message


class TraceError(UserError):
    """What was asked for is not in the run, or its data are not at hand."""


@dataclass(frozen=True)
class Traced:
    """A run and its stream. `folder` holds the dataset versions, whose manifests are those that the run read.

    `access` is how its shards are read; `close` ends it.
    """

    run: RunDirectory
    config: RunConfig
    folder: Path
    access: Access
    split: OpenSplit
    manifests: Mapping[str, Manifest]
    logged: Logged
    skips: Skips
    first_step: int  # the steps before it are those of the run that this one extends; 1 for most
    last_step: int  # that the frozen config asks for, or where a run that extends this one begins

    def close(self) -> None:
        """Ends connections to a store. Nothing more can be read."""
        self.access.close()

    @property
    def batch(self) -> int:
        """Samples of one step."""
        return self.config.training.global_batch_size

    @property
    def newest_step(self) -> int:
        """The last step that was made."""
        return min(self.logged.newest_step, self.last_step)

    def is_skipped(self, n: int) -> bool:
        """Whether sample `n` was left out, for a chunk that could not be read."""
        return self.split.is_skipped(n, self.skips)

    def ledger(self, n: int) -> Ledger:
        """What the first `n` samples were."""
        return self.split.ledger(n, self.skips)

    def read(self, first: int, end: int) -> Batch:
        """The samples [first, end). Raises ShardError where that can't be done."""
        found = self.split.read(np.arange(first, end), self.skips)
        for n, bad in found.faults:
            raise ShardError(f"sample {n} needs {bad.place}: {bad.reason}")
        return found.batch

    def samples_of(self, step: int) -> tuple[int, int]:
        """The first sample of a step and the first of the next. Raises TraceError for a step that there is not."""
        if not self.first_step <= step <= self.last_step:
            raise TraceError(
                f"there is no step {step} in {short(self.run.path)}; its steps are {self.first_step} to "
                f"{self.last_step} (training.steps or training.tokens of its frozen config)"
            )
        return (step - 1) * self.batch, step * self.batch

    def dp_of(self, step: int, asked: int | None) -> int:
        """The data-parallel degree that was asked for, or that a step was or will be made with.

        Attempts may differ in it; the newest one makes the steps to come.

        Raises TraceError for one that the global batch can't be shared by.
        """
        if asked is None:
            return self.logged.dp_at(step) or self.config.dp
        if asked < 1 or self.batch % asked:
            legal = [str(dp) for dp in range(1, self.batch + 1) if self.batch % dp == 0]
            raise TraceError(
                f"--dp {asked}: the global batch of {self.batch} sequences can't be shared evenly; type one of "
                f"{', '.join(legal)}"
            )
        return asked


def open_traced(run: RunDirectory, data: Path | None) -> Traced:
    """Opens the stream of a run. `data` is where its datasets are now, if not where its frozen config says.

    Raises TraceError where there are no steps, no data or other data, and what reading them raises.
    """
    attempt = newest_frozen(run)
    config, _ = attempt.read_frozen()
    if config.training.num_steps == 0:
        only = "measures the held-out loss of weights" if config.evaluates else "writes its initial weights"
        raise TraceError(f"{short(run.path)} has no steps: with training.steps=0 it only {only}")
    provenance = attempt.provenance()
    if (there := provenance.get("stream_algorithm", 1)) != ALGORITHM:
        raise TraceError(
            f"the code that made {short(run.path)} put samples in another order (version {there} of the stream, this "
            f"code has version {ALGORITHM}); trace it with that code, commit {provenance['git']['commit']}"
        )
    folder = Path(config.paths.data) if data is None else data
    manifests = _manifests(run, config, folder, provenance.get("manifests"))
    parent = config.checkpoint.extend_from
    extended = step_of(Path(parent)) if parent is not None else None
    logged = Logged.of(run)
    known = skips_of(run, config, logged)
    if known.note:
        print(f"note: {known.note}", file=sys.stderr)
    access = _access(config)
    try:
        split = open_run_split(config, TRAIN, folder, access)
    except BaseException:
        access.close()
        raise
    return Traced(
        run,
        config,
        folder,
        access,
        split,
        manifests,
        logged,
        known.skips,
        first_step=(extended or 0) + 1,
        last_step=config.training.num_steps,
    )


def _access(config: RunConfig) -> Access:
    """As the run reads, from a store if it does; but a local file that is damaged is told at once, not tried again.

    The cache on the disk of the node is left to the jobs: to look through a corpus would drive out what they need.
    """
    if config.loader.store is not None:
        return Access.of(config.loader, caches_on_disk=False)
    return Access(memory_bytes=round(config.loader.memory_mb * 1e6))


def stretches(run: RunDirectory, data: Path | None) -> Iterator[Traced]:
    """A run and those that it extends, the oldest first, each with the steps that the weights went through.

    One that is gone or can't be read is said on standard error. Raises TraceError where the run itself can't be.
    """
    own = open_traced(run, data)
    found, child = [own], own
    while child.config.checkpoint.extend_from is not None:
        try:
            parent = open_traced(find_run(Path(child.config.checkpoint.extend_from)), data)
        except UserError as error:
            print(f"note: steps 1 to {child.first_step - 1} are not looked at: {error}", file=sys.stderr)
            break
        child = replace(parent, last_step=child.first_step - 1)
        found.append(child)
    yield from reversed(found)


def run_of_step(run: RunDirectory, step: int) -> RunDirectory:
    """The run that made a step: the one that a run extends, or the one that that extends, for steps before its own.

    Raises RunDirectoryError where that run is gone, and AttemptError for one that can't be read.
    """
    while True:
        parent = newest_frozen(run).read_frozen()[0].checkpoint.extend_from
        if parent is None or step < 1 or step > (step_of(Path(parent)) or 0):
            return run
        run = find_run(Path(parent))


def _manifests(run: RunDirectory, config: RunConfig, folder: Path, recorded: object) -> dict[str, Manifest]:
    """The manifests below a folder, if they are those that the run was frozen with. Raises TraceError otherwise."""
    cure = "give the folder that holds what the run read: --data DIR"
    if missing := absent(config.data, folder):
        lines = [f"  dataset {name} is not below {folder}" for name in missing]
        raise TraceError("\n".join([f"the data of {short(run.path)} are gone:", *lines, cure]))
    manifests = {name: load_manifest(folder / name) for name in config.data.datasets}
    found = digests(manifests)
    if not isinstance(recorded, dict):
        raise TraceError(f"provenance.json of {short(run.path)} names no manifests, so nothing says which data it read")
    other = [name for name in found if found[name] != recorded.get(name)]
    if other:
        lines = [
            f"  {name}: the run read manifest {str(recorded.get(name))[:12]}, below {folder} is {found[name][:12]}"
            for name in other[:_MANY]
        ]
        raise TraceError("\n".join([f"these are other data than {short(run.path)} read:", *lines, cure]))
    return manifests
