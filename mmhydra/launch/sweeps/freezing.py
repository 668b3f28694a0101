"""Freezes many points at once: what they have in common is found out and written once."""

import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmhydra.config.shared import OfObjects
from mmhydra.data.datasets import digests, load
from mmhydra.errors import UserError
from mmhydra.files import read_object, write_atomic, write_json
from mmhydra.launch.array import FinalStates, is_free_again, require_no_array
from mmhydra.launch.freeze import Origin, read_origin
from mmhydra.launch.points import Point
from mmhydra.launch.slurm import was_refused
from mmhydra.launch.sweeps.recording import Key, key_of
from mmhydra.run.directory import FROZEN_CONFIG, Attempt
from mmhydra.run.lease import HeldError, hold
from mmhydra.run.snapshot import Snapshot, snapshot_of
from mmhydra.sweep.record import SweepDirectory

_PROVENANCE = "provenance.json"
_THREADS = 16  # freezing is waiting for disks, above all for those of a file server


@dataclass(frozen=True)
class SweepOrigin:
    """Where the points of a sweep come from; `folder` holds the same, for later stages and for links to it."""

    origin: Origin
    folder: Path

    @property
    def snapshot(self) -> Snapshot:
        """The code that jobs run."""
        found = snapshot_of(self.origin.provenance)
        assert found is not None, "what is frozen now stores its code"
        return found

    @property
    def code(self) -> dict[str, str]:
        """For the record."""
        commit = self.origin.provenance["git"].get("commit")
        return {**({} if commit is None else {"commit": commit}), "snapshot": str(self.snapshot.path)}


def origin_of_now(sweep: SweepDirectory, point: Point) -> SweepOrigin:
    """The code and the user's config folders as they are now; with `code=frozen` those of the run of `point`.

    Raises SecretError for a secret in a patch, before anything is stored.
    """
    return SweepOrigin(read_origin(point.request, point.run), sweep.origin)


def keep_origin(origin: SweepOrigin) -> None:
    """Writes it into the sweep's folder. For whoever holds the lease. Files that runs link to stay as they are."""
    origin.folder.mkdir(exist_ok=True)
    (origin.folder / _PROVENANCE).unlink(missing_ok=True)  # it comes last: without it there is no origin
    for name in os.listdir(origin.folder):
        if name.endswith(".patch") and name not in origin.origin.patches:
            (origin.folder / name).unlink()
    for name, patch in origin.origin.patches.items():
        path = origin.folder / name
        if not path.is_file() or path.read_bytes() != patch:
            write_atomic(path, patch)
    write_json(origin.folder / _PROVENANCE, origin.origin.provenance)


def kept_origin(sweep: SweepDirectory) -> SweepOrigin:
    """That of the last command. Raises UserError if it is not there, or its code was changed."""
    try:
        provenance = json.loads((sweep.origin / _PROVENANCE).read_bytes())
        patches = {path.name: path.read_bytes() for path in sorted(sweep.origin.glob("*.patch"))}
        origin = SweepOrigin(Origin(provenance, patches), sweep.origin)
        snapshot = origin.snapshot
    except (OSError, ValueError, KeyError, AssertionError) as error:
        raise UserError(
            f"{sweep.origin} does not say what code the points start with; type the command of the sweep again"
        ) from error
    snapshot.require_intact()
    return origin


@dataclass(frozen=True)
class Frozen:
    """`held` are the points that somebody has: another process, a job, or another sweep that is submitting them.

    Children of these are in neither: they can't wait for a job that is not ours.
    """

    attempts: dict[Key, Attempt] = field(default_factory=dict)
    held: dict[Key, HeldError] = field(default_factory=dict)

    def require_all(self) -> None:
        """Raises HeldError if somebody has one of them."""
        for error in self.held.values():
            raise error


def freeze_points(sweep: SweepDirectory, points: Sequence[Point], origin: SweepOrigin) -> list[Attempt]:
    """The next attempt of each point. One that was frozen the same way and never started is taken as it is.

    Raises UserError for a run that somebody has, or that can't be written.
    """
    frozen = freeze_free(sweep, points, origin)
    frozen.require_all()
    return [frozen.attempts[key_of(point)] for point in points]


def freeze_free(
    sweep: SweepDirectory, points: Sequence[Point], origin: SweepOrigin, seen: Mapping[Key, int] | None = None
) -> Frozen:
    """As `freeze_points`, of the points that nobody has; parents come before their children.

    `seen` are the numbers of the newest attempts (0: none) when somebody decided that the points are due. What has been
    submitted or begun since is held: another sweep was quicker. Raises UserError for a run that can't be written.
    """
    freezer = _Freezer(sweep, origin, seen or {})

    def frozen_or_held(point: Point, manifests: _Manifests) -> Attempt | HeldError:
        try:
            return freezer.freeze(point, manifests)
        except HeldError as error:
            return error

    with ThreadPoolExecutor(_THREADS) as threads:
        results = list(threads.map(frozen_or_held, points, map(freezer.manifests_of, points)))
    found = Frozen()
    left: set[Key] = set()
    for point, result in zip(points, results, strict=True):
        key = key_of(point)
        if isinstance(result, HeldError):
            found.held[key] = result
            left.add(key)
        elif point.parent is not None and key_of(point.parent) in left:
            left.add(key)
        else:
            found.attempts[key] = result
    return found


@dataclass(frozen=True)
class _Manifests:
    digests: dict[str, str]
    vocabulary: dict[str, str]


class _Freezer:
    def __init__(self, sweep: SweepDirectory, origin: SweepOrigin, seen: Mapping[Key, int]) -> None:
        self._sweep = sweep
        self._of_now = origin
        self._seen = seen
        self._state_of = FinalStates()
        self._manifests: OfObjects[_Manifests] = OfObjects()

    def manifests_of(self, point: Point) -> _Manifests:
        config = point.config

        def read() -> _Manifests:
            found = load(config.data, config.tokens, Path(config.paths.data))
            vocabulary = {name: manifest.vocabulary.digest for name, manifest in sorted(found.items())}
            return _Manifests(digests(found), vocabulary)

        return self._manifests.get(read, config.data, config.tokens, config.paths)

    def freeze(self, point: Point, manifests: _Manifests) -> Attempt:
        run = point.run
        own = point.request.code_is_frozen
        origin = read_origin(point.request, run) if own else self._of_now.origin
        assert point.identity is not None, "its data is there"
        run.create(point.identity)
        with hold(run):
            require_no_array(run, self._state_of)
            run.clear_triggers()
            newest = run.attempts[-1:]
            if newest and _is_as_new(newest[0], point, origin.provenance, self._state_of):
                return newest[0]
            if newest and newest[0].number > self._seen.get(key_of(point), newest[0].number):
                _require_not_begun(newest[0])
            provenance = {
                **origin.provenance,
                "run_id": point.run_id,
                "run_name": point.config.name,
                "attempt": (attempt := run.new_attempt()).number,
                "config_sha256": point.sha256,
                "manifests": manifests.digests,
                "vocabulary": manifests.vocabulary,
                "sweep": self._sweep.name,
            }
            linked = set() if own else {name for name in origin.patches if self._link(name, attempt)}
            patches = {name: patch for name, patch in origin.patches.items() if name not in linked}
            attempt.freeze(point.text, point.request.overrides, provenance, patches)
            return attempt

    def _link(self, name: str, attempt: Attempt) -> bool:
        """Whether a patch is there without being written again; some file systems have no links, or few of them."""
        try:
            os.link(self._of_now.folder / name, attempt.path / name)
        except OSError:
            return False
        return True


def _require_not_begun(attempt: Attempt) -> None:
    if not was_refused(attempt) and any(path.exists() for path in (attempt.submitted, attempt.job, attempt.status)):
        job_id = read_object(attempt.submitted).get("job_id")
        raise HeldError(
            f"the run {attempt.run.path} was started meanwhile, attempt {attempt.number}"
            + ("" if job_id is None else f", job {job_id}")
        )


def _is_as_new(attempt: Attempt, point: Point, origin: Mapping[str, Any], state_of: FinalStates) -> bool:
    """Whether an attempt was frozen from the same config and code, and nothing has started or taken it.

    What an array left that was given up is removed; the lease of the run must be held.
    """
    is_free = is_free_again(attempt, state_of)
    if attempt.array.exists() and not is_free:
        return False
    traces = [attempt.submitted, attempt.job, attempt.metrics, attempt.events]
    if not is_free or not was_refused(attempt):
        traces += [attempt.status, attempt.outcome]
    if any(path.exists() for path in traces):
        return False
    try:
        if (attempt.path / FROZEN_CONFIG).read_bytes() != point.text:
            return False
        if not (attempt.path / f"{FROZEN_CONFIG}.sha256").is_file():
            return False
        there = attempt.provenance()
    except (OSError, UserError):
        return False
    if any(there.get(key) != origin.get(key) for key in ("git", "snapshot", "config_folders", "packages")):
        return False
    for path in (attempt.status, attempt.outcome, attempt.array):  # the claim last: with it all of this comes again
        path.unlink(missing_ok=True)
    return True
