"""Policies, retries and timeouts, with a store that does as it is told."""

import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mmhydra.config.loader import LEGACY_LOADER, Loader
from mmhydra.data.shards.reader import TokenShards
from mmhydra.data.storage.access import MAX_HANGING, Access, Policy
from mmhydra.data.storage.faults import WHOLE_SHARD, ChunkFault, ShardError, StoreDown
from mmhydra.data.storage.store import LocalStore, StoreError, is_passing


class ToldStore(LocalStore):
    """The files below a folder, after `faults` were raised one by one; `hang` holds every read up."""

    def __init__(self, folder):
        self.folder, self.faults, self.num_reads = folder, [], 0
        self.hang, self.release = False, threading.Event()

    def read(self, path, start=0, length=None):
        self.num_reads += 1
        if self.hang:
            self.release.wait(60)
        if self.faults:
            raise self.faults.pop(0)
        return super().read(f"{self.folder}/{path}", start, length)

    def size(self, path):
        return super().size(f"{self.folder}/{path}")

    def where(self, path):
        return f"told://{path}"


@pytest.fixture
def made(make_dataset):
    return make_dataset([[1] * 3000, [2] * 3000, [3] * 3000], chunk_bytes=4096)


@pytest.fixture
def store(made):
    store = ToldStore(made.folder.parent)
    yield store
    store.release.set()


@pytest.fixture
def open_told(made, store, tmp_path):
    """Shards of which every chunk of the files beside them is at hand, behind `store`."""

    def open_told(policy, of_run=False):
        access = Access(policy, remote=store, of_run=of_run)
        shards = TokenShards(tmp_path / "elsewhere" / "made", made.manifest, "web", "train", access)
        shards.ids(0, 0, 1)
        store.num_reads = 0
        return shards, access

    return open_told


def flip(made, place):
    path = made.folder / made.manifest.shards[0].path
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(("policy", "tries"), [("fail", 1), ("retry", 4), ("skip", 4)])
def test_the_policy_says_how_often_a_read_is_tried(store, open_told, policy, tries):
    shards, _ = open_told(Policy(policy, 3, 0.001))
    store.faults = [StoreError("tired")] * 9
    with pytest.raises(ChunkFault, match=r"told://made/shards/web-train-00000\.tar, chunk 2 .* can't be used: tired"):
        shards.ids(1)
    assert store.num_reads == tries


def test_waits_double(store, open_told, capsys):
    shards, _ = open_told(Policy("retry", 3, 0.01))
    store.faults = [StoreError("tired")] * 3
    started = time.monotonic()
    assert shards.ids(2).tolist() == [3] * 3000 + [0]
    assert time.monotonic() - started >= 0.07
    told = capsys.readouterr().err.splitlines()
    assert [line.rpartition("in ")[2] for line in told] == ["0.01 s", "0.02 s", "0.04 s"]


@pytest.mark.parametrize(("policy", "tried_again"), [("skip", False), ("retry", True), ("fail", True)])
def test_a_chunk_that_stayed_bad_is_not_tried_again_under_skip(made, store, open_told, policy, tried_again):
    shards, _ = open_told(Policy(policy, 1, 0.001))
    flip(made, 10_000)
    with pytest.raises(ChunkFault) as first:
        shards.ids(1)
    reads = store.num_reads
    with pytest.raises(ChunkFault) as second:
        shards.ids(1)
    assert (store.num_reads > reads) == tried_again
    assert second.value.bad == first.value.bad
    assert str(second.value).partition(", 2 tries")[0] == str(first.value).partition(", 2 tries")[0]
    assert shards.ids(0, 0, 9).tolist() == [1] * 9


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (FileNotFoundError(2, "No such file or directory"), False),
        (PermissionError(13, "Permission denied"), False),
        (StoreError("no bucket answers"), True),
        (OSError(5, "Input/output error"), True),
        (TimeoutError(110, "Connection timed out"), True),
    ],
)
def test_what_may_pass_ends_a_run_with_another_code(store, open_told, error, passing):
    assert is_passing(error) == passing
    shards, _ = open_told(Policy("fail"))
    store.faults = [error]
    with pytest.raises(ChunkFault) as caught:
        shards.ids(1)
    assert caught.value.passing == passing
    assert caught.value.exit_code == (1 if passing else 2)


@pytest.mark.parametrize("policy", ["fail", "retry", "skip"])
def test_messages_of_a_run_name_its_settings(made, store, open_told, policy):
    shards, _ = open_told(Policy(policy, 1, 0.001), of_run=True)
    store.faults = [StoreError("tired")] * 2
    with pytest.raises(ChunkFault, match=r"loader\.timeout_s, loader\.retries and loader\.retry_wait_s"):
        shards.ids(2)
    store.faults = []
    flip(made, 10_000)
    with pytest.raises(ChunkFault) as caught:
        shards.ids(1)
    assert ("loader.on_bad_chunk=skip leaves such samples out" in str(caught.value)) == (policy != "skip")


def test_a_slow_store_is_waited_for_as_long_as_it_may_take(made, store, open_told):
    shards, access = open_told(Policy("retry", 1, 0.001, 20))
    store.hang = True
    threading.Timer(0.2, store.release.set).start()
    assert shards.ids(1).tolist() == [2] * 3000 + [0]
    assert access.counters.failed_reads == 0
    access.close()


def test_a_store_that_hangs_for_good_ends_the_run_even_under_skip(store, open_told):
    shards, access = open_told(Policy("skip", 2 * MAX_HANGING, 0.0, 0.02))
    store.hang = True
    with pytest.raises(StoreDown, match=f"{MAX_HANGING} reads have not come back") as caught:
        shards.ids(1)
    assert caught.value.exit_code == 1
    assert not isinstance(caught.value, ChunkFault)
    assert store.num_reads == MAX_HANGING
    access.close()


def test_closing_ends_the_wait_before_a_retry(store, open_told):
    shards, access = open_told(Policy("retry", 3, 60))
    store.faults = [StoreError("tired")] * 9
    threading.Timer(0.1, access.close).start()
    started = time.monotonic()
    with pytest.raises(ChunkFault):
        shards.ids(1)
    assert time.monotonic() - started < 30


def test_threads_share_one_reader_and_read_each_chunk_once(made, store, open_told):
    shards, access = open_told(Policy("retry", 1, 0.001, 20))
    before = access.counters.store_bytes
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: shards.ids(number % 3).tolist(), range(60)))
    assert found == [[number % 3 + 1] * 3000 + [0] for number in range(60)]
    chunks = set().union(*(shards.chunks_of(np.array([n]), np.array([0]), np.array([3001])) for n in range(3)))
    assert access.counters.store_bytes - before <= 4096 * (len(chunks) - 1)
    access.close()


def test_what_is_cached_cannot_be_written(made):
    shards = TokenShards(made.folder, made.manifest, "web", "train")
    ids = shards.ids_of_chunk(0, 0)
    with pytest.raises(ValueError, match="read-only"):
        ids[0] = 7


def test_two_datasets_with_equal_shards_share_what_is_read(make_dataset):
    first, second = (make_dataset([[1] * 50], name=name) for name in ("a", "b"))
    access = Access.local()
    for made in (first, second):
        assert TokenShards(made.folder, made.manifest, "web", "train", access).ids(0, 0, 3).tolist() == [1, 1, 1]
    assert access.counters.store_reads == 4


def test_the_loader_section_decides(tmp_path):
    store = {"url": "memory://v", "cache_dir": str(tmp_path / "cache"), "cache_gb": 0.5, "options": {}}
    section = {**LEGACY_LOADER, "store": store, "on_bad_chunk": "skip", "retries": 5, "memory_mb": 2.0}
    access = Access.of(Loader.model_validate(section))
    assert access.policy == Policy("skip", 5, 1.0, 60.0)
    assert access.memory.max_bytes == 2_000_000
    assert not access.is_local(access.store_of(tmp_path / "made")[0])
    access.close()
    local = Access.of(Loader.model_validate(LEGACY_LOADER))
    assert local.policy == Policy("retry", 3, 1.0, 60.0)
    assert local.is_local(local.store_of(tmp_path)[0])


def test_every_damage_names_dataset_shard_chunk_reason_and_cure(made):
    """One by one: what is done to a file, which chunk is named, and in which words."""
    shard = made.manifest.shards[0]
    path = made.folder / shard.path
    whole = {p: p.read_bytes() for p in path.parent.iterdir()}
    beside = path.with_name(path.name + ".seg.npy")
    table = [
        (lambda: path.unlink(), 2, "No such file or directory"),
        (lambda: path.rename(path.with_suffix(".old")), 2, "No such file or directory"),
        (lambda: path.write_bytes(whole[path][:9000]), 2, f"it has 9000 bytes, the manifest says {shard.size_bytes}"),
        (lambda: path.write_bytes(b""), 2, f"it has 0 bytes, the manifest says {shard.size_bytes}"),
        (lambda: path.write_bytes(os.urandom(len(whole[path]))), 2, "it has another hash than when it was written"),
        (lambda: flip(made, 9000), 2, "it has another hash than when it was written"),
        (lambda: beside.unlink(), WHOLE_SHARD, "No such file or directory"),
        (lambda: beside.write_bytes(whole[beside][:-1]), WHOLE_SHARD, "the files beside it"),
        (lambda: beside.write_bytes(b"\0" + whole[beside][1:]), WHOLE_SHARD, "the files beside it"),
    ]
    for damage, chunk, reason in table:
        damage()
        with pytest.raises(ShardError) as caught:
            TokenShards(made.folder, made.manifest, "web", "train").ids(1)
        error = caught.value
        assert isinstance(error, ChunkFault)
        assert error.bad[:3] == ("made", shard.path, chunk)
        for text in (error.bad.reason, reason, str(path), "dataset made", f"rm -r {made.folder}"):
            assert text in str(error)
        assert error.exit_code == 2
        for entry in path.parent.iterdir():
            entry.unlink()
        for entry, content in whole.items():
            entry.write_bytes(content)
        assert TokenShards(made.folder, made.manifest, "web", "train").ids(1).tolist() == [2] * 3000 + [0]


def test_a_shard_that_vanishes_under_way_is_named_and_the_rest_goes_on(make_dataset):
    made = make_dataset([[number + 1] * 3000 for number in range(4)], max_bytes=8000, chunk_bytes=4096)
    shards = TokenShards(made.folder, made.manifest, "web", "train")
    assert shards.ids(0).tolist()[0] == 1
    (made.folder / made.manifest.shards[1].path).unlink()
    with pytest.raises(ChunkFault, match="No such file"):
        shards.ids(1)
    assert shards.ids(2).tolist()[0] == 3


def test_dropped_chunks_leave_no_memory_behind(make_dataset):
    made = make_dataset([np.full(50_000, 1 + number) for number in range(20)], chunk_bytes=100_000)
    access = Access(memory_bytes=300_000)
    shards = TokenShards(made.folder, made.manifest, "web", "train", access)
    for _ in range(2):
        for number in range(20):
            shards.ids(number)
    assert access.memory.peak_bytes <= 300_000
    assert access.counters.store_bytes > 4_000_000
    chunk = access.memory.keys()[-1]
    held = weakref.ref(access.memory.find(chunk))
    for number in range(4):
        shards.ids(number)
    gc.collect()
    assert chunk not in access.memory.keys()  # noqa: SIM118
    assert held() is None


MEMORY = """
import resource, sys, time
from pathlib import Path
import numpy as np
from mmhydra.data.shards.manifest import load_manifest
from mmhydra.data.shards.reader import TokenShards
from mmhydra.data.storage.access import Access

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

folder, budget = Path(sys.argv[1]), int(sys.argv[2])
manifest = load_manifest(folder)
(shard,) = manifest.shards
many = tuple(
    shard.model_copy(update={"path": f"shards/{number:05d}.tar", "sidecars_xxh3": f"{number:032x}"})
    for number in range(10_000)
)
wide = manifest.model_copy(update={"shards": many})
before = peak()
started = time.monotonic()
shards = TokenShards(folder, wide, "web", "train", Access(memory_bytes=budget))
opened_s, opened = time.monotonic() - started, peak() - before
few = TokenShards(folder, manifest, "web", "train", Access(memory_bytes=budget))
few.ids(0)
before, rng = peak(), np.random.default_rng(0)
for number in rng.integers(0, few.num_documents, 400).tolist():
    few.ids(number)
print(opened_s, opened, peak() - before)
"""


def test_memory_stays_within_its_budget_and_ten_thousand_shards_open_at_once(make_dataset, tmp_path):
    made = make_dataset([np.full(100_000, 1 + number) for number in range(99)], max_bytes=10**9, chunk_bytes=500_000)
    assert made.manifest.shards[0].size_bytes > 19_000_000
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(made.folder), "4000000"], capture_output=True, text=True, check=True
    )
    opened_s, opened, grown = map(float, done.stdout.split())
    assert opened_s < 2
    assert opened < 20e6
    assert grown < 4e6 + 4e6  # the budget, and what a document and its ids as int64 take
