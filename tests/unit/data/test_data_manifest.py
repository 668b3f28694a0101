import hashlib
import json
import os

import pytest
from pydantic import ValidationError

from mmhydra.data.shards.manifest import CodecInfo, Manifest, ManifestError, Shard, load_manifest, write_manifest
from mmhydra.errors import UserError

DOCUMENTS = [[1, 2, 3], [4], [5, 6], [7, 8, 9, 10]]


@pytest.fixture
def made(make_dataset):
    return make_dataset(DOCUMENTS, max_bytes=4096)


def test_round_trip_keeps_everything(made):
    loaded = load_manifest(made.folder)
    assert loaded == made.manifest
    assert loaded.digest == made.manifest.digest


def test_round_trip_of_awkward_values(made, tmp_path):
    manifest = made.manifest.model_copy(
        update={"unigram_entropy_nats": 0.1 + 0.2, "builder": {"a": 6.0, "name": "Zoë", "b": [1, None, True]}}
    )
    write_manifest(tmp_path, manifest)
    assert load_manifest(tmp_path).digest == manifest.digest


def test_digest_depends_on_every_field(made):
    manifest = made.manifest
    others = [
        manifest.model_copy(update=update)
        for update in (
            {"dataset": "x"},
            {"builder": {"x": 1}},
            {"shards": manifest.shards[:1]},
            {"sources": ()},
            {"unigram_entropy_nats": 2.0},
            {"codecs": {"image": CodecInfo(settings={}, digest="0" * 64, trained=False, note="")}},
            {"sources": (manifest.sources[0].model_copy(update={"largest_unit": 2}),)},
            {"vocabulary": manifest.vocabulary.model_copy(update={"eod_id": 1})},
        )
    ]
    assert len({manifest.digest, *(other.digest for other in others)}) == len(others) + 1


def test_digest_is_sha256_of_canonical_json():
    # Written out, so that a change of what is hashed cannot pass unseen: old runs name old digests.
    manifest = Manifest.model_validate(
        {
            "dataset": "d",
            "builder": {},
            "vocabulary": {
                "size": 2,
                "digest": "0" * 64,
                "layout_digest": "1" * 64,
                "layout": {"name": "x"},
                "eod_id": 0,
                "tokenizer_file": "t",
                "tokenizer_sha256": "2" * 64,
            },
            "sources": [],
            "shards": [],
            "unigram_entropy_nats": 0.5,
            "codecs": {},
        }
    )
    canonical = (
        '{"builder":{},"codecs":{},"dataset":"d","schema_version":2,"shards":[],"sources":[],'
        '"unigram_entropy_nats":0.5,"vocabulary":{"digest":"'
        + "0" * 64
        + '","eod_id":0,"layout":{"name":"x"},"layout_digest":"'
        + "1" * 64
        + '","size":2,"tokenizer_file":"t","tokenizer_sha256":"'
        + "2" * 64
        + '"}}'
    )
    assert manifest.digest == hashlib.sha256(canonical.encode()).hexdigest()


def test_frozen_and_closed(made):
    with pytest.raises(ValidationError):
        made.manifest.dataset = "v2"
    with pytest.raises(ValidationError, match="surprise"):
        Manifest.model_validate({**made.manifest.model_dump(), "surprise": 1})


@pytest.mark.parametrize("path", ["/etc/x.tar", "../x.tar", "shards/../../x.tar", ""])
def test_paths_stay_inside(made, path):
    with pytest.raises(ValidationError, match="relative"):
        Shard.model_validate({**made.manifest.shards[0].model_dump(), "path": path})


def test_contradictions_are_refused(made):
    dump = made.manifest.model_dump()
    with pytest.raises(ValidationError, match="listed twice"):
        Manifest.model_validate({**dump, "shards": [dump["shards"][0]] * 2})
    with pytest.raises(ValidationError, match="not listed: web"):
        Manifest.model_validate({**dump, "sources": []})
    with pytest.raises(ValidationError, match="eod_id 100"):
        Manifest.model_validate({**dump, "vocabulary": {**dump["vocabulary"], "eod_id": 100}})


def test_missing_manifest_says_where_and_what_to_type(tmp_path):
    folder = tmp_path / "no such"
    with pytest.raises(ManifestError) as caught:
        load_manifest(folder)
    assert isinstance(caught.value, UserError)
    assert f"no dataset in {folder}" in str(caught.value)
    assert "Give the folder of a dataset" in str(caught.value)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
def test_corrupt_manifest(made, damage):
    (made.folder / "manifest.json").write_bytes(damage)
    with pytest.raises(ManifestError, match=r"manifest\.json is not a manifest"):
        load_manifest(made.folder)


def test_wrong_fields_are_all_named(made):
    path = made.folder / "manifest.json"
    data = json.loads(path.read_text())
    data["schema_version"] = 1
    del data["shards"][1]["sha256"]
    path.write_text(json.dumps(data))
    with pytest.raises(ManifestError, match=r"(?s)schema_version: .*shards\.1\.sha256: "):
        load_manifest(made.folder)


def test_write_is_atomic(made, monkeypatch):
    before = (made.folder / "manifest.json").read_bytes()
    files = sorted(made.folder.iterdir())

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_manifest(made.folder, made.manifest.model_copy(update={"dataset": "v2"}))
    assert (made.folder / "manifest.json").read_bytes() == before
    assert sorted(made.folder.iterdir()) == files


def test_unknown_split_names_what_there_is(made):
    with pytest.raises(ManifestError, match=r"no source/split web/test; it has web/train"):
        made.manifest.shards_of("web", "test")
