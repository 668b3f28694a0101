"""The small files of a dataset version in an object store, copied to where runs read them."""

import errno
import fcntl
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fitting_dataset import write_fitting

from mmhydra.config.loader import Store
from mmhydra.data import mirror as mirror_module
from mmhydra.data.datasets import DataError
from mmhydra.data.mirror import is_remote, mirror, remote_fault
from mmhydra.data.packing import kept
from mmhydra.data.packing.kept import ensure_pack
from mmhydra.data.prepare import prepare
from mmhydra.data.shards.manifest import load_manifest
from mmhydra.data.shards.reader import TokenShards
from mmhydra.data.storage.access import Access
from mmhydra.data.storage.faults import ShardError
from mmhydra.data.storage.remote import FsspecStore

SEQ_LEN = 128
LOCK = ".fetching.lock"


@pytest.fixture
def config(default_config, change, tmp_path):
    """A run whose datasets lie in `stored`, and whose data folder is empty."""
    (source, *_) = default_config.data.model_dump()["sources"]
    stored = change(default_config, {"paths.data": str(tmp_path / "stored"), "data.sources": [source]})
    write_fitting(stored)
    return change(stored, {"paths.data": str(tmp_path / "data"), "data.builder": None})


@pytest.fixture
def stored(tmp_path, config):
    return tmp_path / "stored" / config.data.datasets[0]


@pytest.fixture
def store(bucket, s3, stored, tmp_path):
    """The `loader.store` section of the bucket that holds what `stored` does."""
    first = load_manifest(stored)
    for split in ("train", "heldout"):
        ensure_pack(stored, first, first.sources[0].name, split, SEQ_LEN)
    ensure_pack(stored, first, first.sources[0].name, "train", 64)
    return Store(
        url=bucket.upload(stored), cache_dir=str(tmp_path / "cache"), cache_gb=1, options={"endpoint_url": s3.url}
    )


def files(folder):
    """Those that are whole: beside them lies a lock, and while a process fetches what it has."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != LOCK)


def test_a_run_finds_its_small_files_and_reads_its_shards_from_the_store(config, stored, store, s3, tmp_path):
    folder, lines = Path(config.paths.data), []
    found = prepare(config.data, config.tokens, folder, lines.append, store=store, seq_len=SEQ_LEN)
    (name,) = found
    assert found[name] == load_manifest(stored)
    assert len(lines) == 1
    assert f"the dataset {name} is not in" in lines[0]
    there = files(folder / name)
    source = found[name].sources[0].name
    assert {"manifest.json", "tokenizer.json"} <= set(there)
    packs = [path for path in there if path.startswith("packs/")]
    assert len(packs) == 2 * 6
    assert all(path.startswith((f"packs/{source}-train-128.", f"packs/{source}-heldout-128.")) for path in packs)
    assert len(there) == 2 + len(packs)
    for path in there:
        assert (folder / name / path).read_bytes() == (stored / path).read_bytes()
    access = Access(remote=FsspecStore(store.url, store.options))
    remote = TokenShards(folder / name, found[name], source, "train", access)
    local = TokenShards(stored, found[name], source, "train")
    assert remote.ids(0).tolist() == local.ids(0).tolist()
    access.close()


def test_what_is_there_is_not_fetched_again(config, store, s3):
    folder = Path(config.paths.data)
    for _ in range(2):
        asked = len(s3.requests)
        prepare(config.data, config.tokens, folder, lambda line: None, store=store, seq_len=SEQ_LEN)
    assert all("list-type" in path for _, path in s3.requests[asked:])


def test_a_large_pack_index_is_hashed_before_a_run_and_removed_if_damaged(config, stored, store, s3, monkeypatch):
    monkeypatch.setattr(kept, "HASHED_BYTES", 0)
    folder, lines = Path(config.paths.data), []
    prepare(config.data, config.tokens, folder, lines.append, store=store, seq_len=SEQ_LEN)
    path = next((folder / stored.name / "packs").glob("*-train-128.counts.npy"))
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    lines.clear()
    prepare(config.data, config.tokens, folder, lines.append, store=store)  # of no seq_len
    assert lines == []
    prepare(config.data, config.tokens, folder, lines.append, store=store, seq_len=SEQ_LEN)
    name = path.name.removesuffix(".counts.npy")
    said = f"the pack index {stored.name}/packs/{name} was damaged and is removed; it is made again when used"
    assert lines == [said]
    lines.clear()
    prepare(config.data, config.tokens, folder, lines.append, store=store, seq_len=SEQ_LEN)  # fetched again
    assert lines == []
    assert path.read_bytes() == content


def test_local_shards_win(config, stored, store, s3):
    folder = Path(config.paths.data)
    shutil.copytree(stored, folder / stored.name)
    assert not is_remote(folder / stored.name, store)
    prepare(config.data, config.tokens, folder, lambda line: None, store=store, seq_len=SEQ_LEN)
    assert s3.requests == []


def test_a_local_shard_that_is_cut_off_is_found_before_a_job_waits(config, stored):
    folder = Path(config.paths.data)
    shutil.copytree(stored, folder / stored.name)
    path = folder / stored.name / load_manifest(stored).shards[0].path
    path.write_bytes(path.read_bytes()[:-512])
    with pytest.raises(ShardError, match=r"has \d+ bytes, the manifest says"):
        prepare(config.data, config.tokens, folder, lambda line: None)
    told: list[str] = []
    prepare(config.data, config.tokens, folder, told.append, goes_on_without=True)
    (line,) = told
    assert line.startswith(f"note: shard {path} has ")
    assert line.endswith(": samples that need it are left out (loader.on_bad_chunk=skip)")


def test_a_damaged_tokenizer_leaves_no_manifest(config, bucket, stored, store):
    folder = Path(config.paths.data)
    bucket.put(f"v/{stored.name}/tokenizer.json", b"{ }")
    said = r"s3://corpus/v/.*/tokenizer\.json is damaged: its sha256 is .*Copy the dataset to the store again"
    with pytest.raises(DataError, match=said):
        mirror(config.data, folder, store, SEQ_LEN, lambda line: None)
    assert files(folder) == []


def test_two_that_fetch_at_once_fetch_once(config, stored, store, s3):
    folder = Path(config.paths.data)
    name = config.data.datasets[0]
    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(mirror, config.data, folder, store, SEQ_LEN, lambda line: None) for _ in range(4)]
        for future in done:
            future.result()
    there = files(folder / name)
    assert len(there) == 2 + 2 * 6
    for path in there:
        assert (folder / name / path).read_bytes() == (stored / path).read_bytes()
    asked = [path for method, path in s3.requests if method == "GET" and "list-type" not in path]
    assert sorted(set(asked)) == sorted(asked)


def test_without_locks_two_that_fetch_at_once_do_not_hinder_each_other(config, stored, store, s3, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    folder = Path(config.paths.data)
    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(mirror, config.data, folder, store, SEQ_LEN, lambda line: None) for _ in range(4)]
        for future in done:
            future.result()
    there = files(folder / stored.name)
    assert len(there) == 2 + 2 * 6
    assert all((folder / stored.name / path).read_bytes() == (stored / path).read_bytes() for path in there)


def test_what_a_killed_process_left_is_removed(config, stored, store, s3):
    left = Path(config.paths.data) / stored.name / ".fetching-abc"
    left.mkdir(parents=True)
    (left / "manifest.json").write_text("{")
    mirror(config.data, Path(config.paths.data), store, SEQ_LEN, lambda line: None)
    assert not left.exists()
    assert len(files(Path(config.paths.data) / stored.name)) == 2 + 2 * 6


def test_packs_come_piece_by_piece(config, stored, store, s3, monkeypatch):
    monkeypatch.setattr(mirror_module, "_PART_BYTES", 100)
    most = []
    read = FsspecStore.read

    def measured(self, path, start=0, length=None):
        content = read(self, path, start, length)
        most.append(content.nbytes if "/packs/" in path else 0)
        return content

    monkeypatch.setattr(FsspecStore, "read", measured)
    mirror(config.data, Path(config.paths.data), store, SEQ_LEN, lambda line: None)
    assert max(most) == 100
    for path in (stored / "packs").glob("*-128.*"):
        assert (Path(config.paths.data) / stored.name / "packs" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize("broken", ["write_atomic", "write_parts"])
def test_a_folder_that_can_not_be_written_is_told_with_a_cure(config, store, s3, monkeypatch, reason, broken):
    def write(path, _):
        raise OSError(reason, os.strerror(reason), str(path))

    monkeypatch.setattr(mirror_module, broken, write)
    said = rf"can't be written to \S+ \({os.strerror(reason)}\)\. Free some space there, or type paths\.data=DIR"
    with pytest.raises(DataError, match=said):
        mirror(config.data, Path(config.paths.data), store, SEQ_LEN, lambda line: None)
    assert not list(Path(config.paths.data).rglob(".fetching-*"))


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("pass", r"manifest\.json can't be read \(.*\)\. Put the dataset there, point loader\.store\.url"),
        ("500", r"Internal Server Error"),
    ],
)
def test_a_store_without_the_dataset_or_without_an_answer(config, store, s3, bucket, mode, message):
    bucket.empty()
    s3.mode = mode
    with pytest.raises(DataError, match=message):
        mirror(config.data, Path(config.paths.data), store, SEQ_LEN, lambda line: None)


def test_a_node_says_whether_it_reaches_the_store(config, bucket, stored, store, tmp_path):
    manifest, folder = load_manifest(stored), tmp_path / "data" / stored.name
    assert remote_fault(folder, manifest, store) is None
    name = f"v/{stored.name}/{manifest.shards[0].path}"
    bucket.put(name, b"short")
    said = f"s3://corpus/{name} has 5 bytes, the manifest says {manifest.shards[0].size_bytes}"
    assert remote_fault(folder, manifest, store) == said
    bucket.remove(name)
    assert remote_fault(folder, manifest, store).startswith(f"s3://corpus/{name}: ")
