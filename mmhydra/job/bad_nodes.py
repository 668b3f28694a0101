"""Nodes that failed their smoke test: whose fault it is, and the file that keeps jobs away from them."""

import fcntl
import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from mmhydra.config.schema import RunConfig
from mmhydra.errors import UserError
from mmhydra.job.report import NOT_RUN, Report
from mmhydra.run.directory import Attempt

# What all nodes share. The rest (devices, memory, clock) a node has of its own: on the only node it is to blame for it.
_SHARED = ("config", "storage", "space", "data")
_NO_REPORT = "it gave no report"


class ExcludeFileError(UserError):
    """The file of bad nodes can't be read."""


def faults(nodes: Iterable[str], reports: Mapping[str, Report]) -> dict[str, str]:
    """What is wrong, by node; empty if all passed."""
    found = {}
    for node in nodes:
        report = reports.get(node)
        if report is None:
            found[node] = _NO_REPORT
        elif not report.ok:
            found[node] = "; ".join(f"{check.name}: {check.message}" for check in report.checks if not check.ok)
    return found


def to_exclude(nodes: Iterable[str], reports: Mapping[str, Report]) -> list[str]:
    """The nodes that are to blame: with a fault of their own, or silent while others answered.

    What all nodes share (data, storage) is nobody's fault: a slow file server would put half of a cluster on the list.
    If all of several nodes have faults of their own, the config asks for what they are not.
    """
    nodes = list(nodes)
    bad = [node for node in nodes if _is_to_blame(reports.get(node), anybody_answered=bool(reports))]
    return bad if len(bad) < len(nodes) or len(nodes) == 1 else []


def _is_to_blame(report: Report | None, *, anybody_answered: bool) -> bool:
    if report is None:
        return anybody_answered
    failed = (check for check in report.checks if not check.ok and not check.message.startswith(NOT_RUN))
    return any(check.name not in _SHARED for check in failed)


def exclude_file(config: RunConfig) -> Path:
    """The file of the cluster's bad nodes."""
    slurm = config.cluster.slurm
    if slurm is not None and slurm.exclude_file is not None:
        return Path(slurm.exclude_file)
    return Path(config.paths.outputs) / ".cluster" / config.cluster.name / "exclude"


def excluded(file: Path) -> list[str]:
    """The nodes that a file names: one a line, what follows a # is a reason for people.

    Raises ExcludeFileError for a file that can't be read.
    """
    try:
        lines = file.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ExcludeFileError(f"cluster.slurm.exclude_file={file} can't be read: {error.strerror}") from error
    names = (line.partition("#")[0].strip() for line in lines)
    return list(dict.fromkeys(name for name in names if name))


def exclude(config: RunConfig, attempt: Attempt, why: Mapping[str, str]) -> None:
    """Adds nodes to the file, each with time, run and reason. Raises OSError."""
    file = exclude_file(config)
    file.parent.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    with open(file, "a+") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)  # of two jobs that find the same node one writes it
        known = excluded(file)
        opened.seek(0)  # what is written goes to the end all the same
        if known and not opened.read().endswith("\n"):
            opened.write("\n")  # a person's last line
        for node, reason in why.items():
            if node not in known:
                told = " ".join(reason.split())
                opened.write(f"{node}  # {now} {attempt.run.path.name} attempt {attempt.number}: {told}\n")
        opened.flush()
        os.fsync(opened.fileno())
