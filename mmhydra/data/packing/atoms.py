"""Where documents may be cut: the runs of ids that stay together, computed for all documents of a shard at once.

An *atom* is a run of ids that no cut parts: one id of text, one unit of a signal. The special ids that lead to a signal
(`<|camera_front|><|video_start|>`) belong to its first unit, the one that ends it (`<|image_end|>`) to its last, so
that an image with its marks is one atom and no sequence begins in the middle of marks.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmhydra.config.tokens import MODALITIES
from mmhydra.data.shards.document import NO_OPENER, Document
from mmhydra.data.shards.index import FIRST_MEDIA, MODALITY, OPENER, PLACE, UNIT, segment_rows

_SPECIAL = MODALITIES.index("special")


class AtomRuns(NamedTuple):
    """Runs of atoms of one size, in order, without gaps inside a document; int64 [num_runs] each.

    A run begins at place `start`. A piece that begins with its first atom needs the opener `first_opener`, with a later
    one `opener`; NO_OPENER is none. The end-of-document id is in no run: it is never an input.
    """

    start: NDArray[np.int64]
    size: NDArray[np.int64]
    first_opener: NDArray[np.int64]
    opener: NDArray[np.int64]

    def positions(self) -> NDArray[np.int64]:
        """Positions that one atom of each run needs in a sequence, its opener included."""
        return self.size + ((self.first_opener > NO_OPENER) | (self.opener > NO_OPENER))


def largest_unit(document: Document) -> int:
    """Positions that the longest atom of a document needs: no sequence can be shorter."""
    rows = np.array(segment_rows(document.segments, 0), np.int64)
    if not (rows[:, MODALITY] >= FIRST_MEDIA).any():
        return 1
    return int(atom_runs(np.array([0, len(document.ids)]), rows).positions().max())


def atom_runs(edges: NDArray[np.int64], segments: NDArray[np.int64]) -> AtomRuns:
    """The atoms of a shard's documents. `edges` [num_documents + 1]: their first places; `segments`: see index.py."""
    start, opener, unit = segments[:, PLACE], segments[:, OPENER], segments[:, UNIT]
    document = np.searchsorted(edges, start, side="right") - 1
    last = edges[document + 1] - 1  # the end-of-document id
    end = np.minimum(np.append(start[1:], edges[-1]), last)
    special = segments[:, MODALITY] == _SPECIAL
    media = segments[:, MODALITY] >= FIRST_MEDIA

    # Neighbouring special segments of a document are one group of marks between what is before and after it.
    joins = np.zeros(len(start), bool)  # to the segment before
    joins[1:] = special[1:] & special[:-1] & (document[1:] == document[:-1])
    heads = np.flatnonzero(special & ~joins)
    tails = np.flatnonzero(special & ~np.append(joins[1:], False)) if len(joins) else heads
    first, stop = start[heads], end[tails]
    after_media = (heads > 0) & media[heads - 1] & (document[heads - 1] == document[heads])
    following = np.minimum(tails + 1, len(start) - 1)
    before_media = (following > tails) & media[following] & (document[following] == document[tails])
    # A single mark between two signals opens the second.
    closing = np.where(after_media & (stop - first > before_media), 1, 0)

    opened_at, closed_at = start.copy(), end.copy()  # of each media segment with its marks
    opened_at[following[before_media]] = (first + closing)[before_media]
    closed_at[heads[after_media] - 1] = (first + closing)[after_media]

    none = np.full_like(start, NO_OPENER)
    single = media & (end - start <= unit)
    many = media & ~single
    free = ~before_media
    rows = [
        # text and other segments that may be cut anywhere between units
        (start, unit, none, opener, ~media & ~special & (end > start)),
        # marks that belong to no signal, or what is left of them
        (first + closing, np.ones_like(first), none[: len(first)], none[: len(first)], free & (stop > first + closing)),
        (opened_at, closed_at - opened_at, none, none, single),
        (opened_at, start + unit - opened_at, none, none, many),
        (start + unit, unit, opener, opener, many & (end - start > 2 * unit)),
        (end - unit, closed_at - end + unit, opener, opener, many),
    ]
    columns = [np.concatenate([row[column][row[4]] for row in rows]) for column in range(4)]
    order = np.argsort(columns[0], kind="stable")
    return AtomRuns(*(column[order] for column in columns))
