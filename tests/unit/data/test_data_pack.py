import errno
import json
import signal
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from documents import documents, marked, mixed_document
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmhydra.config.tokens import MODALITIES
from mmhydra.data.datasets import DataError
from mmhydra.data.packing import kept as pack_module
from mmhydra.data.packing import pack as pack_table
from mmhydra.data.packing.kept import discard_damaged, ensure_pack, pack_faults
from mmhydra.data.packing.pack import DOCUMENT, pack
from mmhydra.data.packing.sequences import PackedSequences
from mmhydra.data.shards.index import digest_of
from mmhydra.data.shards.reader import TokenShards
from mmhydra.data.storage.faults import ShardError
from mmhydra.data.storage.store import LocalStore
from mmhydra.data.verify import verify

DOCUMENTS = [[1] * length for length in (3, 9, 30, 2, 14, 1)] + [mixed_document(("text", 4), *marked("audio", 12, 2))]
ARRAYS = ("counts", "edges", "groups", "pieces", "totals")
FACTS = "web-train-16.json"
NAMES = sorted([FACTS, *(f"web-train-16.{name}.npy" for name in ARRAYS)])


@pytest.fixture
def made(make_dataset):
    return make_dataset(DOCUMENTS, max_bytes=4096)


def ensure(made, seq_len=16):
    return ensure_pack(made.folder, made.manifest, "web", "train", seq_len)


def directly(made, seq_len=16):
    return pack(TokenShards(made.folder, made.manifest, "web", "train"), seq_len)


def same(one, other):
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        assert getattr(one, name).dtype == getattr(other, name).dtype
    return (one.seq_len, one.num_filled) == (other.seq_len, other.num_filled)


def contents(made):
    packs = made.folder / "packs"
    return {path.name: path.read_bytes() for path in packs.iterdir() if path.name != ".lock"}


def test_made_once_then_mapped(made, monkeypatch):
    assert same(ensure(made), directly(made))
    assert sorted(contents(made)) == NAMES
    facts = json.loads(contents(made)[FACTS])
    assert facts["num_sequences"] == ensure(made).num_sequences
    assert facts["num_groups"] == len(ensure(made).totals)
    assert facts["padding_share"] == pytest.approx(ensure(made).padding_share)
    assert 0 < facts["padding_share"] < 0.5

    def never(*_):
        raise AssertionError

    monkeypatch.setattr(pack_module, "pack", never)
    assert isinstance(ensure(made).pieces.base, np.memmap)
    with pytest.raises(AssertionError):
        ensure(made, 17)


def test_other_lengths_and_folders_have_their_own(made, make_dataset):
    assert ensure(made, 16).num_sequences > ensure(made, 64).num_sequences
    before = contents(made)
    assert contents(made).keys() > set(NAMES)
    again = make_dataset(DOCUMENTS, max_bytes=4096, name="again")
    ensure(again, 64)
    ensure(again, 16)
    assert contents(again) == before


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("damage", ["missing", "empty", "bit", "json"])
def test_a_damaged_one_is_made_again(made, name, damage):
    ensure(made)
    before = contents(made)
    path = made.folder / "packs" / name
    if damage == "missing":
        path.unlink()
    elif damage == "bit":
        data = bytearray(before[name])
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    else:
        path.write_bytes(b"" if damage == "empty" else b"{}")
    assert same(ensure(made), directly(made))
    found = contents(made)
    # A flipped bit in the JSON may hit a number that nothing depends on.
    assert found.keys() == before.keys()
    if not (damage == "bit" and name.endswith(".json")):
        assert found == before


def test_one_of_other_shards_or_another_algorithm_is_made_again(made, make_dataset, monkeypatch):
    ensure(made)
    other = make_dataset([[1] * 5, [2] * 9], name="other")
    (other.folder / "packs").mkdir()
    for name, content in contents(made).items():
        (other.folder / "packs" / name).write_bytes(content)
    assert same(ensure(other), directly(other))
    monkeypatch.setattr(pack_module, "ALGORITHM", 3)
    ensure(other)
    assert json.loads(contents(other)[FACTS])["algorithm"] == 3


def test_where_it_cannot_be_kept_it_is_made_in_memory_and_said_once(made, capsys):
    # A file where the folder should be: the tests may run as root, whom no permission stops.
    (made.folder / "packs").write_text("")
    for _ in range(2):
        assert same(ensure(made), directly(made))
    said = capsys.readouterr().err
    assert said.count("note: the pack index ") == 1
    assert "web-train-16 cannot be kept (File exists): made in memory" in said


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(documents(), min_size=1, max_size=25), st.sampled_from([15, 24, 70]))
def test_counts_groups_and_totals_follow_from_pieces_and_shards(make_dataset, found, seq_len):
    made = make_dataset([*found, [1, 2, 3]], max_bytes=6000, chunk_bytes=4096)
    shards = TokenShards(made.folder, made.manifest, "web", "train")
    packed = pack(shards, seq_len)
    sequences = PackedSequences(shards, packed, eod_id=0)
    begins = []
    for k in range(len(sequences)):
        pieces, expected = sequences.describe(k), dict.fromkeys(MODALITIES, 0)
        for piece in pieces:
            what = [segment.modality for segment in shards.segments(piece.document) for _ in range(segment.length)]
            for modality in what[piece.offset : piece.offset + piece.length]:
                expected[modality] += 1
            expected["special"] += piece.opener >= 0
        assert dict(zip(MODALITIES, packed.counts[k].tolist(), strict=True)) == expected
        # The chunk of the first id of the first piece.
        first = pieces[0]
        (chunk,) = shards.chunks_of(*(np.array([value]) for value in (first.document, first.offset, 1)))
        begins.append(chunk)
    edges = [k for k in range(len(begins)) if k == 0 or begins[k] != begins[k - 1]]
    assert packed.groups.tolist() == [*edges, len(begins)]
    assert len(set(begins)) == len(edges)  # a chunk is one group
    sums = [packed.counts[low:high].sum(axis=0).tolist() for low, high in pairwise(packed.groups.tolist())]
    assert packed.totals.tolist() == sums
    assert packed.num_filled == sum(sum(row) for row in sums)


@pytest.mark.parametrize(("seq_len", "dtype"), [(65_535, np.uint16), (65_536, np.uint32)])
def test_counts_of_long_sequences_have_room(make_dataset, seq_len, dtype):
    packed = directly(make_dataset([[1] * 70_000]), seq_len)
    assert packed.counts.dtype == dtype
    assert packed.counts[0].tolist() == [seq_len, 0, 0, 0, 0]
    assert (packed.totals.dtype, packed.groups.dtype) == (np.int64, np.int64)


def test_sequences_of_documents(make_dataset, monkeypatch):
    monkeypatch.setattr(pack_table, "_SCANNED", 3)
    packed = directly(make_dataset([[1] * length for length in (3, 9, 30, 2, 14, 1) * 5]))
    for first, last in ((0, 1), (2, 3), (2, 9), (29, 30), (5, 5)):
        expected = {
            k
            for k, (low, high) in enumerate(pairwise(packed.edges.tolist()))
            if any(first <= document < last for document in packed.pieces[low:high, DOCUMENT])
        }
        assert packed.sequences_of(first, last).tolist() == sorted(expected)


def test_documents_of_chunks(make_dataset):
    made = make_dataset([[1] * (17 * number % 900) for number in range(90)], max_bytes=40_000)
    shards = TokenShards(made.folder, made.manifest, "web", "train")
    assert len(made.manifest.shards) > 2
    everything = {}
    for document in range(shards.num_documents):
        length = len(shards.ids(document))
        for shard, chunk in shards.chunks_of(np.array([document]), np.array([0]), np.array([length])):
            everything.setdefault((shard, chunk), []).append(document)
            everything.setdefault((shard, -1), set()).add(document)
    for (shard, chunk), documents_there in everything.items():
        assert list(range(*shards.documents_of(shard, chunk))) == sorted(documents_there)
    with pytest.raises(ShardError, match=r"web/train has no shard shards/none\.tar"):
        shards.documents_of("shards/none.tar", 0)
    assert shards.has_shard(made.manifest.shards[1].path)
    assert not shards.has_shard("shards/none.tar")


def flipped(made, name):
    path = made.folder / "packs" / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    return bytes(data)


def test_a_large_one_is_taken_by_its_sizes_and_hashed_once_before_a_run(made, monkeypatch):
    ensure(made)
    whole = contents(made)
    assert discard_damaged(made.folder, made.manifest, "web", 16) == []
    size = sum(len(content) for name, content in whole.items() if name != FACTS)
    hashed = []
    monkeypatch.setattr(pack_module, "digest_of", lambda files: hashed.append(1) or digest_of(files))
    monkeypatch.setattr(pack_module, "HASHED_BYTES", size + 1)
    ensure(made)
    assert hashed
    hashed.clear()
    monkeypatch.setattr(pack_module, "HASHED_BYTES", size)
    assert same(ensure(made), directly(made))
    assert not hashed
    # A byte that is another is not seen when it is opened, but by those who hash all of it.
    name = "web-train-16.totals.npy"
    damaged = flipped(made, name)
    ensure(made)
    assert contents(made)[name] == damaged
    assert pack_faults(made.folder, made.manifest) == [
        f"packs/{FACTS}: its files are damaged, or made of other shards; it will be made again when used"
    ]
    assert verify(made.folder, made.manifest) == pack_faults(made.folder, made.manifest)
    assert discard_damaged(made.folder, made.manifest, "web", 17) == []
    assert contents(made)[name] == damaged
    assert discard_damaged(made.folder, made.manifest, "web", 16) == ["packs/web-train-16"]
    ensure(made)
    assert contents(made) == whole
    assert discard_damaged(made.folder, made.manifest, "web", 16) == []


def test_a_large_one_that_is_cut_off_is_made_again(made, monkeypatch):
    ensure(made)
    whole = contents(made)
    monkeypatch.setattr(pack_module, "HASHED_BYTES", 0)
    for name in NAMES:
        path = made.folder / "packs" / name
        path.write_bytes(whole[name][:-1] if name != FACTS else b"")
        ensure(made)
        assert contents(made) == whole


def test_a_damaged_one_that_can_not_be_removed_is_told(made, monkeypatch):
    ensure(made)
    monkeypatch.setattr(pack_module, "HASHED_BYTES", 0)
    flipped(made, "web-train-16.pieces.npy")

    def refuse(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(DataError, match=r"damaged, and can't be removed.*\(Read-only file system\); type rm "):
        discard_damaged(made.folder, made.manifest, "web", 16)


def test_files_beside_several_shards_are_read_at_a_time(make_dataset, monkeypatch):
    made = make_dataset([[1] * 300] * 60, max_bytes=6000)
    num_shards = len(made.manifest.shards)
    assert num_shards > 8
    together = threading.Barrier(2)
    read, asked = LocalStore.read, []

    def waiting(self, path, start=0, length=None):
        asked.append(path)
        if len(asked) <= 2:
            together.wait(10)  # breaks if the second read begins after the first
        return read(self, path, start, length)

    monkeypatch.setattr(LocalStore, "read", waiting)
    shards = TokenShards(made.folder, made.manifest, "web", "train")
    found = list(shards.tables())
    assert [len(tables.index) for tables in found] == [shard.num_documents for shard in made.manifest.shards]
    assert len(asked) == 3 * num_shards


ENSURE = """
import sys
from pathlib import Path
from mmhydra.data.shards.manifest import load_manifest
from mmhydra.data.packing.kept import ensure_pack
folder = Path(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
print(len(ensure_pack(folder, load_manifest(folder), "web", "train", 16).pieces), flush=True)
"""


def start(made):
    process = subprocess.Popen(
        [sys.executable, "-c", ENSURE, str(made.folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    return process


def test_several_processes_at_once(made):
    processes = [start(made) for _ in range(4)]
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    outputs = [process.communicate()[0] for process in processes]
    assert outputs == [f"{len(directly(made).pieces)}\n"] * 4
    assert sorted(contents(made)) == NAMES


KILLED = """
import os, signal, sys
from pathlib import Path
from mmhydra.data.packing import kept as pack
from mmhydra.data.shards.manifest import load_manifest
write, calls = pack.write_atomic, []
def write_or_die(path, content):
    calls.append(path)
    if len(calls) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, content)
pack.write_atomic = write_or_die
folder = Path(sys.argv[1])
pack.ensure_pack(folder, load_manifest(folder), "web", "train", 16)
"""


@pytest.mark.parametrize("write", [1, 3, 6])
@pytest.mark.parametrize("stale", [False, True])
def test_a_killed_maker_leaves_nothing_that_is_taken_for_whole(made, make_dataset, write, stale):
    (made.folder / "packs").mkdir()
    if stale:
        other = make_dataset([[1] * 5, [2] * 9], name="other")
        ensure(other)
        for name, content in contents(other).items():
            (made.folder / "packs" / name).write_bytes(content)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(made.folder), str(write)])
    assert killed.returncode == -signal.SIGKILL
    assert FACTS not in contents(made)
    assert same(ensure(made), directly(made))  # and the lock is free
    assert sorted(contents(made)) == NAMES
