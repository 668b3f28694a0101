"""SLURM's tools as small scripts with canned answers, alone on PATH: the only thing that is faked is the process."""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from mmhydra.slurm import answers

INVALID = "slurm_load_jobs error: Invalid job id specified"
UNREACHABLE = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
NO_ACCOUNTING = "Slurm accounting storage is disabled"


class FakeSlurm:
    """A folder of tools. A tool that was given no answer is not there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def environment(self) -> dict[str, str]:
        """Variables for a command that is to find these tools and no others."""
        return {**os.environ, "PATH": str(self.folder)}

    def answer(self, tool: str, out: str = "", err: str = "", code: int = 0, *, hangs: bool = False) -> None:
        """What a tool prints and ends with from now on; one that hangs does so with a child of its own."""
        (self.folder / f"{tool}.out").write_text(out)
        (self.folder / f"{tool}.err").write_text(err)
        here = shlex.quote(str(self.folder / tool))
        lines = [
            "#!/bin/bash",
            f'printf "%s\\n" "{tool} $*" >> {shlex.quote(str(self.folder / "calls"))}',
            f'printf "%s\\n" "$(/usr/bin/env)" > {here}.env',
            *(["/bin/sleep 60", "exit 0"] if hangs else []),
            f"/bin/cat {here}.out",
            f"/bin/cat {here}.err >&2",
            f"exit {code}",
        ]
        script = self.folder / f".{tool}.new"
        script.write_text("\n".join(lines) + "\n")
        script.chmod(0o755)
        script.replace(self.folder / tool)

    def remove(self, tool: str) -> None:
        """The site has no such tool."""
        (self.folder / tool).unlink(missing_ok=True)

    def forgets(self) -> None:
        """A controller that does not know the job, and no accounting."""
        self.answer("squeue", err=INVALID, code=1)
        self.answer("scontrol", err=INVALID, code=1)
        self.answer("sacct", err=NO_ACCOUNTING, code=1)

    def is_down(self) -> None:
        """A controller that can't be reached, and no accounting."""
        self.answer("squeue", err=UNREACHABLE, code=1)
        self.answer("scontrol", err=UNREACHABLE, code=1)
        self.answer("sacct", err=NO_ACCOUNTING, code=1)

    def has(self, *rows: str) -> None:
        """A controller that knows jobs, by rows of `squeue_row`."""
        self.answer("squeue", "".join(f"{row}\n" for row in rows))

    @property
    def calls(self) -> list[str]:
        """Command lines so far, oldest first."""
        file = self.folder / "calls"
        return file.read_text().splitlines() if file.exists() else []

    def environment_of(self, tool: str) -> dict[str, str]:
        """What a tool was last started with."""
        lines = (self.folder / f"{tool}.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)


def squeue_row(
    job: str,
    state: str,
    *,
    reason: str = "None",
    nodes: str = "",
    status: int = 0,
    restarts: int = 0,
    used: str = "0:00",
    left: str = "10:00",
    start: str = "N/A",
    columns: Mapping[str, int] = answers.SQUEUE_COLUMNS,
) -> str:
    """A line as `squeue -O` of SLURM 22.05 prints it; `status` as wait(2) gives it."""
    row = {
        "JobArrayID": job,
        "State": state,
        "exit_code": str(status),
        "RestartCnt": str(restarts),
        "TimeUsed": used,
        "TimeLeft": left,
        "StartTime": start,
        "Reason": reason,
        "NodeList": nodes,
    }
    return "".join(row[name].ljust(width) for name, width in columns.items())
