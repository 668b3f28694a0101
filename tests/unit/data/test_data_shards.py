import io
import os
import resource
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import webdataset
from documents import documents, marked, mixed_document
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmhydra.data.shards.document import NO_OPENER, Document, Segment, text_document
from mmhydra.data.shards.index import from_npy, npy, scan
from mmhydra.data.shards.manifest import ManifestError
from mmhydra.data.shards.reader import TokenShards, check_sizes
from mmhydra.data.shards.writer import DocumentInfo, ShardWriter
from mmhydra.data.storage.access import Access
from mmhydra.data.storage.faults import WHOLE_SHARD, BadChunk, ChunkFault, ShardError

TEXTS = [[1, 2, 3], [4], [], [5, 6], [7, 8, 9, 10], [11] * 40]
MIXED = mixed_document(("text", 3), *marked("audio", 8, 2), ("text", 2, 1, False))


@pytest.fixture
def made(make_dataset):
    return make_dataset([*TEXTS, MIXED], max_bytes=4096)


def open_shards(made):
    return TokenShards(made.folder, made.manifest, "web", "train")


def info(name="d"):
    return DocumentInfo(name, "web", "file:///d", ("text",), "CC0-1.0", "en")


def writer(folder, **changed):
    return ShardWriter(folder, "web", "train", **{"vocab_size": 100, "eod_id": 0, "max_bytes": 10**6, **changed})


def test_plain_webdataset_reads_them(made, read_with_webdataset):
    samples = read_with_webdataset([str(made.folder / shard.path) for shard in made.manifest.shards])
    assert [sample["__key__"] for sample in samples] == [f"{number:09d}" for number in range(len(TEXTS) + 1)]
    assert [sample["tokens.npy"].tolist() for sample in samples] == [*([*t, 0] for t in TEXTS), MIXED.ids.tolist()]
    assert samples[0]["tokens.npy"].dtype == np.uint16
    assert samples[3]["json"] == {
        "unique_id": "d3",
        "source": "web",
        "source_uri": "file:///d3",
        "modalities": ["text"],
        "license": "CC0-1.0",
        "language": "en",
        "template": "plain",
        "record": {"title": "d3"},
        "segments": [["text", 0, 2, 1, True, -1], ["special", 2, 1, 1, True, -1]],
    }


def test_bytes_are_those_of_webdataset_tar_writer(made):
    path = made.folder / made.manifest.shards[0].path
    with tarfile.open(path) as tar:
        members = [(member.name, tar.extractfile(member).read()) for member in tar]
    theirs = io.BytesIO()
    with webdataset.TarWriter(theirs, user="mmhydra", group="mmhydra", mtime=0, encoder=False) as tar:
        for (name, json_data), (_, token_data) in zip(members[::2], members[1::2], strict=True):
            tar.write({"__key__": name.split(".")[0], "json": json_data, "tokens.npy": token_data})
    assert theirs.getvalue() == path.read_bytes()


def test_same_documents_give_same_bytes(make_dataset):
    first, second = (make_dataset([*TEXTS, MIXED], max_bytes=4096, name=name) for name in ("a", "b"))
    assert second.manifest.shards == first.manifest.shards
    names = sorted(path.name for path in (first.folder / "shards").iterdir())
    assert names == sorted(path.name for path in (second.folder / "shards").iterdir())
    assert len(names) == 4 * len(first.manifest.shards)
    for name in names:
        assert (first.folder / "shards" / name).read_bytes() == (second.folder / "shards" / name).read_bytes()


def test_writers_of_one_shard_each_do_what_one_writer_does(made, tmp_path):
    corpus, first = [*map(lambda t: text_document(t, 0), TEXTS), MIXED], 0
    for number, shard in enumerate(made.manifest.shards):
        part = writer(tmp_path, max_bytes=None, chunk_bytes=4096, first_shard=number, first_document=first)
        with part:
            for document in range(first, first + shard.num_documents):
                name = f"d{document}"
                own = DocumentInfo(name, "web", f"file:///{name}", ("text",), "CC0-1.0", "en", "plain", {"title": name})
                assert part.write(corpus[document], own) == f"{document:09d}"
        assert part.shards == [shard]
        assert (tmp_path / shard.path).read_bytes() == (made.folder / shard.path).read_bytes()
        first += shard.num_documents


def test_rolls_at_the_size_limit(make_dataset):
    made = make_dataset([[1] * 100] * 20, max_bytes=10_000)
    assert len(made.manifest.shards) > 2
    for shard in made.manifest.shards:
        with tarfile.open(made.folder / shard.path) as tar:
            last = tar.getmembers()[-1]
        assert last.offset_data + last.size <= 10_000
    assert sum(shard.num_documents for shard in made.manifest.shards) == 20


def test_a_document_above_the_limit_gets_its_own_shard(make_dataset):
    made = make_dataset([[1], [2] * 9000, [3]], max_bytes=4096)
    assert [shard.num_documents for shard in made.manifest.shards] == [1, 1, 1]
    assert open_shards(made).ids(1).tolist() == [2] * 9000 + [0]


@pytest.mark.parametrize(("vocab_size", "dtype"), [(65536, "<u2"), (65537, "<u4")])
def test_widest_ids_survive(make_dataset, vocab_size, dtype):
    made = make_dataset([[1, vocab_size - 1], [vocab_size - 2]], vocab_size=vocab_size)
    assert open_shards(made).ids(0).tolist() == [1, vocab_size - 1, 0]
    assert open_shards(made).ids(1).tolist() == [vocab_size - 2, 0]
    with tarfile.open(made.folder / made.manifest.shards[0].path) as tar:
        assert np.load(io.BytesIO(tar.extractfile("000000000.tokens.npy").read())).dtype == np.dtype(dtype)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(corpus=st.lists(documents(), min_size=1, max_size=9), data=st.data())
def test_reads_what_was_written(make_dataset, corpus, data):
    made = make_dataset(
        corpus,
        max_bytes=data.draw(st.sampled_from([1, 4096, 10**6])),
        chunk_bytes=data.draw(st.sampled_from([1, 100, 512, 10**6])),
    )
    shards = open_shards(made)
    assert shards.num_documents == len(corpus)
    assert shards.num_tokens == sum(len(document.ids) for document in corpus)
    runs = []
    for number, document in enumerate(corpus):
        offset = data.draw(st.integers(0, len(document.ids)))
        length = data.draw(st.integers(0, len(document.ids) - offset))
        np.testing.assert_array_equal(shards.ids(number, offset, length), document.ids[offset : offset + length])
        np.testing.assert_array_equal(shards.ids(number), document.ids)
        assert shards.segments(number) == document.segments
        assert shards.find(shards.key(number)) == number
        assert shards.info(number)["unique_id"] == f"d{number}"
        if length:
            runs.append((number, offset, length))
    order = data.draw(st.permutations(runs))
    found = shards.read(*np.array(order, np.int64).reshape(-1, 3).T)
    loss = [np.repeat([s.loss for s in d.segments], [s.length for s in d.segments]) for d in corpus]
    expected = [(corpus[n].ids[o : o + length], loss[n][o : o + length]) for n, o, length in order]
    assert found.ids.tolist() == [i for ids, _ in expected for i in ids]
    assert found.loss.tolist() == [flag for _, flags in expected for flag in flags]


def test_a_scan_of_the_tar_finds_what_the_writer_wrote(made):
    first = 0
    for shard in made.manifest.shards:
        path = made.folder / shard.path
        with path.open("rb") as file:
            index, segments = scan(file, shard.path, 100, first)
        np.testing.assert_array_equal(index, np.load(f"{path}.idx.npy"))
        np.testing.assert_array_equal(segments, np.load(f"{path}.seg.npy"))
        first += shard.num_documents


def test_reading_outside(made):
    shards = open_shards(made)
    for number, offset, length in [(0, -1, 2), (0, 0, 5), (0, 4, 1), (0, 3, -1)]:
        with pytest.raises(IndexError, match=r"of document 0 of shards/web-train-00000\.tar, which has 4"):
            shards.ids(number, offset, length)
    for number in (-1, len(TEXTS) + 1):
        for ask in (shards.ids, shards.segments, shards.info, shards.shard_of_document, shards.key):
            with pytest.raises(IndexError, match=f"document {number}"):
                ask(number)
        with pytest.raises(IndexError):
            shards.read(np.array([number]), np.array([0]), np.array([1]))
    for key in ("000000007", "0", "-00000001", "a", "²00000000"):
        with pytest.raises(ShardError, match=f"has no document {key}; its keys are 000000000 to 000000006"):
            shards.find(key)


def test_documents_know_their_shards(made):
    shards = open_shards(made)
    expected = [shard.path for shard in made.manifest.shards for _ in range(shard.num_documents)]
    assert len(set(expected)) > 1
    assert [shards.shard_of_document(number) for number in range(len(expected))] == expected


def test_a_missing_shard_is_named_when_it_is_read_and_when_sizes_are_looked_at(made):
    shard = made.manifest.shards[1]
    path = made.folder / shard.path
    shards = open_shards(made)
    path.unlink()
    with pytest.raises(ChunkFault, match=rf"{path} cannot be opened \(No such file.*rm -r {made.folder}") as caught:
        shards.ids(made.manifest.shards[0].num_documents)
    assert caught.value.bad[:3] == ("made", shard.path, 0)
    assert caught.value.exit_code == 2
    with pytest.raises(ShardError, match=rf"{path} cannot be opened \(No such file.*rm -r"):
        check_sizes(made.folder, made.manifest)
    check_sizes(made.folder, made.manifest, sources=["another"])


def test_a_truncated_shard_is_named_when_it_is_read_and_when_sizes_are_looked_at(make_dataset):
    made = make_dataset([[1] * 3000, [2] * 3000], chunk_bytes=4096)
    (shard,) = made.manifest.shards
    with (made.folder / shard.path).open("r+b") as file:
        file.truncate(5000)
    said = f"has 5000 bytes, the manifest says {shard.size_bytes}.*rm -r"
    with pytest.raises(ShardError, match=said):
        check_sizes(made.folder, made.manifest)
    shards = open_shards(made)
    assert shards.ids(0, 0, 100).tolist() == [1] * 100  # chunk 0 is whole
    with pytest.raises(ChunkFault, match=said) as caught:
        shards.ids(1)
    assert caught.value.bad.chunk == 2


def test_missing_split(made):
    with pytest.raises(ManifestError, match="web/heldout"):
        TokenShards(made.folder, made.manifest, "web", "heldout")


def test_a_damaged_chunk_is_found_when_it_is_read(make_dataset):
    made = make_dataset([[1] * 3000, [2] * 3000, [3] * 3000], chunk_bytes=4096)
    (shard,) = made.manifest.shards
    path = made.folder / shard.path
    data = bytearray(path.read_bytes())
    data[10_000] ^= 1  # in chunk 2, bytes 8192 to 12287, which the first and second document share
    path.write_bytes(data)
    shards = open_shards(made)
    assert shards.ids(0, 0, 100).tolist() == [1] * 100
    assert shards.ids(2).tolist() == [3] * 3000 + [0]
    for _ in range(2):  # it is not forgotten
        with pytest.raises(ChunkFault) as caught:
            shards.ids(1)
        said = "it has another hash than when it was written"
        assert caught.value.bad == BadChunk("made", shard.path, 2, said, 1, 2)
        for text in (f"shard {path}, chunk 2 (bytes 8192 to 12287) of dataset made", said, f"rm -r {made.folder}"):
            assert text in str(caught.value)


def test_what_was_verified_is_what_is_used(make_dataset):
    made = make_dataset([[1] * 3000], chunk_bytes=4096)
    shards = open_shards(made)
    shards.ids(0)
    path = made.folder / made.manifest.shards[0].path
    with path.open("r+b") as file:
        file.seek(3000)
        file.write(b"\7\0")
    assert shards.ids(0).tolist() == [1] * 3000 + [0]
    with pytest.raises(ChunkFault, match="chunk 0"):
        open_shards(made).ids(0)


@pytest.mark.parametrize("suffix", [".idx.npy", ".seg.npy", ".chunks.npy"])
@pytest.mark.parametrize("damage", ["missing", "empty", "short", "bit"])
def test_damage_beside_a_shard(made, suffix, damage):
    path = made.folder / (made.manifest.shards[0].path + suffix)
    data = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    else:
        data[-1] ^= damage == "bit"
        path.write_bytes({"empty": b"", "short": data[:-1], "bit": data}[damage])
    with pytest.raises(ShardError, match=r"(?s)web-train-00000\.tar.*rm -r"):
        open_shards(made).ids(0)


@pytest.mark.parametrize(
    ("ids", "message"),
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
def test_writer_refuses_ids(tmp_path, ids, message):
    segments = (Segment("text", 0, len(ids), 1, True, NO_OPENER),) if len(ids) else ()
    with writer(tmp_path) as refusing, pytest.raises(ShardError, match=f"(?s)document d.*{message}"):
        refusing.write(Document(ids, segments), info())
    assert refusing.shards == []


@pytest.mark.parametrize(
    ("segment", "message"),
    [
        (Segment("smell", 0, 2, 1, True, NO_OPENER), "modality smell is none of text, special, image, audio, video"),
        (Segment("audio", 0, 2, 1, True, 100), "opener 100 is not in the vocabulary"),
    ],
)
def test_writer_refuses_segments(tmp_path, segment, message):
    with writer(tmp_path) as refusing, pytest.raises(ShardError, match=f"document d: {message}"):
        refusing.write(Document(np.array([1, 0]), (segment,)), info())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"max_bytes": 0}, "size limit"), ({"chunk_bytes": 0}, "chunk has more"), ({"eod_id": 100}, "vocabulary of 100")],
)
def test_writer_refuses_settings(tmp_path, wrong, message):
    with pytest.raises(ShardError, match=message):
        writer(tmp_path, **wrong)


def test_an_exception_leaves_no_half_shard(tmp_path):
    def write():
        with writer(tmp_path) as dropped:
            dropped.write(text_document([1], 0), info())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write()
    assert list((tmp_path / "shards").iterdir()) == []


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from mmhydra.data.shards.document import text_document
from mmhydra.data.shards.writer import DocumentInfo, ShardWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    with ShardWriter(Path(sys.argv[1]), "web", "train", vocab_size=100, eod_id=0, max_bytes=int(sys.argv[2])) as writer:
        for number in range(100):
            writer.write(text_document([1] * 500, 0), DocumentInfo("d", "web", "", ("text",), "", "en"))
except OSError as error:
    print(type(error).__name__, len(writer.shards))
"""


@pytest.mark.parametrize(("max_bytes", "left"), [(40_000, None), (10**6, 0)])
def test_a_full_disk_leaves_whole_shards_only(tmp_path, max_bytes, left):
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path), str(max_bytes)], capture_output=True, text=True, check=True
    )
    names = sorted(path.name for path in (tmp_path / "shards").iterdir())
    if left == 0:
        assert done.stdout == "OSError 0\n"
        assert names == []
    else:
        assert done.stdout == ""
        assert names
    assert not [name for name in names if name.startswith(".")]


def test_a_killed_writers_rest_is_written_over(tmp_path, make_dataset):
    folder = tmp_path / "again" / "shards"
    folder.mkdir(parents=True)
    (folder / ".web-train-00000.tar.tmp").write_bytes(b"half" * 10_000)
    made = make_dataset([[1, 2]], name="again")
    assert open_shards(made).ids(0).tolist() == [1, 2, 0]
    assert not list(folder.glob(".*"))


def test_memory_does_not_hold_the_shard(tmp_path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with writer(tmp_path, max_bytes=10**9) as long:
        document = text_document(np.ones(50_000, np.int64), 0)
        for _ in range(600):  # 60 MB
            long.write(document, info())
    assert long.shards[0].size_bytes > 59e6
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30e3  # kB


def test_no_file_stays_open(made):
    shards = open_shards(made)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(shards.num_documents):
        shards.ids(number)
    assert len(os.listdir("/proc/self/fd")) == before


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(corpus=st.lists(documents(), min_size=1, max_size=9), chunk_bytes=st.sampled_from([1, 100, 512]), data=st.data())
def test_chunks_of_are_just_those_that_reading_takes(make_dataset, corpus, chunk_bytes, data):
    made = make_dataset(corpus, max_bytes=4096, chunk_bytes=chunk_bytes)
    rows = []
    for number, document in enumerate(corpus):
        offset = data.draw(st.integers(0, len(document.ids)))
        rows.append((number, offset, data.draw(st.integers(0, len(document.ids) - offset))))
    columns = np.array(data.draw(st.permutations(rows)), np.int64).T
    shards = open_shards(made)
    wanted = shards.chunks_of(*columns)
    access = Access.local()
    reading = TokenShards(made.folder, made.manifest, "web", "train", access)
    reading.read(*columns)
    by_digest = {shard.sidecars_xxh3: shard.path for shard in made.manifest.shards}
    read = {(by_digest[digest], chunk) for digest, chunk in access.memory.keys() if chunk >= 0}  # noqa: SIM118
    assert read == wanted
    assert {path for path, _ in wanted} <= {shards.shard_of_document(number) for number in columns[0].tolist()}
    before = access.counters.store_reads
    reading.warm(wanted)
    assert access.counters.store_reads == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_documents": 3}, "the manifest lies: it says 3 documents, where there are 2"),
        ({"num_tokens": 5}, "the manifest lies: it says 5 tokens, where there are 6002"),
        ({"size_bytes": 4096}, "the manifest lies: it says 1 chunks of 4096 bytes, where there are 5"),
        ({"chunk_bytes": 8192}, "the manifest lies: it says 3 chunks of 8192 bytes, where there are 5"),
        ({"sidecars_xxh3": "0" * 32}, r"the files beside it \(.idx.npy, .seg.npy, .chunks.npy\) are not those"),
    ],
)
def test_a_manifest_that_lies_is_named(make_dataset, change, message):
    made = make_dataset([[1] * 3000, [2] * 3000], chunk_bytes=4096)
    (shard,) = made.manifest.shards
    manifest = made.manifest.model_copy(update={"shards": (shard.model_copy(update=change),)})
    with pytest.raises(ChunkFault, match=message) as caught:
        TokenShards(made.folder, manifest, "web", "train").ids(0)
    assert caught.value.bad[:3] == ("made", shard.path, WHOLE_SHARD)
    assert caught.value.bad.reason in str(caught.value)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6).reshape(3, 2),
        np.asfortranarray(np.arange(15).reshape(3, 5)),
        np.zeros((0, 2), np.int64),
        np.array([7], np.uint64),
        np.array([True, False]),
        np.array(5, np.uint16),
    ],
)
def test_arrays_are_read_back_without_compiling_python(array):
    content = np.frombuffer(b"before" + npy(array) + b"behind", np.uint8)
    found, end = from_npy(content, 6)
    assert content[end:].tobytes() == b"behind"
    assert found.dtype == array.dtype
    assert np.array_equal(found, array)
    assert found.flags.f_contiguous == array.flags.f_contiguous


@pytest.mark.parametrize(
    "content", [b"", b"\x93NUMPY\x01\x00\x10", npy(np.arange(9))[:-1], npy(np.array(["x"])), b"x" * 200]
)
def test_what_is_no_array_of_numbers_is_refused(content):
    with pytest.raises(ValueError, match="a file beside it"):
        from_npy(np.frombuffer(content, np.uint8), 0)
