"""The arms of benchmarks/stream.py, each a process of its own that prints one line of JSON.

python benchmarks/stream_arms.py FOLDER raw|webdataset|ours|memory [--number N] [--check]
"""

import argparse
import gc
import json
import os
import resource
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stream_data import DATASET, MANY_DATASET, SEQ_LEN, build, build_many, data

BATCH = 8  # sequences that a trainer asks for at once
IGNORE_INDEX = -100
SHUFFLE_BUFFER = 1000  # documents, as webdataset's own examples have it
MEMORY_BYTES = 600_000_000  # a window of 8 chunks of 16 MB, and as many that follow on them, of both sources

Row = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]


class Clock:
    """Wall and CPU time of this process, of all its threads, from now on."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def seconds(self) -> dict[str, float]:
        """`wall_s` and `cpu_s` so far."""
        return {"wall_s": time.perf_counter() - self._wall, "cpu_s": time.process_time() - self._cpu}


def raw(folder: Path, block: int) -> dict[str, float]:
    """Plain reads of `block` bytes into one buffer, all shards in order."""
    paths = _paths(folder)
    buffer = memoryview(bytearray(block))

    def read_all() -> int:
        total = 0
        for path in paths:
            with path.open("rb", buffering=0) as file:
                while count := file.readinto(buffer):
                    total += count
        return total

    read_all()  # into the page cache
    clock = Clock()
    num_bytes = read_all()
    return {**clock.seconds(), "bytes": num_bytes, "pairs": num_pairs(folder)}


def webdataset(folder: Path, check: bool) -> dict[str, float]:
    """webdataset's own pipeline with its shuffle buffers and decoders; its users bring the packing."""
    import webdataset as wds

    warnings.simplefilter("ignore", ResourceWarning)  # it leaves its tars to the garbage collector
    manifest = build(folder)
    sources, ids = [], []
    for name in sorted({shard.source for shard in manifest.shards}):
        shards = manifest.shards_of(name, "train")
        urls = [str(folder / DATASET / shard.path) for shard in shards]
        pipeline = wds.WebDataset(urls, shardshuffle=len(urls), seed=1).shuffle(SHUFFLE_BUFFER).decode()
        sources.append(pipeline)
        ids.append(sum(shard.num_documents for shard in shards))
    mixed = wds.RandomMix(sources, [count / sum(ids) for count in ids], longest=True)
    return {**_timed(batches(packed(mixed)), check), "pairs": num_pairs(folder)}


def packed(samples: Iterable[dict[str, Any]]) -> Iterator[Row]:
    """Documents, cut to SEQ_LEN where they are longer, one after the other; a sequence ends where the next won't fit.

    The same rows as ours but for the order and the openers: padding, labels without loss, positions that restart.
    """
    row, at = _empty_row(), 0
    for sample in samples:
        ids = sample["tokens.npy"].astype(np.int32)
        labels = ids[1:]
        segments = sample["json"]["segments"]
        if not all(segment[4] for segment in segments):
            loss = np.repeat([bool(segment[4]) for segment in segments], [segment[2] for segment in segments])
            labels = np.where(loss[1:], labels, IGNORE_INDEX)
        for begin in range(0, len(labels), SEQ_LEN):
            size = min(SEQ_LEN, len(labels) - begin)
            if at + size > SEQ_LEN:
                yield _closed(row, at)
                row, at = _empty_row(), 0
            row[0][at : at + size] = ids[begin : begin + size]
            row[1][at : at + size] = labels[begin : begin + size]
            row[2][at : at + size] = np.arange(size)
            at += size
    yield _closed(row, at)


def _empty_row() -> Row:
    return np.empty(SEQ_LEN, np.int32), np.empty(SEQ_LEN, np.int32), np.empty(SEQ_LEN, np.int32)


def _closed(row: Row, at: int) -> Row:
    row[0][at:], row[1][at:], row[2][at:] = 0, IGNORE_INDEX, np.arange(SEQ_LEN - at)
    return row


def batches(rows: Iterable[Row]) -> Iterator[Row]:
    """Rows by BATCH, stacked."""
    held: list[Row] = []
    for row in rows:
        held.append(row)
        if len(held) == BATCH:
            yield tuple(np.stack(column) for column in zip(*held, strict=True))  # type: ignore[misc]
            held = []


def _timed(found: Iterator[Row], check: bool) -> dict[str, float]:
    """Takes all batches. With `check` the sum and number of the labels, which take time of their own."""
    clock = Clock()
    num_batches, label_sum, num_labels = 0, 0, 0
    for batch in found:
        num_batches += 1
        if check:
            kept = batch[1] != IGNORE_INDEX
            label_sum += int(batch[1][kept].sum(dtype=np.int64))
            num_labels += int(kept.sum())
    taken = clock.seconds()
    return {**taken, "sequences": num_batches * BATCH, "label_sum": label_sum, "num_labels": num_labels}


def ours(folder: Path, num_workers: int, check: bool) -> dict[str, float]:
    """The trainer's own batches. The clock starts when the memory for chunks is full, as it is in a long run.

    Only within one epoch: each chunk is read once, and the rate is that of the rest.
    """
    from mmhydra.data.storage.access import Access
    from mmhydra.data.stream.batches import RankBatches, open_split

    manifest = build(folder)
    access = Access(memory_bytes=MEMORY_BYTES)
    split = open_split(data(DATASET, manifest), folder, "train", seq_len=SEQ_LEN, seed=1, access=access)
    num_sequences = sum(map(len, split.sequences.values()))
    num_batches = num_sequences // BATCH
    own = RankBatches(
        split, global_batch_size=BATCH, dp_degree=1, dp_rank=0, per_yield=BATCH, num_workers=num_workers, prefetch=4
    )
    if check:
        return _timed((own.next() for _ in range(num_batches)), check)
    done = 0
    while access.memory.held_bytes < 0.9 * MEMORY_BYTES:
        own.next()
        done += 1
    read, clock = access.counters.store_bytes, Clock()
    for _ in range(num_batches - done):
        own.next()
    taken = clock.seconds()
    own.close()
    return {
        **taken,
        "pairs": num_pairs(folder) * (num_batches - done) * BATCH / num_sequences,
        "read_bytes": access.counters.store_bytes - read,
        "held_bytes": access.memory.peak_bytes,
        "peak_rss": _peak_rss(),
    }


def memory(folder: Path, memory_mb: int) -> dict[str, float]:
    """Opens 10,000 shards and reads an epoch of them."""
    from mmhydra.data.storage.access import Access
    from mmhydra.data.stream.batches import RankBatches, open_split

    manifest = build_many(folder)
    own = data(MANY_DATASET, manifest)
    access = Access(memory_bytes=memory_mb * 1_000_000)
    split = open_split(own, folder, "train", seq_len=SEQ_LEN, seed=1, access=access)  # makes the pack, once
    del split
    gc.collect()
    before, clock = _rss(), Clock()
    split = open_split(own, folder, "train", seq_len=SEQ_LEN, seed=1, access=access)
    opened = clock.seconds()["wall_s"]
    taken = RankBatches(split, global_batch_size=BATCH, dp_degree=1, dp_rank=0, per_yield=BATCH, num_workers=1)
    taken.next()
    after_open = _rss()
    num_batches = sum(map(len, split.sequences.values())) // BATCH
    clock = Clock()
    for _ in range(num_batches - 1):
        taken.next()
    seconds = clock.seconds()
    taken.close()
    return {
        **seconds,
        "open_s": opened,
        "opened_rss": after_open - before,
        "read_rss": _rss() - before,
        "peak_rss": _peak_rss(),
        "before_rss": before,
        "sequences": (num_batches - 1) * BATCH,
        "held_bytes": access.memory.peak_bytes,
    }


def num_pairs(folder: Path) -> int:
    """Pairs of an input and its label in all documents: what an epoch has to give."""
    return sum(shard.num_tokens - shard.num_documents for shard in build(folder).shards)


def _paths(folder: Path) -> list[Path]:
    return [folder / DATASET / shard.path for shard in build(folder).shards]


def _rss() -> int:
    """Bytes of this process in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _peak_rss() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """One arm."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("arm", choices=["raw", "webdataset", "ours", "memory"])
    parser.add_argument("--number", type=int, default=0, help="raw: bytes of a read; ours: workers; memory: MB")
    parser.add_argument("--check", action="store_true", help="sum the labels")
    arguments = parser.parse_args()
    folder, number, check = arguments.folder, arguments.number, arguments.check
    arms: dict[str, Callable[[], dict[str, float]]] = {
        "raw": lambda: raw(folder, number),
        "webdataset": lambda: webdataset(folder, check),
        "ours": lambda: ours(folder, number, check),
        "memory": lambda: memory(folder, number),
    }
    print(json.dumps(arms[arguments.arm]()))


if __name__ == "__main__":
    main()
