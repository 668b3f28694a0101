"""What a build counted: part of the manifest, and all that the data card and the report are made of."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=0)]


class _Counted(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Histogram(_Counted):
    """How many values fell into [edges[i], edges[i + 1]); the first and last bin also take what lies outside."""

    unit: str  # tokens, s, characters/s ...
    edges: tuple[float, ...]
    counts: tuple[Count, ...]

    @classmethod
    def empty(cls, unit: str, edges: Sequence[float]) -> Self:
        """No values yet."""
        return cls(unit=unit, edges=tuple(edges), counts=(0,) * (len(edges) - 1))


class FilterCount(_Counted):
    """One filter of the chain: how many records it saw, refused, and let through changed (PII made unreadable)."""

    seen: Count = 0
    rejected: Count = 0
    changed: Count = 0


class SourceStatistics(_Counted):
    """What became of the records of one source."""

    records: Count = 0
    accepted: Count = 0
    rejected: dict[str, Count] = {}  # by reason
    filters: dict[str, FilterCount] = {}  # by the filter's name, in the order of the chain
    documents: dict[str, Count] = {}  # by split
    tokens: dict[str, dict[str, Count]] = {}  # by split, then modality (special ids count as "special")
    loss_tokens: dict[str, Count] = {}  # by split: ids that are labels, see Document.num_labels
    templates: dict[str, Count] = {}  # documents by template
    languages: dict[str, Count] = {}  # documents by language
    licenses: dict[str, Count] = {}  # documents by license
    pii: dict[str, Count] = {}  # findings by kind, in the records that the pii filter saw
    histograms: dict[str, Histogram] = {}  # see HISTOGRAMS


# What is measured of every accepted document or record, with its unit and edges.
HISTOGRAMS: dict[str, tuple[str, tuple[float, ...]]] = {
    "document_length": ("tokens", tuple(float(1 << power) for power in range(0, 21))),
    "text_length": ("characters", tuple(float(1 << power) for power in range(0, 21))),
    "audio_duration": ("s", (0, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)),
    "video_duration": ("s", (0, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)),
    # Decoded length of each sound and video less the length that the record's metadata states.
    "duration_error": ("s", (-60, -10, -5, -2, -1, -0.5, -0.1, 0.1, 0.5, 1, 2, 5, 10, 60)),
    # Longest sound less longest video of a record that has both.
    "audio_less_video": ("s", (-60, -10, -5, -2, -1, -0.5, -0.1, 0.1, 0.5, 1, 2, 5, 10, 60)),
    # End of the last caption less the end of the signal: positive is text about what is not there.
    "caption_overhang": ("s", (-60, -10, -5, -2, -1, -0.5, -0.1, 0.1, 0.5, 1, 2, 5, 10, 60)),
    "characters_per_second": ("characters/s", (0, 1, 2, 5, 10, 15, 20, 25, 30, 50, 100)),
}


def add(total: dict[str, int], counts: Iterable[tuple[str, int]]) -> None:
    """Adds counts to a running total in place."""
    for key, count in counts:
        total[key] = total.get(key, 0) + count
