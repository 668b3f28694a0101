"""What a node's smoke test found: written by the node, read by whoever decides what comes of it."""

import json
import re
from dataclasses import asdict, dataclass
from typing import Any

from mmhydra.errors import UserError
from mmhydra.files import write_json
from mmhydra.run.directory import Attempt

NOT_RUN = "not run"  # how the message of a check begins that came too late to be asked
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


class PreflightError(UserError):
    """Something that no node can be tested with, or that a check found."""


@dataclass(frozen=True)
class Check:
    """One question and its answer."""

    name: str
    ok: bool
    message: str
    seconds: float


@dataclass(frozen=True)
class Report:
    """All checks of one node."""

    node: str
    seconds: float
    checks: tuple[Check, ...]

    def __post_init__(self) -> None:
        require_safe(self.node)

    @property
    def ok(self) -> bool:
        """Whether the node may take part."""
        return bool(self.checks) and all(check.ok for check in self.checks)

    @property
    def document(self) -> dict[str, Any]:
        """What the file holds."""
        checks = [asdict(check) for check in self.checks]
        return {"node": self.node, "ok": self.ok, "seconds": self.seconds, "checks": checks}

    def write(self, attempt: Attempt) -> None:
        """Writes attempts/N/preflight/<node>.json. Raises OSError. Not bounded in time: `run` is."""
        attempt.preflight.mkdir(exist_ok=True)
        write_json(attempt.preflight / f"{self.node}.json", self.document)


def read_reports(attempt: Attempt) -> dict[str, Report]:
    """The reports that there are, by node. A file that is no report is none: its node has not answered."""
    reports = {}
    for path in sorted(attempt.preflight.glob("*.json")):
        try:
            document = json.loads(path.read_text())
            checks = tuple(Check(**check) for check in document["checks"])
            report = Report(str(document["node"]), float(document["seconds"]), checks)
        except (OSError, ValueError, TypeError, KeyError):
            continue
        if report.node == path.stem:
            reports[report.node] = report
    return reports


def require_safe(node: str) -> None:
    """Raises PreflightError for a node whose name is no file name."""
    if not _SAFE_NAME.fullmatch(node):
        raise PreflightError(f"{node!r} is no name of a node: letters, digits, '.', '_' and '-', 200 at most")
