import json
import signal
import subprocess
import sys

import numpy as np
import pytest
from documents import marked, mixed_document

from mmhydra.data.packing import kept as pack_module
from mmhydra.data.packing.kept import ensure_pack
from mmhydra.data.packing.pack import pack
from mmhydra.data.shards.reader import TokenShards

DOCUMENTS = [[1] * length for length in (3, 9, 30, 2, 14, 1)] + [mixed_document(("text", 4), *marked("audio", 12, 2))]
NAMES = ["web-train-16.edges.npy", "web-train-16.json", "web-train-16.pieces.npy"]


@pytest.fixture
def made(make_dataset):
    return make_dataset(DOCUMENTS, max_bytes=4096)


def ensure(made, seq_len=16):
    return ensure_pack(made.folder, made.manifest, "web", "train", seq_len)


def directly(made, seq_len=16):
    return pack(TokenShards(made.folder, made.manifest, "web", "train"), seq_len)


def same(one, other):
    np.testing.assert_array_equal(one.pieces, other.pieces)
    np.testing.assert_array_equal(one.edges, other.edges)
    return (one.seq_len, one.num_filled) == (other.seq_len, other.num_filled)


def contents(made):
    packs = made.folder / "packs"
    return {path.name: path.read_bytes() for path in packs.iterdir() if path.name != ".lock"}


def test_made_once_then_mapped(made, monkeypatch):
    assert same(ensure(made), directly(made))
    assert sorted(contents(made)) == NAMES
    facts = json.loads(contents(made)["web-train-16.json"])
    assert facts["num_sequences"] == ensure(made).num_sequences
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
    monkeypatch.setattr(pack_module, "ALGORITHM", 2)
    ensure(other)
    assert json.loads(contents(other)["web-train-16.json"])["algorithm"] == 2


def test_where_it_cannot_be_kept_it_is_made_in_memory_and_said_once(made, capsys):
    # A file where the folder should be: the tests may run as root, whom no permission stops.
    (made.folder / "packs").write_text("")
    for _ in range(2):
        assert same(ensure(made), directly(made))
    said = capsys.readouterr().err
    assert said.count("note: the pack index ") == 1
    assert "web-train-16 cannot be kept (File exists): made in memory" in said


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


@pytest.mark.parametrize("write", [1, 2, 3])
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
    assert NAMES[1] not in contents(made)
    assert same(ensure(made), directly(made))  # and the lock is free
    assert sorted(contents(made)) == NAMES
