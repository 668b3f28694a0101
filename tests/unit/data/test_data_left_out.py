"""What the list of skipped chunks leaves out follows from the list and the pack: nothing beside the shards is read."""

from dataclasses import replace

import numpy as np
import pytest

from mmhydra.data.packing.pack import pack
from mmhydra.data.packing.sequences import PackedSequences
from mmhydra.data.shards.index import SIDECAR_SUFFIXES
from mmhydra.data.shards.reader import TokenShards
from mmhydra.data.storage.access import Access
from mmhydra.data.storage.faults import WHOLE_SHARD
from mmhydra.data.stream import left_out as module
from mmhydra.data.stream.batches import OpenSplit
from mmhydra.data.stream.mixture import Mixture
from mmhydra.data.stream.skips import NO_SKIPS, Skip, Skips
from mmhydra.data.stream.stream import Stream, StreamSource

LENGTH = 300
NAMES = ("one", "two")


@pytest.fixture
def made(make_dataset):
    draw = np.random.default_rng(0)
    return {
        name: make_dataset(
            [[1] * int(length) for length in draw.integers(1, 900, 60)], max_bytes=40_000, chunk_bytes=4096, name=name
        )
        for name in NAMES
    }


@pytest.fixture
def split(made):
    sequences = {}
    for name in NAMES:
        shards = TokenShards(made[name].folder, made[name].manifest, "web", "train", Access())
        sequences[name] = PackedSequences(shards, pack(shards, LENGTH), eod_id=0)
    mixture = Mixture.constant(dict.fromkeys(NAMES, 1.0), {name: 1 for name in NAMES}, seed=3)
    sources = [StreamSource(name, own) for name, own in sequences.items()]
    return OpenSplit(Stream(sources, mixture, 3, True, 2), sequences, {name: name for name in NAMES})


def skip_of(split, name, number, chunk, from_sample):
    shards = split.sequences[name].shards
    path = paths_of(split, name)[number]
    return Skip(name, path, chunk, "gone", from_sample, *shards.documents_of(path, chunk))


def paths_of(split, name):
    shards = split.sequences[name].shards
    return sorted({shards.shard_of_document(number) for number in range(shards.num_documents)})


def piece_by_piece(split, name, skips):
    """In the words of the definition."""
    found = {}
    for k in range(len(split.sequences[name])):
        since = [
            skip.from_sample
            for skip in skips
            for piece in split.sequences[name].describe(k)
            if skip.dataset == name
            and skip.shard == piece.shard
            and skip.first_document <= piece.document < skip.last_document
        ]
        if since:
            found[k] = min(since)
    return found


@pytest.fixture
def some(split):
    """Chunks next to each other (with a document in both), a shard and its chunk, one twice, and what is elsewhere."""
    return [
        skip_of(split, "one", 0, 3, 500),
        skip_of(split, "one", 1, WHOLE_SHARD, 70),
        skip_of(split, "one", 0, 4, 20),
        skip_of(split, "one", 1, 2, 40),
        skip_of(split, "one", 0, 3, 300),
        skip_of(split, "one", 1, 5, 90),
        replace(skip_of(split, "two", 0, 0, 0), dataset="elsewhere"),
        replace(skip_of(split, "two", 0, 0, 0), shard="shards/none.tar"),
    ]


def test_it_is_each_sequence_with_a_piece_of_a_document_of_the_list_since_the_earliest(split, some, monkeypatch):
    expected = {name: piece_by_piece(split, name, some) for name in NAMES}
    assert set(expected["one"].values()) == {20, 40, 70, 300}
    assert expected["two"] == {}
    assert split.left_out(Skips(tuple(some))) == expected
    monkeypatch.setattr(module, "_SCANNED", 7)
    assert split.left_out(Skips(tuple(reversed(some)))) == expected


def test_all_that_needs_a_byte_of_a_chunk_is_left_out(split):
    sequences = split.sequences["one"]
    needed = {k: sequences.chunks_of(k) for k in range(len(sequences))}
    for path, chunk in sorted(set().union(*needed.values())):
        skip = skip_of(split, "one", paths_of(split, "one").index(path), chunk, 0)
        left_out = split.left_out(Skips((skip,)))["one"]
        assert {k for k, chunks in needed.items() if (path, chunk) in chunks} <= left_out.keys()
        assert len(left_out) < len(sequences) / 3


def test_the_ledger_agrees_with_asking_sample_by_sample(split, some):
    skips, n = Skips(tuple(some)), 3 * len(split.sequences["one"])
    lost = [split.is_skipped(number, skips) for number in range(n)]
    assert 0 < sum(lost) == split.ledger(n, skips).skipped_samples < n
    assert [number for number, is_lost in enumerate(lost) if is_lost] == [
        number
        for number in range(n)
        for ref in [split.stream.locate(number)]
        if piece_by_piece(split, ref.source, some).get(ref.sequence, n) <= number
    ]


def test_nothing_of_the_shards_is_asked_for(made, split, some):
    """Also when what lies beside them was lost after the skip, and by a process that never read it."""
    skips, n = Skips(tuple(some)), 400
    before = split.ledger(n, skips), [split.is_skipped(number, skips) for number in range(n)]
    for path in made["one"].folder.glob("shards/*"):
        path.rename(path.with_name("lost-" + path.name))
    fresh = {
        name: PackedSequences(
            TokenShards(made[name].folder, made[name].manifest, "web", "train", Access()), own.pack, eod_id=0
        )
        for name, own in split.sequences.items()
    }
    again = OpenSplit(split.stream, fresh, split.datasets)
    assert (again.ledger(n, skips), [again.is_skipped(number, skips) for number in range(n)]) == before
    assert not any((made["one"].folder / (made["one"].manifest.shards[0].path + s)).exists() for s in SIDECAR_SUFFIXES)


def test_a_list_that_grows_costs_a_scan_for_its_new_entries_alone(split, some, monkeypatch):
    scanned = []
    whole = module.sequences_without
    monkeypatch.setattr(module, "sequences_without", lambda pack, new: scanned.append(len(new)) or whole(pack, new))
    lists = [Skips(tuple(some[:number])) for number in (2, 4, 6)]
    found = [split.left_out(skips) for skips in lists]
    assert [count for count in scanned if count] == [2, 2, 2]
    assert found[0] != found[1]  # the answer for an older list stays what it was
    scanned.clear()
    assert [split.left_out(Skips.parse(skips.text)) for skips in (*lists, NO_SKIPS, *lists)] == [
        *found,
        {name: {} for name in NAMES},
        *found,
    ]
    assert scanned == []
    other = Skips(tuple(some[3:5]))  # begins otherwise: nothing of it is known
    assert split.left_out(other)["one"] == piece_by_piece(split, "one", other)


def test_a_thousand_entries_are_one_scan(split, monkeypatch):
    scans = []
    whole = module._earliest
    monkeypatch.setattr(module, "_earliest", lambda *columns: scans.append(1) or whole(*columns))
    skip, last = skip_of(split, "one", 0, 3, 0), split.sequences["one"].shards.num_documents
    draw = np.random.default_rng(1)
    entries = []
    for number in range(1000):
        first = int(draw.integers(0, last))
        documents = {"first_document": first, "last_document": first + int(draw.integers(0, 3))}
        entries.append(replace(skip, chunk=number, from_sample=int(draw.integers(50, 10**6)), **documents))
    found = split.left_out(Skips(tuple(entries)))["one"]
    assert len(scans) == 1
    pieces = split.sequences["one"].pack
    for k in range(0, len(split.sequences["one"]), 5):
        documents = pieces.pieces[pieces.edges[k] : pieces.edges[k + 1], 0].tolist()
        since = [e.from_sample for e in entries for d in documents if e.first_document <= d < e.last_document]
        assert found.get(k) == min(since, default=None)
