import numpy as np
import pytest
from documents import marked, mixed_document

from mmhydra.data.packing.kept import ensure_pack
from mmhydra.data.verify import verify, verify_shards, verify_vocabulary

DOCUMENTS = [[1, 2, 3], [4], [5, 6], [7, 8, 9, 10], mixed_document(("text", 3), *marked("audio", 8, 2))]


@pytest.fixture
def made(make_dataset):
    return make_dataset(DOCUMENTS, max_bytes=4096)


def test_nothing_is_wrong_with_a_whole_dataset(made):
    assert len(made.manifest.shards) > 1
    done = []
    assert verify_shards(made.folder, made.manifest, on_progress=done.append) == []
    assert verify_vocabulary(made.folder, made.manifest) == []
    assert done == list(made.manifest.shards)
    ensure_pack(made.folder, made.manifest, "web", "train", 16)
    assert verify(made.folder, made.manifest) == []


def test_processes_find_the_same(made):
    path = made.folder / made.manifest.shards[1].path
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    alone = verify_shards(made.folder, made.manifest)
    assert len(alone) == 1
    done = []
    assert verify(made.folder, made.manifest, num_processes=2, on_progress=done.append) == alone
    assert done == list(made.manifest.shards)


def test_each_flipped_byte_of_a_shard(made):
    path = made.folder / made.manifest.shards[1].path
    data = bytearray(path.read_bytes())
    for place in (0, 600, len(data) - 1):
        data[place] ^= 1
        path.write_bytes(data)
        (line,) = verify_shards(made.folder, made.manifest)
        assert line.startswith(f"{made.manifest.shards[1].path}: sha256 is ")
        data[place] ^= 1


@pytest.mark.parametrize("suffix", [".idx.npy", ".seg.npy", ".chunks.npy"])
def test_each_file_beside_a_shard(made, suffix):
    shard = made.manifest.shards[0]
    path = made.folder / (shard.path + suffix)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert verify_shards(made.folder, made.manifest) == [f"{shard.path}{suffix}: not what follows from this shard"]
    path.unlink()
    (line,) = verify_shards(made.folder, made.manifest)
    assert line.startswith(f"{shard.path}: cannot read it or what lies beside it (No such file or directory: ")


def test_all_faults_at_once(make_dataset):
    made = make_dataset(DOCUMENTS * 2, max_bytes=4096)
    cut, gone, *rest = made.manifest.shards
    assert rest
    with (made.folder / cut.path).open("r+b") as file:
        file.truncate(cut.size_bytes - 1)
    (made.folder / gone.path).unlink()
    lines = verify_shards(made.folder, made.manifest)
    assert len(lines) == 2
    assert lines[0] == f"{cut.path}: {cut.size_bytes - 1} bytes, the manifest says {cut.size_bytes}"
    assert lines[1].startswith(f"{gone.path}: cannot read it")


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"num_tokens": 1}, "tokens, the manifest says"),
        ({"num_documents": 1}, "documents and"),
        ({"sidecars_xxh3": "0" * 32}, "names another hash of what lies beside it"),
        ({"chunk_bytes": 512}, "chunks.npy: not what follows"),
    ],
)
def test_a_manifest_that_is_wrong_about_a_shard(made, wrong, text):
    first = made.manifest.shards[0].model_copy(update=wrong)
    (line,) = verify_shards(made.folder, made.manifest.model_copy(update={"shards": (first,)}))
    assert text in line


def test_shards_in_another_order_have_other_keys(made):
    swapped = made.manifest.model_copy(update={"shards": made.manifest.shards[::-1]})
    assert "where 00000000" in verify_shards(made.folder, swapped)[0]


def test_another_tokenizer(made):
    (made.folder / "tokenizer.json").write_bytes(b"{ }")
    (line,) = verify_vocabulary(made.folder, made.manifest)
    assert line.startswith("tokenizer.json: sha256 is ")
    (made.folder / "tokenizer.json").unlink()
    assert verify_vocabulary(made.folder, made.manifest) == [
        "tokenizer.json: cannot read it (No such file or directory)"
    ]


def test_pack_indexes(made):
    ensure_pack(made.folder, made.manifest, "web", "train", 16)
    pieces = made.folder / "packs" / "web-train-16.pieces.npy"
    table = np.load(pieces)
    table[0, 2] += 1
    np.save(pieces, table)
    assert verify(made.folder, made.manifest) == [
        "packs/web-train-16.json: its files are damaged, or made of other shards; it will be made again when used"
    ]
    ensure_pack(made.folder, made.manifest, "web", "train", 16)
    assert verify(made.folder, made.manifest) == []
    (made.folder / "packs" / "x.json").write_text("[1]")
    assert verify(made.folder, made.manifest) == ["packs/x.json: not the description of a pack index of this dataset"]
