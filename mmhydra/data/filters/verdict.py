"""What a filter says of one record."""

from dataclasses import dataclass, field
from typing import Protocol

from mmhydra.data.records.media import LoadedRecord


@dataclass(frozen=True)
class Verdict:
    """`reason` (a key of FILTER_REASONS) refuses; `changed` is the record as the filter mended it, for what follows."""

    reason: str | None = None
    detail: str = ""
    changed: LoadedRecord | None = None
    pii: dict[str, int] = field(default_factory=dict)
    language: str | None = None


PASSED = Verdict()


class RecordJudge(Protocol):
    """One filter. It looks at one record at a time and keeps nothing of it."""

    def judge(self, loaded: LoadedRecord) -> Verdict:
        """Whether the record goes on, and how."""
        ...
