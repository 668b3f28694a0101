"""Tiny documents made by hand or at random, whose end-of-document id is 0."""

from typing import Any

import numpy as np
from hypothesis import strategies as st

from mmhydra.data.shards.document import NO_OPENER, Document, Segment

END_ID = 0
MARK_IDS = (90, 91)  # begin and end a signal


def mixed_document(*parts: tuple[Any, ...]) -> Document:
    """A document of segments (modality, length, unit, loss, opener), the last three optional, and its end.

    Ids count up from 1 to 89 and again.
    """
    segments, place = [], 0
    for part in (*parts, ("special", 1)):
        modality, length, unit, loss, opener = (*part, *(1, True, NO_OPENER)[len(part) - 2 :])
        segments.append(Segment(modality, place, length, unit, loss, opener))
        place += length
    return Document(np.array([*(1 + number % 89 for number in range(place - 1)), END_ID]), tuple(segments))


def marked(
    modality: str, length: int, unit: int, opener: int = MARK_IDS[0], loss: bool = True
) -> list[tuple[Any, ...]]:
    """Parts of a document: a signal between its marks."""
    return [("special", 1), (modality, length, unit, loss, opener), ("special", 1)]


@st.composite
def documents(draw: st.DrawFn) -> Document:
    """Text, marks and signals in any order, with and without marks and loss."""
    parts: list[tuple[Any, ...]] = []
    for kind in draw(st.lists(st.sampled_from(["text", "special", "image", "audio", "video", "bare"]), max_size=7)):
        loss = draw(st.booleans())
        if kind in ("text", "special"):
            parts.append((kind, draw(st.integers(1, 12 if kind == "text" else 3)), 1, loss))
            continue
        unit = draw(st.integers(1, 5))
        if kind == "image":
            parts += marked("image", unit, unit, NO_OPENER, loss)
        elif kind == "bare":
            parts.append(("video", unit * draw(st.integers(1, 4)), unit, loss, NO_OPENER))
        else:
            parts += marked(kind, unit * draw(st.integers(1, 6)), unit, draw(st.sampled_from(MARK_IDS)), loss)
    return mixed_document(*parts)
