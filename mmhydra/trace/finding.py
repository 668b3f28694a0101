"""From a record to the steps that see it: the order of the stream, read backwards."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from difflib import get_close_matches
from typing import NamedTuple

import numpy as np

from mmhydra.data.datasets import HELDOUT
from mmhydra.data.packing.pack import DOCUMENT, LENGTH, OFFSET, OPENER
from mmhydra.data.packing.sequences import PackedSequences
from mmhydra.data.shards.document import NO_OPENER
from mmhydra.data.shards.manifest import ManifestError
from mmhydra.data.shards.reader import TokenShards
from mmhydra.data.storage.faults import BadChunk, ChunkFault, ShardError
from mmhydra.trace.opening import Traced, TraceError
from mmhydra.track.jsonl import read_jsonl

_KEY = re.compile(r"\d{9}")
_SHARD_KEY = re.compile(r"(?P<dataset>[^/:]+)/(?P<shard>[^:]+):(?P<key>\d{9})")
_COMPARED = 20_000  # names that a misspelt one is compared with: difflib is slow
_NEAR = 3

Progress = Callable[[str, int], None]  # a source that is looked through, and its number of documents


class Found(NamedTuple):
    """A document that a key names."""

    source: str
    document: int
    key: str
    shard: str
    unique_id: str | None  # None where it can't be read


SEEN, SKIPPED, TO_COME = "seen", "skipped", "to come"


class Visit(NamedTuple):
    """A sample that holds a piece of a document: the document's ids [offset, offset + length) at `position`."""

    step: int
    number: int  # in the step
    rank: int  # data-parallel
    n: int
    epoch: int
    sequence: int
    offset: int
    length: int
    position: int
    state: str  # SEEN, SKIPPED or TO_COME


def find_documents(traced: Traced, key: str, on_source: Progress) -> list[Found]:
    """The documents of the run's training data that a key names: `SOURCE/KEY`, `DATASET/SHARD:KEY` or a unique_id.

    Raises TraceError for a key that names none, with names that are near, and ShardError for a key of nine digits that
    a source does not have.
    """
    if (match := _SHARD_KEY.fullmatch(key)) is not None:
        return [_by_shard(traced, match["dataset"], match["shard"], match["key"])]
    source, _, digits = key.rpartition("/")
    if _KEY.fullmatch(digits) and source in traced.split.sequences:
        return [_found(traced, source, traced.split.sequences[source].shards.find(digits))]
    return _by_unique_id(traced, key, on_source)


def _by_shard(traced: Traced, dataset: str, shard: str, key: str) -> Found:
    if dataset not in traced.manifests:
        raise TraceError(f"the run reads no dataset {dataset}; it reads {', '.join(traced.manifests)}")
    entry = next((e for e in traced.manifests[dataset].shards if shard in (e.path, e.path.rpartition("/")[2])), None)
    if entry is None:
        near = _near(shard, [entry.path for entry in traced.manifests[dataset].shards])
        raise TraceError(f"dataset {dataset} has no shard {shard}{near}")
    if entry.split == HELDOUT:
        raise TraceError(f"{dataset}/{shard} is held out: no step trains on it")
    if traced.split.datasets.get(entry.source) != dataset:
        names = ", ".join(traced.split.sequences)
        raise TraceError(
            f"{dataset}/{shard} is of source {entry.source}, which the run does not read; it reads {names}"
        )
    shards = traced.split.sequences[entry.source].shards
    document = shards.find(key)
    if (there := shards.shard_of_document(document)) != entry.path:
        raise TraceError(f"{dataset}/{shard} has no document {key}: it is in {there}; type {dataset}/{there}:{key}")
    return _found(traced, entry.source, document)


def _found(traced: Traced, source: str, document: int) -> Found:
    shards = traced.split.sequences[source].shards
    try:
        unique_id = str(shards.info(document)["unique_id"])
    except ShardError:
        unique_id = None
    return Found(source, document, shards.key(document), shards.shard_of_document(document), unique_id)


def _by_unique_id(traced: Traced, unique_id: str, on_source: Progress) -> list[Found]:
    """Looks through all shards, as no index has these names; the bytes tell which documents are worth parsing."""
    needle = json.dumps({"unique_id": unique_id}, ensure_ascii=False).strip("{}").encode()
    found: list[Found] = []
    faults: list[ChunkFault] = []
    for source, sequences in traced.split.sequences.items():
        on_source(source, sequences.shards.num_documents)
        for document in dict.fromkeys(sequences.shards.holding(needle, faults.append)):
            candidate = _found(traced, source, document)
            if candidate.unique_id == unique_id:
                found.append(candidate)
    if not found:
        elsewhere = _elsewhere(traced, unique_id, needle, faults.append)
        raise TraceError(elsewhere or _unknown(traced, unique_id, [fault.bad for fault in faults]))
    return found


def _unknown(traced: Traced, unique_id: str, unread: list[BadChunk]) -> str:
    damaged = "; ".join(bad.place for bad in unread[:_NEAR])
    more = f"; and {len(unread) - _NEAR} more" if len(unread) > _NEAR else ""
    beware = f" (but these can't be read: {damaged}{more})" if unread else ""
    source, sequences = next(iter(traced.split.sequences.items()))
    example = sequences.shards.key(0)
    return (
        f"no document that the run trains on is of a record {unique_id}{beware}{_near(unique_id, _names(traced))}; "
        f"type a record's unique_id, SOURCE/KEY such as {source}/{example}, or DATASET/SHARD:KEY such as "
        f"{traced.split.datasets[source]}/{sequences.shards.shard_of_document(0)}:{example}"
    )


def _names(traced: Traced) -> list[str]:
    """Some unique_ids of each source, as a misspelt one is hardly like only a few."""
    names = []
    share = _COMPARED // len(traced.split.sequences)
    for sequences in traced.split.sequences.values():
        with suppress(ShardError):
            for document in range(min(share, sequences.shards.num_documents)):
                names.append(str(sequences.shards.info(document)["unique_id"]))
    return names


def _elsewhere(traced: Traced, unique_id: str, needle: bytes, on_fault: Callable[[ChunkFault], None]) -> str | None:
    """Whether a record is one that was held out, or refused when its dataset was built.

    `needle` stands in the files of its documents.
    """
    for source, dataset in traced.split.datasets.items():
        folder = traced.folder / dataset
        try:
            for line in read_jsonl(folder / "rejects" / f"{source}.jsonl"):
                if line.get("unique_id") == unique_id:
                    return (
                        f"no step sees record {unique_id}: it was refused when {dataset} was built, for "
                        f"{line.get('reason')}{f' ({detail})' if (detail := line.get('detail')) else ''}"
                    )
        except OSError:
            pass  # a dataset that was built without records
        try:
            heldout = TokenShards(folder, traced.manifests[dataset], source, HELDOUT, traced.access)
            candidates = heldout.holding(needle, on_fault)
            if any(heldout.info(number)["unique_id"] == unique_id for number in candidates):
                return f"no step sees record {unique_id}: it is held out of source {source} of {dataset}"
        except (ShardError, ManifestError):
            continue
    return None


def _near(name: str, names: list[str]) -> str:
    near = get_close_matches(name, names, _NEAR)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def visits(traced: Traced, found: Found, dp: int | None) -> list[Visit]:
    """Every sample of the run, to its end, that holds a piece of a document, in the order of the stream.

    Ranks are those of `dp` data-parallel ranks, or of the attempt that made the step.
    """
    sequences, stream = traced.split.sequences[found.source], traced.split.stream
    first, end = (traced.first_step - 1) * traced.batch, traced.last_step * traced.batch
    rows = []
    for sequence in sequences.pack.sequences_of(found.document, found.document + 1).tolist():
        pieces = list(_pieces_of(sequences, sequence, found.document))
        for n in stream.visits(found.source, sequence, first, end):
            step, number = n // traced.batch + 1, n % traced.batch
            rank = number * traced.dp_of(step, dp) // traced.batch
            epoch = stream.locate(n).epoch
            state = TO_COME if step > traced.newest_step else SKIPPED if traced.is_skipped(n) else SEEN
            rows += [Visit(step, number, rank, n, epoch, sequence, *piece, state) for piece in pieces]
    return sorted(rows, key=lambda visit: (visit.n, visit.position))


def _pieces_of(sequences: PackedSequences, sequence: int, document: int) -> Iterator[tuple[int, int, int]]:
    """Offset, length and first position of each piece of a document in a sequence."""
    edges, pieces = sequences.pack.edges, sequences.pack.pieces
    rows = pieces[edges[sequence] : edges[sequence + 1]]
    needs = rows[:, LENGTH] + (rows[:, OPENER] > NO_OPENER)
    positions = np.cumsum(needs) - needs
    for row in np.flatnonzero(rows[:, DOCUMENT] == document):
        yield int(rows[row, OFFSET]), int(rows[row, LENGTH]), int(positions[row])
