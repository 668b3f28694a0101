"""What sweep.json says of the points that were composed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from mmhydra.errors import UserError
from mmhydra.launch.points import Point
from mmhydra.launch.preview import preview
from mmhydra.launch.sweeps.asked import Asked, is_of_command
from mmhydra.sweep.record import Record, RecordedParent, RecordedPoint, SweepDirectory, sweep_directory
from mmhydra.sweep.state.best import Run, run_of
from mmhydra.sweep.study.files import Study

Key = Run  # of a point of one sweep


def key_of(point: Point | RecordedPoint) -> Key:
    """What names a point within its sweep."""
    return (point.key[1], point.key[2]) if isinstance(point, Point) else run_of(point)


def directory_of(name: str, points: Sequence[Point]) -> SweepDirectory:
    """Where a sweep is. Raises UserError if its points do not share one folder of runs."""
    folders = dict.fromkeys(point.key[0] for point in points)
    if len(folders) > 1:
        raise UserError(
            f"the points of a sweep share one paths.outputs, these have {', '.join(folders)}; leave it out, or type "
            "a command for each"
        )
    return sweep_directory(Path(next(iter(folders))), name)


def recorded(point: Point, number: int) -> RecordedPoint:
    """A point as it stands in the record."""
    planned, config, (_, name, run_id) = point.planned, point.config, point.key
    parent = None
    if planned.parent is not None:
        assert point.parent is not None, "compiled with its parent"
        _, parent_name, parent_id = point.parent.key
        parent = RecordedParent(parent_name, parent_id, point.parent.config.training.num_steps, planned.parent.start)
    return RecordedPoint(
        number=number,
        name=name,
        run_id=run_id,
        config_sha256=point.sha256,
        overrides=tuple(text for text in point.request.overrides if not is_of_command(text)),
        label=dict(planned.label),
        cluster=config.cluster.name,
        num_steps=config.training.num_steps,
        gpu_hours=preview(config).gpu_hours,
        stage=planned.stage,
        parent=parent,
        num_best=planned.num_best,
        more_parents=tuple(key_of(each) for each in point.more_parents),
    )


def numbered(points: Iterable[Point], before: Sequence[RecordedPoint]) -> list[RecordedPoint]:
    """The points in their order; those that the record has already keep their numbers."""
    numbers: Mapping[Key, int] = {key_of(point): point.number for point in before}
    following = max(numbers.values(), default=0)
    made = []
    for point in points:
        number = numbers.get(key_of(point))
        if number is None:
            following += 1
            number = following
        made.append(recorded(point, number))
    return made


def record_of(
    asked: Asked, study: Study | None, points: Sequence[Point], before: Record | None, code: Mapping[str, str]
) -> Record:
    """The record of a command. Points that the study has not any more follow at its end, as such."""
    now = datetime.now(UTC).isoformat()
    there = numbered(points, before.points if before is not None else ())
    kept = {key_of(point) for point in there}
    gone = [
        replace(point, in_study=False)
        for point in (before.points if before is not None else ())
        if key_of(point) not in kept
    ]
    return Record(
        name=asked.name,
        study=asked.study,
        question=None if study is None else study.question,
        stop_rule=None if study is None else study.stop_rule,
        metric="val_loss" if study is None else study.metric,
        direction="minimize" if study is None else study.direction,
        command=tuple(text for text in asked.command if text != "--prune" and not text.startswith("dry_run=")),
        created=before.created if before is not None else now,
        updated=now,
        points=(*there, *gone),
        code=dict(code),
        config_dirs=tuple(str(folder.absolute()) for folder in asked.config_dirs),
        study_file=None if study is None else str(study.path.absolute()),
    )


def require_same_study(sweep: SweepDirectory, before: Record | None, study: Study) -> None:
    """Refuses a study that is another one than that of the record, though its file has the same name.

    One whose former file is gone was moved, and one that says the same is a copy. Raises UserError.
    """
    if study.search is None and sweep.is_search:
        raise UserError(
            f"the sweep {sweep.name} is a search, and this study has none any more: its points would take the trials' "
            "numbers and be compared with them; save the study under another name"
        )
    was = Path(before.study_file) if before is not None and before.study_file is not None else None
    if was is None or not was.is_file() or was.samefile(study.path) or _content(sweep.study) == study.text.encode():
        return
    raise UserError(
        f"the sweep {sweep.name} is of the study {was}, which is still there, and {study.path.absolute()} is another "
        "one; save one of them under another name, or type paths.outputs=FOLDER for a folder of its own"
    )


def _content(path: Path) -> bytes | None:
    """None for a file that can't be read."""
    try:
        return path.read_bytes()
    except OSError:
        return None


def read_record(sweep: SweepDirectory) -> Record | None:
    """The record of an earlier command; None if there is none. Raises RecordError for one that can't be read."""
    return sweep.read() if sweep.record.exists() else None
