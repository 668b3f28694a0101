"""Which sequences the list of skipped chunks leaves out: a pure function of the list and the pack indexes.

Nothing beside or in a shard is read for it, so it can't fail, and all ranks find the same.
"""

import threading
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mmhydra.data.packing.pack import DOCUMENT, Pack
from mmhydra.data.packing.sequences import PackedSequences
from mmhydra.data.stream.skips import NO_SKIPS, Skip, Skips

_SCANNED = 1 << 20  # pieces that are looked through at a time
_NEVER = np.iinfo(np.int64).max
_KEPT = 4  # lists: a validation's and those before the last entry are asked for in turn


class LeftOut:
    """Answers for the lists that came last; one that only grew costs a scan for its new entries. Safe for threads.

    `sequences` and `datasets` are by source.
    """

    def __init__(self, sequences: Mapping[str, PackedSequences], datasets: Mapping[str, str]) -> None:
        self._sequences, self._datasets = sequences, datasets
        self._known = [(NO_SKIPS, self._nothing())]  # the one used last at the end
        self._lock = threading.Lock()

    def of(self, skips: Skips) -> Mapping[str, Mapping[int, int]]:
        """By source the sequences that a list leaves out, each with the first sample number from which on it is."""
        with self._lock:
            for place in reversed(range(len(self._known))):
                known, found = self._known[place]
                if known is skips or known.entries == skips.entries:
                    self._known.append(self._known.pop(place))
                    return found
            before, found = max(
                (one for one in self._known if one[0].entries == skips.entries[: len(one[0])]),
                key=lambda one: len(one[0]),
                default=(NO_SKIPS, self._nothing()),
            )
            new = skips.entries[len(before) :]
            found = {name: _merged(since, self._of_source(name, new)) for name, since in found.items()}
            self._known = [*self._known[-_KEPT + 1 :], (skips, found)]
            return found

    def _nothing(self) -> dict[str, dict[int, int]]:
        return {name: {} for name in self._sequences}

    def _of_source(self, source: str, skips: Sequence[Skip]) -> dict[int, int]:
        shards, dataset = self._sequences[source].shards, self._datasets[source]
        own = [skip for skip in skips if skip.dataset == dataset and shards.has_shard(skip.shard)]
        return sequences_without(self._sequences[source].pack, own)


def sequences_without(pack: Pack, skips: Sequence[Skip]) -> dict[int, int]:
    """The sequences of a pack with a piece of the documents of `skips`: each with its earliest `from_sample`.

    One scan of all pieces, however many skips there are.
    """
    if not skips:
        return {}
    edges = np.unique([edge for skip in skips for edge in (skip.first_document, skip.last_document)])
    # By stretch between two edges, and one after the last: from which sample on its documents are out.
    out = np.full(len(edges), _NEVER)
    for skip in sorted(skips, key=lambda skip: -skip.from_sample):
        low, high = np.searchsorted(edges, (skip.first_document, skip.last_document))
        out[low:high] = skip.from_sample
    sequences, since = [], []
    for low in range(0, len(pack.pieces), _SCANNED):
        documents = pack.pieces[low : low + _SCANNED, DOCUMENT]
        of_piece = np.append(out, _NEVER)[np.searchsorted(edges, documents, side="right") - 1]
        rows = np.flatnonzero(of_piece < _NEVER)
        sequences.append(np.searchsorted(pack.edges, low + rows, side="right") - 1)
        since.append(of_piece[rows])
    return _earliest(np.concatenate(sequences), np.concatenate(since))


def _earliest(sequences: NDArray[np.int64], since: NDArray[np.int64]) -> dict[int, int]:
    """The smallest number of each sequence."""
    order = np.lexsort((since, sequences))
    unique, first = np.unique(sequences[order], return_index=True)
    return dict(zip(unique.tolist(), since[order][first].tolist(), strict=True))


def _merged(old: dict[int, int], new: dict[int, int]) -> dict[int, int]:
    """The smaller number of each; neither of the two is changed, as others may be reading them."""
    if not new:
        return old
    return old | {sequence: min(since, old.get(sequence, since)) for sequence, since in new.items()}
