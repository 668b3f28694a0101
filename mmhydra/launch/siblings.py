"""Runs that differ in little from a new one: often a slip of the hand made the new one."""

from dataclasses import dataclass

from mmhydra.checkpoint.stamp import stamped_steps
from mmhydra.config.differences import Difference, differences
from mmhydra.run.directory import IDENTITY, RunDirectory, RunDirectoryError
from mmhydra.run.identity import Identity

_LOOKED_AT = 50  # the newest runs of the folder; a sweep leaves thousands
_CLOSE = 3  # fields that differ at most


@dataclass(frozen=True)
class Sibling:
    """A run with checkpoints, and the identity fields in which it differs, there -> here."""

    run: RunDirectory
    step: int
    differing: list[Difference]

    def __str__(self) -> str:
        fields = ", ".join(str(difference).removeprefix("config.") for difference in self.differing)
        return f"run {self.run.path.name} has {self.step} steps and differs only in {fields} (there -> here)"


def closest(run: RunDirectory, identity: Identity) -> Sibling | None:
    """The nearest run beside a new one that has checkpoints, if one is close. An evaluation of a run is no slip."""
    if "validation_batches" in identity.document:
        return None
    folders = [path for path in run.path.parent.glob("*/") if path != run.path and (path / IDENTITY).is_file()]
    folders.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    found = [_compare(RunDirectory(folder), identity) for folder in folders[:_LOOKED_AT]]
    close = [sibling for sibling in found if sibling is not None and len(sibling.differing) <= _CLOSE]
    return min(close, key=lambda sibling: len(sibling.differing), default=None)


def _compare(run: RunDirectory, identity: Identity) -> Sibling | None:
    steps = stamped_steps(run.checkpoints)
    if not steps:
        return None
    try:
        there = run.read_identity()
    except RunDirectoryError:
        return None
    return Sibling(run, steps[-1], differences(there.document, identity.document))
