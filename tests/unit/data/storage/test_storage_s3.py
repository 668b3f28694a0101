"""Shards in a real S3-compatible server on loopback, and in one that fails."""

import shutil
import subprocess
import sys
import time
from dataclasses import dataclass

import numpy as np
import pytest

from mmhydra.data.packing.kept import ensure_pack
from mmhydra.data.shards.reader import TokenShards
from mmhydra.data.storage.access import Access, Policy
from mmhydra.data.storage.disk_cache import DiskCache
from mmhydra.data.storage.faults import WHOLE_SHARD, ChunkFault
from mmhydra.data.storage.remote import FsspecStore
from mmhydra.data.storage.store import LocalStore
from mmhydra.errors import UserError

RETRY = Policy("retry", 2, 0.01, 20)


@pytest.fixture
def made(make_dataset):
    rng = np.random.default_rng(0)
    return make_dataset([rng.integers(1, 100, 2500) for _ in range(12)], max_bytes=30_000, chunk_bytes=4096)


@pytest.fixture
def open_remote(s3, bucket, made, tmp_path):
    """Opens what `made` holds from the bucket, with no shard at hand: `opened.shards`, `opened.access`."""
    opened = []
    url = bucket.upload(made.folder)

    def open_remote(policy=RETRY, cache_bytes=None, memory_bytes=10**6, cache_folder=tmp_path / "cache"):
        disk = None if cache_bytes is None else DiskCache(cache_folder, cache_bytes)
        store = FsspecStore(url, {"endpoint_url": s3.url}, policy.timeout_s)
        access = Access(policy, remote=store, disk=disk, memory_bytes=memory_bytes, of_run=True)
        opened.append(access)
        elsewhere = tmp_path / "elsewhere" / made.folder.name
        return Opened(TokenShards(elsewhere, made.manifest, "web", "train", access), access)

    yield open_remote
    s3.mode = "pass"
    s3.release.set()
    for access in opened:
        access.close()


@dataclass
class Opened:
    shards: TokenShards
    access: Access


def all_ids(shards):
    return [shards.ids(number).tolist() for number in range(shards.num_documents)]


def whole(made):
    return TokenShards(made.folder, made.manifest, "web", "train")


def test_an_object_store_gives_what_the_local_files_give(made, open_remote):
    here, there = whole(made), open_remote().shards
    assert len(made.manifest.shards) > 1
    assert all_ids(there) == all_ids(here)
    for number in range(here.num_documents):
        assert there.segments(number) == here.segments(number)
        assert there.info(number) == here.info(number)


def test_chunks_are_read_by_themselves_and_once(made, s3, open_remote):
    opened = open_remote()
    opened.shards.ids(0, 0, 10)
    assert opened.access.counters.store_reads == 4  # three files beside the shard, one chunk
    all_ids(opened.shards)
    reads = opened.access.counters.store_reads
    chunks = sum(-(-shard.size_bytes // 4096) for shard in made.manifest.shards)
    assert reads <= 3 * len(made.manifest.shards) + chunks
    all_ids(opened.shards)
    assert opened.access.counters.store_reads == reads


def test_opening_asks_the_store_nothing(s3, open_remote):
    open_remote()
    assert s3.requests == []


def test_local_shards_win(made, s3, open_remote):
    access = open_remote().access
    assert all_ids(TokenShards(made.folder, made.manifest, "web", "train", access)) == all_ids(whole(made))
    assert s3.requests == []


def test_a_cache_on_disk_keeps_what_came_and_stays_below_its_limit(made, s3, open_remote, tmp_path):
    opened = open_remote(cache_bytes=10**6, memory_bytes=5000)
    expected = all_ids(whole(made))
    assert all_ids(opened.shards) == expected
    s3.mode = "500"  # from here on the disk has to do
    again = open_remote(cache_bytes=10**6)
    assert all_ids(again.shards) == expected
    assert again.access.counters.store_reads == 0
    s3.mode = "pass"
    small = open_remote(cache_bytes=20_000, memory_bytes=5000, cache_folder=tmp_path / "small")
    for _ in range(2):
        assert all_ids(small.shards) == expected
        assert sum(path.stat().st_size for path in (tmp_path / "small").glob("*.chunk")) <= 20_000
    assert small.access.counters.store_bytes > 20_000


def test_a_damaged_file_of_the_cache_is_fetched_again(made, open_remote, tmp_path):
    expected = all_ids(open_remote(cache_bytes=10**6).shards)
    for path in (tmp_path / "cache").glob("*.chunk"):
        path.write_bytes(path.read_bytes()[:-1] + b"\7")
    again = open_remote(cache_bytes=10**6)
    assert all_ids(again.shards) == expected
    assert again.access.counters.disk_cache_bytes == 0
    assert all_ids(open_remote(cache_bytes=10**6).shards) == expected


READER = """
import sys
from pathlib import Path
from mmhydra.data.shards.manifest import load_manifest
from mmhydra.data.shards.reader import TokenShards
from mmhydra.data.storage.access import Access, Policy
from mmhydra.data.storage.disk_cache import DiskCache
from mmhydra.data.storage.remote import FsspecStore
endpoint, made, cache = sys.argv[1:]
store = FsspecStore("s3://corpus/v", {"endpoint_url": endpoint}, 20)
access = Access(Policy("retry", 2, 0.01, 20), remote=store, disk=DiskCache(Path(cache), 10**6))
shards = TokenShards(Path("/nowhere") / Path(made).name, load_manifest(Path(made)), "web", "train", access)
print(sum(int(shards.ids(number).sum()) for number in range(shards.num_documents)), access.counters.store_bytes)
access.close()
"""


def test_processes_of_a_node_fetch_each_chunk_once_together(made, s3, bucket, tmp_path):
    bucket.upload(made.folder)
    command = [sys.executable, "-W", "error", "-c", READER, s3.url, str(made.folder), str(tmp_path / "cache")]
    jobs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [job.communicate()[0].split() for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0]
    assert {int(total) for total, _ in said} == {sum(map(sum, all_ids(whole(made))))}
    one = sum(path.stat().st_size for path in (tmp_path / "cache").glob("*.chunk"))
    assert sum(int(count) for _, count in said) == one


@pytest.mark.parametrize(
    ("mode", "reason", "passing"),
    [
        ("500", "InternalServerError|Internal Server Error|500", True),
        ("cut", "IncompleteRead|ContentLengthError|ClientPayloadError|payload", True),
        ("flip", "it has another hash than when it was written", False),
    ],
)
def test_a_failing_store_is_asked_again_and_then_named(made, s3, open_remote, capsys, mode, reason, passing):
    opened = open_remote()
    opened.shards.ids(0, 0, 10)  # the files beside the shard are here
    s3.mode = mode
    with pytest.raises(ChunkFault, match=reason) as caught:
        opened.shards.ids(0)
    error = caught.value
    assert error.bad[:3] == ("made", made.manifest.shards[0].path, 1)
    assert error.passing == passing
    assert error.exit_code == (1 if passing else 2)
    assert f"shard s3://corpus/v/made/{error.bad.shard}, chunk 1 (bytes 4096 to 8191) of dataset made" in str(error)
    assert "3 tries in " in str(error)
    assert ("loader.retries" if passing else "loader.on_bad_chunk=skip") in str(error)
    assert opened.access.counters.failed_reads == 3
    notes = capsys.readouterr().err
    assert "try 1 of 3, the next in 0.01 s" in notes
    assert "try 2 of 3, the next in 0.02 s" in notes
    s3.mode = "pass"
    assert opened.shards.ids(0).tolist() == whole(made).ids(0).tolist()


def test_a_store_that_comes_back_in_time_costs_only_time(made, s3, open_remote):
    opened = open_remote()
    s3.num_failures = 2
    assert opened.shards.ids(0).tolist() == whole(made).ids(0).tolist()
    assert opened.access.counters.failed_reads == 2


def test_a_store_that_hangs_is_given_up(made, s3, open_remote):
    opened = open_remote(Policy("retry", 1, 0.01, 0.3))
    s3.mode = "hang"
    started = time.monotonic()
    with pytest.raises(ChunkFault, match=r"no answer within 0\.3 s, 2 tries in .*loader\.timeout_s") as caught:
        opened.shards.ids(0)
    assert time.monotonic() - started < 10
    assert caught.value.bad.chunk == WHOLE_SHARD
    assert caught.value.exit_code == 1


def test_no_server_at_all(made, open_remote, s3):
    opened = open_remote(Policy("retry", 1, 0.01, 20))
    s3.close()
    with pytest.raises(ChunkFault, match=r"Could not connect|Cannot connect|EndpointConnectionError|ClientConnector"):
        opened.shards.ids(0)


@pytest.mark.parametrize("suffix", ["", ".idx.npy"])
def test_an_object_that_is_not_there(made, bucket, open_remote, suffix):
    opened = open_remote()
    shard = made.manifest.shards[0].path
    bucket.remove(f"v/made/{shard}{suffix}")
    said = rf"s3://corpus/v/made/{shard}{suffix} cannot be opened.*Copy these files to the store again"
    with pytest.raises(ChunkFault, match=said) as caught:
        opened.shards.ids(0)
    assert caught.value.exit_code == 2


def test_an_object_that_was_cut_off(made, bucket, open_remote):
    opened = open_remote()
    shard = made.manifest.shards[0]
    data = (made.folder / shard.path).read_bytes()
    bucket.put(f"v/made/{shard.path}", data[:6000])
    for document, chunk in ((0, 1), (2, 3)):  # cut in the middle of it, and before it
        with pytest.raises(ChunkFault, match=f"it has 6000 bytes, the manifest says {shard.size_bytes}") as caught:
            opened.shards.ids(document)
        assert caught.value.bad.chunk == chunk


def test_secrets_are_refused_in_options():
    for name in ("key", "secret", "token", "password", "account_key", "sas_token", "connection_string", "private_key"):
        said = rf"loader\.store\.options\.{name} would be written.*AWS_SECRET_ACCESS_KEY"
        with pytest.raises(UserError, match=said):
            FsspecStore("s3://corpus/v", {name: "x"})


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        ("nosuch://corpus", {}, r"loader\.store\.url=nosuch://corpus with options none opens no file system"),
        ("s3://corpus", {"config_kwargs": 1, "max_concurrency": 0}, "opens no file system of fsspec"),
    ],
)
def test_a_store_that_cannot_be_opened(url, options, message):
    with pytest.raises(UserError, match=message):
        FsspecStore(url, options)


def test_other_file_systems_of_fsspec_serve_as_well(made, tmp_path):
    moved = tmp_path / "store" / made.folder.name
    shutil.copytree(made.folder, moved)
    access = Access(remote=FsspecStore((tmp_path / "store").as_uri()))
    there = TokenShards(tmp_path / "none" / made.folder.name, made.manifest, "web", "train", access)
    assert all_ids(there) == all_ids(whole(made))
    access.close()


def test_stores_list_and_measure_files_alike(made, s3, bucket):
    bucket.upload(made.folder)
    remote, local = FsspecStore("s3://corpus/v", {"endpoint_url": s3.url}), LocalStore()
    assert remote.names("made/shards") == local.names(f"{made.folder}/shards") != []
    assert remote.names("made/none") == local.names(f"{made.folder}/none") == []
    name = made.manifest.shards[0].path
    assert remote.size(f"made/{name}") == local.size(f"{made.folder}/{name}")
    remote.close()


def test_a_pack_index_is_made_from_the_store(made, open_remote, tmp_path):
    folder = tmp_path / "elsewhere" / made.folder.name
    folder.mkdir(parents=True)
    there = ensure_pack(folder, made.manifest, "web", "train", 128, open_remote().access)
    here = ensure_pack(made.folder, made.manifest, "web", "train", 128)
    np.testing.assert_array_equal(there.pieces, here.pieces)
