import hashlib
import io
import json
import math
import shutil
import subprocess
import sys
import tarfile
from collections import Counter

import numpy as np
import pytest
from tokenizers import Tokenizer

from mmhydra.data.corpus import choose_modules
from mmhydra.data.dataset_folder import DatasetError
from mmhydra.data.demo import build_demo
from mmhydra.data.index import ShardError
from mmhydra.data.manifest import ManifestError, load_manifest
from mmhydra.data.sequences import FixedSequences
from mmhydra.data.shards import TokenShards
from mmhydra.data.stream import Stream
from mmhydra.data.verify import verify_shards, verify_vocabulary

SOURCES = ("stdlib_code", "stdlib_docs")
SPLITS = ("train", "heldout")


@pytest.fixture
def build(demo):
    def build(folder, **changed):
        return build_demo(folder, **{"on_progress": lambda line: None, **demo.settings, **changed})

    return build


@pytest.fixture
def copy(demo, tmp_path):
    return shutil.copytree(demo.folder, tmp_path / "copy")


def documents(demo, source, split):
    """(info, ids) of each document, read with nothing but tarfile and numpy."""
    for shard in demo.manifest.shards_of(source, split):
        with tarfile.open(demo.folder / shard.path) as tar:
            members = {member.name: tar.extractfile(member).read() for member in tar}
        for name in sorted({name.split(".")[0] for name in members}):
            info = json.loads(members[f"{name}.json"])
            yield info, np.load(io.BytesIO(members[f"{name}.tokens.npy"]))


def test_manifest_is_what_lies_there(demo):
    assert load_manifest(demo.folder) == demo.manifest
    assert verify_shards(demo.folder, demo.manifest) == []
    assert verify_vocabulary(demo.folder, demo.manifest) == []
    assert {path.name for path in demo.folder.iterdir()} == {"manifest.json", "tokenizer.json", "shards"}
    listed = {name for shard in demo.manifest.shards for name in (shard.path, shard.path + ".idx.npy")}
    assert {f"shards/{path.name}" for path in (demo.folder / "shards").iterdir()} == listed
    assert not list(demo.folder.parent.glob("*building*"))


def test_manifest_describes_the_demo(demo):
    manifest = demo.manifest
    assert manifest.dataset == "demo"
    assert manifest.builder["settings"] == {"builder_version": 1, **demo.settings}
    assert manifest.builder["python"] == ".".join(map(str, sys.version_info[:3]))
    assert [source.name for source in manifest.sources] == list(SOURCES)
    assert {source.license for source in manifest.sources} == {"PSF-2.0"}
    for source in manifest.sources:
        train = sum(shard.num_tokens for shard in manifest.shards_of(source.name, "train"))
        assert source.tokens_per_modality == {"text": train}
        assert train > 10_000


def test_vocabulary_is_exact(demo):
    text = (demo.folder / "tokenizer.json").read_bytes()
    assert demo.manifest.vocabulary.digest == hashlib.sha256(text).hexdigest()
    tokenizer = Tokenizer.from_str(text.decode())
    assert tokenizer.get_vocab_size() == demo.manifest.vocabulary.size == demo.settings["vocab_size"]
    assert tokenizer.id_to_token(0) == "<|endoftext|>"
    assert demo.manifest.vocabulary.eod_id == 0


def test_documents_decode_to_the_modules(demo):
    tokenizer = Tokenizer.from_file(str(demo.folder / "tokenizer.json"))
    modules = {module.path: module for module in choose_modules(600_000)}
    seen = Counter()
    for source in SOURCES:
        for split in SPLITS:
            for info, tokens in documents(demo, source, split):
                path = info["unique_id"].removeprefix(f"{source}/")
                seen[source] += 1
                text = modules[path].code if source == "stdlib_code" else modules[path].docs
                assert tokens[-1] == 0
                assert tokenizer.decode(tokens[:-1].tolist(), skip_special_tokens=False) == text
                assert info["source"] == source
                assert info["source_uri"].endswith(f"/Lib/{path}")
                assert (split == "heldout") == modules[path].held_out(demo.settings["heldout_fraction"])
    assert seen == {
        "stdlib_code": len(modules),
        "stdlib_docs": sum(bool(module.docs) for module in modules.values()),
    }


def test_a_module_is_held_out_as_a_whole(demo):
    paths = {
        split: {info["unique_id"].split("/", 1)[1] for source in SOURCES for info, _ in documents(demo, source, split)}
        for split in SPLITS
    }
    assert paths["train"]
    assert paths["heldout"]
    assert not paths["train"] & paths["heldout"]


def test_tokenizer_never_saw_the_heldout_split(demo, tmp_path, build):
    """Other shares held out give another tokenizer; it depends on the train split's text alone."""
    other = build(tmp_path / "other", heldout_fraction=0.5)
    assert other.vocabulary.digest != demo.manifest.vocabulary.digest


def test_entropy_is_that_of_the_train_ids(demo):
    ids = np.concatenate([tokens for source in SOURCES for _, tokens in documents(demo, source, "train")])
    shares = [count / len(ids) for count in Counter(ids.tolist()).values()]
    assert demo.manifest.unigram_entropy_nats == pytest.approx(-sum(p * math.log(p) for p in shares), rel=1e-12)
    assert 3 < demo.manifest.unigram_entropy_nats < math.log(demo.manifest.vocabulary.size)


def test_plain_webdataset_reads_it(demo, read_with_webdataset):
    shards = demo.manifest.shards_of("stdlib_code", "train")
    assert len(shards) > 1
    paths = [str(demo.folder / shard.path) for shard in shards]
    samples = read_with_webdataset(paths)
    assert len(samples) == sum(shard.num_documents for shard in shards)
    row = TokenShards(demo.folder, demo.manifest, "stdlib_code", "train")
    np.testing.assert_array_equal(
        np.concatenate([sample["tokens.npy"] for sample in samples]), row.read(0, row.num_tokens)
    )


def test_stream_over_the_demo(demo):
    sources = [
        (name, FixedSequences(TokenShards(demo.folder, demo.manifest, name, "train"), 128), weight)
        for name, weight in zip(SOURCES, (0.8, 0.2), strict=True)
    ]
    stream = Stream(sources, seed=1)
    rows = stream.samples(np.arange(0, 20_000, 100))
    assert rows.shape == (200, 129)
    assert rows.min() >= 0
    assert rows.max() < demo.manifest.vocabulary.size
    assert len(np.unique(rows, axis=0)) > 150  # some of the small source come again


def test_two_builds_give_the_same_digest_whatever_the_threads(demo, tmp_path):
    script = (
        "import sys, pathlib\n"
        "from mmhydra.data.demo import build_demo\n"
        f"m = build_demo(pathlib.Path(sys.argv[1]), **{demo.settings!r}, on_progress=lambda line: None)\n"
        "assert not {'torch', 'webdataset', 'hydra'} & set(sys.modules), 'a heavy import came in'\n"
        "print(m.digest)"
    )
    settings = (
        {"TOKENIZERS_PARALLELISM": "false", "PYTHONHASHSEED": "1"},
        {"TOKENIZERS_PARALLELISM": "true", "RAYON_NUM_THREADS": "7", "PYTHONHASHSEED": "2"},
    )
    for number, environment in enumerate(settings):
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / str(number))],
            env={"PYTHONPATH": ":".join(filter(None, sys.path)), **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout.strip() == demo.manifest.digest, done.stderr


def test_a_ready_dataset_is_used_again(demo, copy, build):
    copied_at = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    lines = []
    assert build(copy, on_progress=lines.append) == demo.manifest
    assert lines == []
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*")} == copied_at
    assert not copy.with_name("copy.lock").exists()


def test_an_empty_folder_is_filled(demo, tmp_path, build):
    (tmp_path / "empty").mkdir()
    assert build(tmp_path / "empty").digest == demo.manifest.digest


def test_numbers_may_be_whole(demo, copy, build):
    path = copy / "manifest.json"
    data = json.loads(path.read_text())
    data["builder"]["settings"]["shard_mb"] = 1.0
    path.write_text(json.dumps(data))
    assert build(copy, shard_mb=1).digest != demo.manifest.digest


def test_other_settings_are_refused_by_name(copy, build):
    before = (copy / "manifest.json").read_bytes()
    with pytest.raises(DatasetError) as caught:
        build(copy, vocab_size=600, corpus_mb=0.7)
    message = str(caught.value)
    assert "vocab_size: there 512, asked for 600" in message
    assert "corpus_mb: there 0.6, asked for 0.7" in message
    assert "shard_mb" not in message
    assert "data.sources.0.dataset=NAME" in message
    assert f"rm -r {copy}" in message
    assert (copy / "manifest.json").read_bytes() == before


@pytest.mark.parametrize("damage", ["missing", "corrupt"])
def test_a_damaged_manifest_is_refused_and_nothing_is_deleted(copy, damage, build):
    if damage == "missing":
        (copy / "manifest.json").unlink()
    else:
        (copy / "manifest.json").write_text("{")
    files = sorted(copy.rglob("*"))
    with pytest.raises(ManifestError, match=f"rm -r {copy}"):
        build(copy)
    assert sorted(copy.rglob("*")) == files


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_damaged_shard_is_refused(demo, copy, damage, build):
    path = copy / demo.manifest.shards[-1].path
    path.chmod(0o600)
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ShardError, match=f"shard {path} .*rm -r"):
        build(copy)


def test_verify_finds_a_flipped_byte_in_the_demo(demo, copy):
    path = copy / demo.manifest.shards[2].path
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    (line,) = verify_shards(copy, demo.manifest)
    assert line.startswith(f"{demo.manifest.shards[2].path}: sha256 is ")


def test_a_file_in_the_way_is_refused(tmp_path, build):
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match="is not a folder"):
        build(tmp_path / "file")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"vocab_size": 256}, "vocab_size of the demo is at least 257, not 256"),
        ({"corpus_mb": 0}, "corpus_mb and shard_mb"),
        ({"shard_mb": -1}, "corpus_mb and shard_mb"),
        ({"corpus_mb": math.nan}, "corpus_mb and shard_mb"),
        ({"heldout_fraction": 0}, "heldout_fraction"),
        ({"heldout_fraction": 1}, "heldout_fraction"),
        ({"heldout_fraction": 1e-9}, "leave no documented module for the split heldout"),
        ({"corpus_mb": 0.001}, "leave no documented module for the split train"),
        ({"vocab_size": 60_000}, "not 60000: use fewer, or more text"),
    ],
)
def test_wrong_settings_leave_nothing(tmp_path, changed, message, build):
    with pytest.raises(ValueError, match=message):
        build(tmp_path / "data" / "v1", **changed)
    assert {path.name for path in tmp_path.rglob("*")} <= {"data", "v1.lock"}
