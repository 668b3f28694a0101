"""Which sweep or run a person means."""

import re
from difflib import get_close_matches
from pathlib import Path

from mmhydra import paths
from mmhydra.errors import UserError
from mmhydra.files import read_object
from mmhydra.monitor.find import NotFoundError, find
from mmhydra.monitor.reading import written_at
from mmhydra.run.directory import IDENTITY, RunDirectory
from mmhydra.sweep.record import ARRAY_RECORD, ARRAYS, FOLDER, RECORD, SweepDirectory, sweep_directory

_ARRAY_ID = re.compile(r"\d+")
_NAME = re.compile(r"[^/\\]+")


def find_any(wanted: str) -> RunDirectory | SweepDirectory:
    """The run or the sweep that a path leads into or a name, an id or a SLURM job names. Raises UserError."""
    sweep = _sweep(wanted)
    if sweep is not None:
        return sweep
    try:
        return find(wanted)
    except UserError as error:
        known = known_sweeps()
        if not known or "may be any of" in str(error):
            raise
        raise NotFoundError(f"{error}; or a sweep: {_suggested(wanted, known)}") from error


def find_sweep(wanted: str) -> SweepDirectory:
    """The sweep of a name below outputs/sweeps, or of any path in one. Raises UserError."""
    sweep = _sweep(wanted)
    if sweep is not None:
        return sweep
    known = known_sweeps()
    told = f"sweeps are: {_suggested(wanted, known)}" if known else "there is none yet"
    where = paths.short(outputs() / FOLDER)
    raise NotFoundError(f"{wanted} is no sweep in {where} and no path in one; {told}")


def known_sweeps() -> list[str]:
    """Names of all sweeps, the one whose record changed last first."""
    records = [(written_at(path), path.parent.name) for path in (outputs() / FOLDER).glob(f"*/{RECORD}")]
    # One without a time was removed since it was listed.
    return [name for _, name in sorted(((at, name) for at, name in records if at is not None), reverse=True)]


def outputs() -> Path:
    """Where runs and sweeps are."""
    return Path(paths.folder("MMHYDRA_OUTPUTS", "outputs"))


def _sweep(wanted: str) -> SweepDirectory | None:
    path = Path(wanted).absolute()
    try:
        for folder in (path, *path.parents) if path.exists() else ():
            if (folder / RECORD).is_file():
                return SweepDirectory(folder)
            if (folder / IDENTITY).is_file():
                return None
        named = sweep_directory(outputs(), wanted)
        if _NAME.fullmatch(wanted) and named.record.is_file():
            return named
    except (OSError, ValueError):  # too long, not readable, or no path at all
        return None
    if _ARRAY_ID.fullmatch(wanted):  # the id of an array, whose tasks are runs
        for record in (outputs() / FOLDER).glob(f"*/{ARRAYS}/*/{ARRAY_RECORD}"):
            if str(read_object(record).get("job_id")) == wanted:
                return SweepDirectory(record.parent.parent.parent)
    return None


def _suggested(wanted: str, known: list[str]) -> str:
    near = get_close_matches(wanted, known, 3)
    return f"did you mean {', '.join(near)}?" if near else ", ".join([*known[:8], *(["..."] if len(known) > 8 else [])])
