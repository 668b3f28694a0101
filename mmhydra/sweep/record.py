"""`outputs/sweeps/NAME/`: what a sweep is made of, written before the first of its points is submitted."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from mmhydra.errors import UserError
from mmhydra.files import write_json
from mmhydra.run.directory import RunDirectory
from mmhydra.sweep.planned import Start

RECORD = "sweep.json"
FOLDER = "sweeps"  # below outputs/
SETTING = "setting.json"  # in the folder of a search, written by `mmhydra.launch.search` as it begins
DRIVER = "driver.json"  # in the folder of a search whose driver runs as a job, written by `mmhydra.launch.search`
ARRAYS = "arrays"  # in the folder of a sweep
ARRAY_RECORD = "array.json"  # in the folder of an array, written by `mmhydra.launch.array`
ARRAY_SCRIPT = "array.sh"  # beside it, for sbatch
_VERSION = 1
CURE = (
    "read it with the mmhydra that wrote it, or move the file away and type the command of the sweep again: runs that "
    "are there are found by their ids"
)
_STRICT = ConfigDict(strict=True, extra="forbid")
_ARRAY = re.compile(r"\d{4,}")


class RecordError(UserError):
    """A folder that is no sweep, or whose record can't be read."""


@dataclass(frozen=True)
class RecordedParent:
    """The run whose checkpoint of `step` a point starts from; with `start` none it only comes after it."""

    __pydantic_config__ = _STRICT

    name: str
    run_id: str
    step: int
    start: Start


@dataclass(frozen=True)
class RecordedPoint:
    """One run of a sweep, by name.

    `number` counts from 1 and is kept when the study changes. `in_study` is False for a point that an earlier command
    submitted and the study has not any more. `gpu_hours` is None where the cluster has no time limit. `more_parents`
    are names and ids of further runs whose child it is too, where its stage takes the best (`num_best`).
    """

    __pydantic_config__ = _STRICT

    number: int
    name: str
    run_id: str
    config_sha256: str
    overrides: tuple[str, ...]
    label: Mapping[str, str]
    cluster: str
    num_steps: int
    gpu_hours: float | None = None
    stage: str | None = None
    parent: RecordedParent | None = None
    num_best: int | None = None
    more_parents: tuple[tuple[str, str], ...] = ()
    in_study: bool = True

    @property
    def parents(self) -> list[tuple[str, str]]:
        """The runs of all whose child it is, by name and id."""
        first = [] if self.parent is None else [(self.parent.name, self.parent.run_id)]
        return [*first, *self.more_parents]


@dataclass(frozen=True)
class Record:
    """A sweep. `metric` is the key of a record in metrics.jsonl that says which point is best."""

    __pydantic_config__ = _STRICT

    name: str
    study: str | None  # None for a plain -m
    question: str | None
    stop_rule: str | None
    metric: str
    direction: Literal["minimize", "maximize"]
    command: tuple[str, ...]  # arguments of mmhydra.train that go on with it
    created: str  # ISO 8601, UTC
    updated: str
    points: tuple[RecordedPoint, ...]
    code: Mapping[str, str] = field(default_factory=dict)  # `commit`, and `snapshot`: path of the stored code
    config_dirs: tuple[str, ...] = ()  # folders of the user's own groups, absolute
    study_file: str | None = None  # where the study was read last, absolute; None for a plain -m and in old records


_RECORD = TypeAdapter(Record)


@dataclass(frozen=True)
class SweepDirectory:
    """The folder of one sweep."""

    path: Path

    @property
    def outputs(self) -> Path:
        """Where the runs are."""
        return self.path.parent.parent

    @property
    def name(self) -> str:
        """The sweep's name."""
        return self.path.name

    @property
    def record(self) -> Path:
        """The points, and why there are any."""
        return self.path / RECORD

    @property
    def study(self) -> Path:
        """The study as it was read last."""
        return self.path / "study.yaml"

    @property
    def lease(self) -> Path:
        """Who may submit now; see `mmhydra.run.lease`."""
        return self.path / "lease.json"

    @property
    def origin(self) -> Path:
        """The code, the packages and the uncommitted changes that its points start with: provenance and patches."""
        return self.path / "origin"

    @property
    def search(self) -> Path:
        """What a search keeps."""
        return self.path / "search"

    @property
    def is_search(self) -> bool:
        """Whether its points are trials of a search, which ends some of them early."""
        return (self.search / SETTING).is_file()

    @property
    def report(self) -> Path:
        """The page of `python -m mmhydra.report`."""
        return self.path / "report.html"

    @property
    def arrays(self) -> list[Path]:
        """Folders of job arrays, oldest first."""
        folder = self.path / ARRAYS
        if not folder.is_dir():
            return []
        return sorted(
            (path for path in folder.iterdir() if _ARRAY.fullmatch(path.name)), key=lambda path: int(path.name)
        )

    def others(self) -> Iterator["SweepDirectory"]:
        """The other sweeps beside this one, by name."""
        for record in sorted(self.path.parent.glob(f"*/{RECORD}")):
            if record.parent.name != self.name:
                yield SweepDirectory(record.parent)

    def new_array(self) -> Path:
        """Makes the folder of the next array. For whoever holds the lease."""
        before = self.arrays
        folder = self.path / ARRAYS / f"{int(before[-1].name) + 1 if before else 1:04d}"
        folder.mkdir(parents=True)
        return folder

    def run(self, point: RecordedPoint) -> RunDirectory:
        """The directory of a point, which need not be there yet."""
        return RunDirectory(self.outputs / point.name / point.run_id)

    def write(self, record: Record) -> None:
        """Replaces the record in one step."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.record, {"schema_version": _VERSION, **asdict(record)})

    def read(self) -> Record:
        """The record. Raises RecordError."""
        if not self.record.exists():
            raise RecordError(f"{self.path} is no sweep: it has no {RECORD}; type the command of the sweep again")
        try:
            document = json.loads(self.record.read_bytes())
            version = document.pop("schema_version")
            if version != _VERSION:
                raise ValueError(f"it has version {version}, this code reads version {_VERSION}")
            return _RECORD.validate_json(json.dumps(document))
        except ValidationError as error:
            # What this code does not know says most: the file is of another version.
            first = min(error.errors(), key=lambda one: one["type"] != "unexpected_keyword_argument")
            told = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
            raise RecordError(f"{self.record} can't be read: {told}; {CURE}") from error
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            told = f"it has no {error}" if isinstance(error, KeyError) else str(error)
            raise RecordError(f"{self.record} can't be read: {told}; {CURE}") from error


def sweep_directory(outputs: Path, name: str) -> SweepDirectory:
    """`outputs/sweeps/<name>`."""
    return SweepDirectory(outputs / FOLDER / name)
