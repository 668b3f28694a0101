"""The chunks of the next window are in memory before its first sample is asked for."""

import time

import numpy as np
import pytest

from mmhydra.config.data import Data, Source
from mmhydra.data.storage.access import Access
from mmhydra.data.storage.faults import BadChunk, ChunkFault, StoreDown
from mmhydra.data.stream.batches import RankBatches, open_split
from mmhydra.data.stream.read_ahead import ReadAhead

LENGTH, WINDOW = 16, 2


@pytest.fixture
def data():
    sources = [Source(name="web", dataset="made", modality="text", weight=1.0, max_epochs=None)]
    return Data.model_construct(name="letters", sources=sources, shuffle=True, window_chunks=WINDOW)


@pytest.fixture
def folder(make_dataset):
    """24 chunks or so."""
    draw = np.random.default_rng(0)
    documents = [draw.integers(1, 100, size).tolist() for size in draw.integers(20, 60, 40)]
    return make_dataset(documents, chunk_bytes=4096).folder.parent


def wait_until(condition):
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def batches_of(split, **more):
    settings = {"global_batch_size": 2, "dp_degree": 1, "dp_rank": 0, "per_yield": 2, "num_workers": 1, "prefetch": 1}
    return RankBatches(split, **settings | more)


def test_a_trainer_never_waits_for_a_chunk_but_those_of_the_first_window(data, folder, monkeypatch):
    access = Access()
    split = open_split(data, folder, "train", seq_len=LENGTH, seed=1, access=access)
    order = split.stream.orders["web"].epoch(0)
    first = {chunk for g in order.groups_of(0) for chunk in chunks_of_group(split, g)}
    loaded = []
    whole = type(access)._content
    monkeypatch.setattr(type(access), "_content", lambda *arguments: loaded.append(1) or whole(*arguments))
    batches = batches_of(split)
    begin, end = order.places_of(1)
    while batches.sample + 2 + 2 < begin:  # what is read ahead is in the first window
        batches.next()
    wait_until(lambda: len(loaded) > len(first) + WINDOW)
    wait_until(lambda: all(is_there(split, access, g) for g in order.groups_of(1)))
    wait_until(lambda: batches._reads.num_ready == 1)  # its thread rests as well
    known = len(loaded)
    own = {chunk for g in order.groups_of(1) for chunk in chunks_of_group(split, g)}
    for n in range(begin, min(end, begin + 8)):
        needed = split.sequences["web"].chunks_of(split.stream.locate(n).sequence)
        split.read(np.array([n]))
        known += len(needed - own)  # a piece that lies in the chunk behind
    assert len(loaded) <= known
    batches.close()


def chunks_of_group(split, group):
    sequences = split.sequences["web"]
    return sequences.chunks_of(int(sequences.pack.groups[group]))


def is_there(split, access, group):
    shards = split.sequences["web"].shards
    keys = [
        (shards._shards[shards._numbers[path]].sidecars_xxh3, chunk) for path, chunk in chunks_of_group(split, group)
    ]
    return all(access.memory.find(key) is not None for key in keys)


def test_it_is_off_where_two_windows_do_not_fit_or_nothing_reads_ahead(data, folder):
    def has_thread(memory_bytes, num_workers):
        access = Access(memory_bytes=memory_bytes)
        batches = batches_of(
            open_split(data, folder, "train", seq_len=LENGTH, seed=1, access=access), num_workers=num_workers
        )
        batches.next()
        found = batches._windows is not None
        batches.close()
        return found

    split = open_split(data, folder, "train", seq_len=LENGTH, seed=1)
    assert split.window_bytes == 2 * WINDOW * 4096  # each chunk with the one behind it
    assert has_thread(2 * split.window_bytes, 1)
    assert not has_thread(2 * split.window_bytes - 1, 1)
    assert not has_thread(2 * split.window_bytes, 0)


def test_a_bad_chunk_ahead_is_left_to_whoever_needs_it(data, folder):
    split = open_split(data, folder, "train", seq_len=LENGTH, seed=1)
    order = split.stream.orders["web"].epoch(0)
    (path, chunk), *_ = chunks_of_group(split, order.groups_of(1)[0])
    tar = folder / "made" / path
    content = bytearray(tar.read_bytes())
    content[chunk * 4096 + 10] ^= 1
    tar.write_bytes(content)
    batches = batches_of(open_split(data, folder, "train", seq_len=LENGTH, seed=1))
    begin, _ = order.places_of(1)
    while batches.sample + 2 + 2 < begin:
        batches.next()
    with pytest.raises(ValueError, match=f"chunk {chunk} "):
        take(batches, 200)
    batches.close()


def take(batches, number):
    for _ in range(number):
        batches.next()


def test_the_window_after_the_last_one_is_the_first_of_the_next_epoch(data, folder):
    access = Access()
    split = open_split(data, folder, "train", seq_len=LENGTH, seed=1, access=access)
    source = split.stream.orders["web"]
    _, end = source.epoch(0).places_of(source.epoch(0).num_windows - 1)
    ahead = ReadAhead(split.stream, split.sequences)
    ahead.at(end - 1)
    wait_until(lambda: all(is_there(split, access, group) for group in source.epoch(1).groups_of(0)))
    ahead.close()


def test_it_is_told_once_a_step_also_where_ranks_agree(data, folder, monkeypatch):
    told = []
    monkeypatch.setattr(ReadAhead, "at", lambda own, n: told.append(n))
    for agree in (None, lambda bads, n, skips: skips):
        told.clear()
        split = open_split(data, folder, "train", seq_len=LENGTH, seed=1)
        batches = batches_of(split, global_batch_size=8, prefetch=4, agree=agree)
        take(batches, 3 * 4)
        assert told == [0 + 8, 8 + 8, 16 + 8]
        batches.close()


@pytest.mark.parametrize(
    "fault",
    [
        StoreDown("the store does not answer"),
        ChunkFault(BadChunk("made", "shards/x.tar", 0, "no answer", 0, 9), "no answer", passing=True),
        ChunkFault(BadChunk("made", "shards/x.tar", 0, "other bytes", 0, 9), "damaged"),
    ],
)
def test_a_store_in_need_is_told_of_by_whoever_needs_it(data, folder, monkeypatch, fault):
    asked, _, ahead = start(data, folder, monkeypatch, fault)
    wait_until(lambda: len(asked) > 0)
    for n in range(0, 60, 5):
        ahead.at(n)
    ahead.close()
    ahead._thread.join(5)
    assert ahead._failed is None


def test_an_error_of_the_program_is_seen(data, folder, monkeypatch):
    asked, begin, ahead = start(data, folder, monkeypatch, TypeError("a mistake"))
    wait_until(lambda: not ahead._thread.is_alive())
    with pytest.raises(TypeError, match="a mistake"):
        ahead.at(begin)
    assert len(asked) == 1


def start(data, folder, monkeypatch, fault):
    """The thread at work, whose every chunk is `fault`; what it asked for, and the begin of the second window."""
    split, asked = open_split(data, folder, "train", seq_len=LENGTH, seed=1), []

    def warm(chunks):
        asked.append(chunks)
        raise fault

    monkeypatch.setattr(split.sequences["web"].shards, "warm", warm)
    begin, _ = split.stream.orders["web"].epoch(0).places_of(1)
    ahead = ReadAhead(split.stream, split.sequences)
    ahead.at(begin - 1)
    return asked, begin, ahead
