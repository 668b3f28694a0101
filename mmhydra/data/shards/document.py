"""A document: one record as ids of the unified vocabulary, and what the ids are."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

NO_OPENER = -1


class Segment(NamedTuple):
    """A run of ids of one kind inside a document. Segments follow each other without a gap.

    `unit` ids are never parted by a cut: 1 for text, the codebooks of one audio frame, all ids of an image, all ids
    of one step of a video. Where a document is cut between two units of a segment, the later piece begins with
    `opener`, the id that begins the modality (`<|audio_start|>`), or with nothing (NO_OPENER).
    """

    modality: str  # text, image, audio, video or special
    start: int  # first id's place in the document
    length: int  # ids
    unit: int  # ids; divides length
    loss: bool  # whether these ids are labels
    opener: int  # an id, or NO_OPENER


@dataclass(frozen=True)
class Document:
    """`ids`, int64 [n], closed by the end-of-document id, and their segments from 0 to n."""

    ids: NDArray[np.int64]
    segments: tuple[Segment, ...]

    def __post_init__(self) -> None:
        place = 0
        for segment in self.segments:
            assert segment.start == place, segment
            assert segment.length > 0, segment
            assert segment.length % segment.unit == 0, segment
            place += segment.length
        assert place == len(self.ids), f"segments cover {place} of {len(self.ids)} ids"

    @property
    def num_labels(self) -> int:
        """Ids with loss but the first one, which nothing comes before. A cut behind an opener repeats one of them."""
        return sum(segment.length for segment in self.segments if segment.loss) - self.segments[0].loss


def text_document(ids: Sequence[int] | NDArray[np.int64], end_id: int) -> Document:
    """Text alone, all of it with loss, closed by `end_id`."""
    array = np.array([*ids, end_id], dtype=np.int64)
    segments = [Segment("text", 0, len(array) - 1, 1, True, NO_OPENER)] if len(array) > 1 else []
    return Document(array, (*segments, Segment("special", len(array) - 1, 1, 1, True, NO_OPENER)))


def to_json(segments: Iterable[Segment]) -> list[list[Any]]:
    """Segments as JSON keeps them."""
    return [list(segment) for segment in segments]


def from_json(rows: Iterable[Sequence[Any]]) -> tuple[Segment, ...]:
    """The inverse of `to_json`. Raises TypeError or ValueError for rows that are none."""
    return tuple(Segment(str(m), int(s), int(n), int(u), bool(loss), int(o)) for m, s, n, u, loss, o in rows)
