"""Stage `verdicts`: duplicates, and which split a record belongs to. Both need to see all records at once.

Memory: about 150 bytes a record, and what the Deduplicator says of itself.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmhydra.config.filters import DuplicatesFilter
from mmhydra.data.build.lines import read_lines
from mmhydra.data.build.plan import READ, Batch, Context, reject
from mmhydra.data.build.reasons import DUPLICATE_ID, known
from mmhydra.data.build.tally import Tally
from mmhydra.data.filters.duplicates import Deduplicator

TRAIN, HELDOUT, DROPPED = 0, 1, 2
SPLITS = ("train", "heldout")
_FILTERS = {"duplicate_exact": "exact_duplicates", "duplicate_near": "near_duplicates"}
_UNUSED_KEY = bytes(16)  # of a chain without exact_duplicates


@dataclass
class Verdicts:
    """Of each batch, in order: the split of each candidate, or DROPPED; and what is to be counted of it."""

    splits: list[NDArray[np.uint8]]
    rejects: dict[int, list[dict[str, str]]]  # by the place of the batch in the list
    tallies: dict[str, Tally]  # by source


@dataclass(frozen=True)
class _Duplicate:
    batch: int
    place: int  # in the batch
    reason: str
    first: int  # number of the candidate, over all batches, that it is the same as


def judge_all(context: Context, batches: Sequence[Batch]) -> Verdicts:
    """Reads the keys of all candidates in the order of the records: the first of several alike is kept."""
    configs = [config for config in context.recipe.filters if isinstance(config, DuplicatesFilter)]
    dedup = Deduplicator(configs)
    verdicts = Verdicts([], {}, {})
    ids: dict[bytes, int] = {}
    edges = [0]
    found: list[_Duplicate] = []
    groups: list[NDArray[np.uint64]] = []
    for number, batch in enumerate(batches):
        arrays = _arrays(context, batch)
        tally = verdicts.tallies.setdefault(batch.source, Tally())
        kept = np.full(len(arrays["splits"]), TRAIN, np.uint8)
        for place, (unique_id, key, signature) in enumerate(_fingerprints(arrays)):
            index = edges[-1] + place
            first = ids.setdefault(unique_id, index)
            same = (DUPLICATE_ID, first) if first != index else dedup.feed(index, key, signature)
            if first == index:
                _count(tally, configs, same and same[0])
            if same:
                kept[place] = DROPPED
                tally.count("rejected", known(same[0]))
                found.append(_Duplicate(number, place, *same))
        tally.accepted += int((kept != DROPPED).sum())
        edges.append(edges[-1] + len(kept))
        verdicts.splits.append(kept)
        groups.append(arrays["splits"])
    verdicts.rejects = _told(context, batches, edges, found)
    _hold_out(context, batches, verdicts, groups)
    return verdicts


def _arrays(context: Context, batch: Batch) -> dict[str, NDArray[Any]]:
    with np.load(batch.file(context, READ, ".npz"), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _fingerprints(arrays: dict[str, NDArray[Any]]) -> Iterator[tuple[bytes, bytes | None, NDArray[np.uint32] | None]]:
    """Hash of the id, key of the content, MinHash signature of each candidate."""
    signatures = iter(arrays["signatures"])
    for unique_id, key, is_signed in zip(arrays["ids"], arrays["keys"], arrays["is_signed"], strict=True):
        content = key.tobytes()
        yield unique_id.tobytes(), content if content != _UNUSED_KEY else None, next(signatures) if is_signed else None


def _count(tally: Tally, configs: Sequence[DuplicatesFilter], reason: str | None) -> None:
    """What each filter of duplicates saw: one that refuses is the last."""
    for config in configs:
        refuses = reason is not None and _FILTERS[reason] == config.kind
        tally.count_filter(config.kind, seen=1, rejected=int(refuses))
        if refuses:
            return


def _told(
    context: Context, batches: Sequence[Batch], edges: Sequence[int], found: Sequence[_Duplicate]
) -> dict[int, list[dict[str, str]]]:
    """The lines of the reject files: the place and id of each duplicate, and of what was there before."""
    firsts = np.searchsorted(np.array(edges), [entry.first for entry in found], side="right") - 1
    wanted: dict[int, set[int]] = {}
    for entry, batch in zip(found, firsts.tolist(), strict=True):
        wanted.setdefault(entry.batch, set()).add(entry.place)
        wanted.setdefault(batch, set()).add(entry.first - edges[batch])
    names: dict[tuple[int, int], tuple[str, str]] = {}
    for number, places in wanted.items():
        lines = islice(read_lines(batches[number].file(context, READ, ".jsonl")), max(places) + 1)
        for place, line in enumerate(lines):
            if place in places:
                names[number, place] = (line["place"], line["record"]["unique_id"])
    rejects: dict[int, list[dict[str, str]]] = {}
    for entry, batch in zip(found, firsts.tolist(), strict=True):
        first_place, first_id = names[batch, entry.first - edges[batch]]
        line = reject(*names[entry.batch, entry.place], entry.reason, f"the same as {first_id} ({first_place})")
        rejects.setdefault(entry.batch, []).append(line)
    return rejects


def _hold_out(
    context: Context, batches: Sequence[Batch], verdicts: Verdicts, groups: Sequence[NDArray[np.uint64]]
) -> None:
    """Puts the groups whose hash is below the fraction into the held-out split, in whichever sources they are.

    Of each source of several groups one at least is held out, and one is not; where sources share groups, that they
    are on one side everywhere comes first.
    """
    fraction = context.recipe.heldout_fraction
    if not fraction:
        return
    kept = [own[splits != DROPPED] for own, splits in zip(groups, verdicts.splits, strict=True)]
    names = [batch.source for batch in batches]
    edge = np.uint64(int(fraction * 2.0**64))
    by_source = [
        np.unique(np.concatenate([own for own, name in zip(kept, names, strict=True) if name == source]))
        for source in dict.fromkeys(names)
    ]
    ordered = [own for own in by_source if len(own) > 1]
    out = np.array([own[0] for own in ordered if own[0] >= edge], np.uint64)
    stay = np.array([own[-1] for own in ordered if own[-1] < edge], np.uint64)
    for own, splits in zip(groups, verdicts.splits, strict=True):
        is_out = ((own < edge) | np.isin(own, out)) & ~np.isin(own, stay)
        splits[is_out & (splits != DROPPED)] = HELDOUT
