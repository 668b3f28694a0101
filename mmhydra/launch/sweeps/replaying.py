"""The points of a record, composed again: the same runs, or a refusal."""

from collections.abc import Sequence
from pathlib import Path

from mmhydra.errors import UserError
from mmhydra.launch.points import Point
from mmhydra.launch.sweeps.compiling import compiled, without_start
from mmhydra.launch.sweeps.freezing import SweepOrigin
from mmhydra.launch.sweeps.recording import key_of
from mmhydra.sweep.planned import Parent, Planned
from mmhydra.sweep.record import CURE, Record, RecordedPoint, RecordError


def planned_again(points: Sequence[RecordedPoint]) -> list[Planned]:
    """Recorded points as they were planned. Raises RecordError for one whose parent is not before it among them."""
    numbers = {key_of(point): index for index, point in enumerate(points)}
    found: list[Planned] = []
    for point in points:
        overrides, parent = point.overrides, None
        if point.parent is not None:
            index = numbers.get((point.parent.name, point.parent.run_id))
            if index is None or index >= len(found):
                raise RecordError(
                    f"sweep.json: point {point.number} comes after the run {point.parent.run_id}, which is no point "
                    f"before it; {CURE}"
                )
            parent = Parent(index, point.parent.start)
            overrides = without_start(overrides, point.parent.start)
        more = tuple(numbers[run] for run in point.more_parents if run in numbers)
        found.append(Planned(overrides, point.label, point.stage, parent, point.num_best, more))
    return found


def points_of(record: Record, origin: SweepOrigin) -> list[Point]:
    """The points of a record, composed again, from the user's folders as they were.

    Raises UserError where they are not what they were.
    """
    there = [point for point in record.points if point.in_study]
    kept = {folder["path"]: folder["snapshot"] for folder in origin.origin.provenance["config_folders"]}
    folders = [Path(kept.get(folder, folder)) for folder in record.config_dirs]
    points = compiled(planned_again(there), folders, say=lambda text: None)
    composed = {key_of(point): point.sha256 for point in points}
    for recorded in there:
        sha256 = composed.get(key_of(recorded))
        if sha256 != recorded.config_sha256:
            now = "it is another run" if sha256 is None else f"its config has SHA-256 {sha256[:12]}"
            raise UserError(
                f"point {recorded.number} of {record.name} ({' '.join(recorded.overrides)}) is not composed as it was "
                f"when the sweep was submitted: {now}, recorded is {recorded.run_id} of {recorded.config_sha256[:12]}. "
                "conf/ or its data has changed since; put back what was there, or type the command of the sweep again"
            )
    return points
