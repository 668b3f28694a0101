import io
import pickle
import tarfile

import numpy as np
import pytest
import webdataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmhydra.data.index import ShardError
from mmhydra.data.manifest import ManifestError
from mmhydra.data.shard_writer import DocumentInfo, ShardWriter
from mmhydra.data.shards import TokenShards

DOCUMENTS = [[1, 2, 3], [4], [], [5, 6], [7, 8, 9, 10], [11] * 40]


def info(name="d"):
    return DocumentInfo(name, "web", "file:///d", ("text",), "CC0-1.0", "en")


@pytest.fixture
def made(make_dataset):
    return make_dataset(DOCUMENTS, max_bytes=4096)


def open_shards(made):
    return TokenShards(made.folder, made.manifest, "web", "train")


def test_plain_webdataset_reads_them(made, row, read_with_webdataset):
    paths = [str(made.folder / shard.path) for shard in made.manifest.shards]
    samples = read_with_webdataset(paths)
    assert [sample["__key__"] for sample in samples] == [f"{number:09d}" for number in range(len(DOCUMENTS))]
    np.testing.assert_array_equal(np.concatenate([sample["tokens.npy"] for sample in samples]), row(DOCUMENTS))
    assert samples[0]["tokens.npy"].dtype == np.uint16
    assert samples[3]["json"] == {
        "unique_id": "d3",
        "source": "web",
        "source_uri": "file:///d3",
        "modalities": ["text"],
        "license": "CC0-1.0",
        "language": "en",
    }


def test_bytes_are_those_of_webdataset_tar_writer(made):
    path = made.folder / made.manifest.shards[0].path
    with tarfile.open(path) as tar:
        members = [(member.name, tar.extractfile(member).read()) for member in tar]
    theirs = io.BytesIO()
    with webdataset.TarWriter(theirs, user="mmhydra", group="mmhydra", mtime=0, encoder=False) as writer:
        for (name, json_data), (_, token_data) in zip(members[::2], members[1::2], strict=True):
            writer.write({"__key__": name.split(".")[0], "json": json_data, "tokens.npy": token_data})
    assert theirs.getvalue() == path.read_bytes()


def test_same_documents_give_same_bytes(make_dataset):
    first = make_dataset(DOCUMENTS, max_bytes=4096)
    names = sorted(path.name for path in (first.folder / "shards").iterdir())
    before = [(first.folder / "shards" / name).read_bytes() for name in names]
    second = make_dataset(DOCUMENTS, max_bytes=4096)
    assert second.manifest.digest == first.manifest.digest
    assert [(first.folder / "shards" / name).read_bytes() for name in names] == before


def test_rolls_at_the_size_limit(make_dataset):
    documents = [[1] * 100] * 20
    made = make_dataset(documents, max_bytes=10_000)
    assert len(made.manifest.shards) > 2
    for shard in made.manifest.shards:
        with tarfile.open(made.folder / shard.path) as tar:
            last = tar.getmembers()[-1]
        assert last.offset_data + last.size <= 10_000
    assert sum(shard.num_documents for shard in made.manifest.shards) == 20


def test_a_document_above_the_limit_gets_its_own_shard(make_dataset, row):
    documents = [[1], [2] * 9000, [3]]
    made = make_dataset(documents, max_bytes=4096)
    assert [shard.num_documents for shard in made.manifest.shards] == [1, 1, 1]
    np.testing.assert_array_equal(open_shards(made).read(0, 9005), row(documents))


@pytest.mark.parametrize(("vocab_size", "dtype"), [(65536, "<u2"), (65537, "<u4")])
def test_widest_ids_survive(make_dataset, row, vocab_size, dtype):
    documents = [[1, vocab_size - 1], [vocab_size - 2]]
    made = make_dataset(documents, vocab_size=vocab_size)
    np.testing.assert_array_equal(open_shards(made).read(0, 5), row(documents))
    with tarfile.open(made.folder / made.manifest.shards[0].path) as tar:
        assert np.load(io.BytesIO(tar.extractfile("000000000.tokens.npy").read())).dtype == np.dtype(dtype)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(documents=st.lists(st.lists(st.integers(1, 99), max_size=9), min_size=1, max_size=12), data=st.data())
def test_read_is_a_slice_of_all_documents(make_dataset, row, documents, data):
    made = make_dataset(documents, max_bytes=data.draw(st.sampled_from([1, 4096, 10**6])))
    shards, whole = open_shards(made), row(documents)
    assert shards.num_tokens == len(whole)
    assert shards.num_documents == len(documents)
    start = data.draw(st.integers(0, len(whole)))
    count = data.draw(st.integers(0, len(whole) - start))
    read = shards.read(start, count)
    assert read.dtype == np.int64
    np.testing.assert_array_equal(read, whole[start : start + count])


@pytest.mark.parametrize(("start", "count"), [(-1, 2), (0, 57), (56, 1), (3, -1)])
def test_read_outside(made, start, count):
    assert open_shards(made).num_tokens == 56
    with pytest.raises(IndexError, match="has 56"):
        open_shards(made).read(start, count)


def test_shard_at_names_the_shard_of_each_id(made):
    expected = [shard.path for shard in made.manifest.shards for _ in range(shard.num_tokens)]
    shards = open_shards(made)
    assert len(set(expected)) > 1
    assert [shards.shard_at(token) for token in range(shards.num_tokens)] == expected
    for token in (-1, shards.num_tokens):
        with pytest.raises(IndexError, match=f"which has {shards.num_tokens}"):
            shards.shard_at(token)


def test_pickle_carries_no_data(make_dataset):
    made = make_dataset([[1] * 50_000])
    pickled = pickle.dumps(open_shards(made))
    assert len(pickled) < 10_000
    np.testing.assert_array_equal(pickle.loads(pickled).read(49_999, 2), [1, 0])


def test_missing_shard(made):
    path = made.folder / made.manifest.shards[1].path
    path.unlink()
    with pytest.raises(ShardError, match=rf"shard {path} cannot be opened \(No such file"):
        open_shards(made)


def test_truncated_shard(made):
    shard = made.manifest.shards[0]
    with (made.folder / shard.path).open("r+b") as file:
        file.truncate(5000)
    with pytest.raises(ShardError, match=f"has 5000 bytes, the manifest says {shard.size_bytes}.*rm -r"):
        open_shards(made)


def test_missing_split(made):
    with pytest.raises(ManifestError, match="web/heldout"):
        TokenShards(made.folder, made.manifest, "web", "heldout")


@pytest.mark.parametrize("damage", ["missing", "empty", "row", "offset", "length", "type"])
def test_damaged_index(made, damage):
    shard = made.manifest.shards[0]
    path = made.folder / (shard.path + ".idx.npy")
    index = np.load(path)
    assert len(index) > 1
    if damage == "missing":
        path.unlink()
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        if damage == "row":
            index = index[:-1]
        elif damage == "offset":
            index[-1, 0] = shard.size_bytes
        elif damage == "length":
            index[0, 1] += 1
        else:
            index = index.astype(np.float64)
        np.save(path, index)
    with pytest.raises(ShardError, match=r"\.idx\.npy .*rm -r"):
        open_shards(made)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (np.array([1, 2]), "must be last"),
        (np.array([1, 0, 2, 0]), r"must be last.*\[1, 3\]"),
        (np.array([1, 100, 0]), "id 100 is not in the vocabulary of 100"),
        (np.array([-1, 0]), "id -1"),
        (np.array([], dtype=np.int64), "1-D"),
        (np.array([[1, 0]]), "1-D"),
        (np.array([1.0, 0.0]), "1-D"),
    ],
)
def test_writer_refuses(tmp_path, tokens, message):
    writer = ShardWriter(tmp_path, "web", "train", vocab_size=100, eod_id=0, max_bytes=1000)
    with pytest.raises(ShardError, match=f"(?s)document d.*{message}"):
        writer.write(tokens, info())
    writer.close()
    assert writer.shards == []


def test_an_exception_leaves_no_half_shard(tmp_path):
    def write():
        with ShardWriter(tmp_path, "web", "train", vocab_size=100, eod_id=0, max_bytes=10**6) as writer:
            writer.write(np.array([1, 0]), info())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write()
    assert list((tmp_path / "shards").iterdir()) == []
