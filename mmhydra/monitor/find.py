"""Which run a person means: a path, a run id or the beginning of one, a SLURM job id."""

import re
from collections.abc import Iterator
from pathlib import Path

from mmhydra import paths
from mmhydra.errors import UserError
from mmhydra.files import read_object
from mmhydra.monitor.reading import text
from mmhydra.run.directory import IDENTITY, Attempt, RunDirectory, find_run
from mmhydra.run.identity import RUN_ID_LENGTH

_RUN_ID = re.compile(rf"[0-9a-f]{{4,{RUN_ID_LENGTH}}}")
_JOB_ID = re.compile(r"\d+(_\d+)?")


class NotFoundError(UserError):
    """No run, or more than one, is meant."""


def find(wanted: str) -> RunDirectory:
    """The run. Raises UserError that says where it was looked for."""
    path = Path(wanted)
    is_name = bool(_RUN_ID.fullmatch(wanted) or _JOB_ID.fullmatch(wanted))
    if not is_name or path.exists():
        return find_run(path.absolute())
    outputs = Path(paths.folder("MMHYDRA_OUTPUTS", "outputs"))
    runs = list(_runs(outputs))
    by_id = [run for run in runs if _RUN_ID.fullmatch(wanted) and run.path.name.startswith(wanted)]
    by_job = [run for run in runs if any(wanted == job_id(attempt) for attempt in run.attempts)] if not by_id else []
    found = by_id or by_job
    if len(found) == 1:
        return found[0]
    if found:
        lines = [f"  {paths.short(run.path)}" for run in found]
        raise NotFoundError("\n".join([f"{wanted} may be any of {len(found)} runs:", *lines, "type more of the id"]))
    raise NotFoundError(
        f"no run in {paths.short(outputs)} has an id that begins with {wanted}, or had such a job; give a folder like "
        "outputs/NAME/RUN_ID, or point MMHYDRA_OUTPUTS to where the runs are"
    )


def job_id(attempt: Attempt) -> str | None:
    """The SLURM job of an attempt; None for a local one."""
    return text(read_object(attempt.job).get("job_id")) or text(read_object(attempt.submitted).get("job_id"))


def _runs(outputs: Path) -> Iterator[RunDirectory]:
    for identity in sorted(outputs.glob(f"*/*/{IDENTITY}")):
        yield RunDirectory(identity.parent)
