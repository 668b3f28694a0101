"""The stamp: written last, complete, and strict when it is read."""

import hashlib
import json
import os

import pytest

from mmhydra.checkpoint import stamp as module
from mmhydra.checkpoint.__main__ import main
from mmhydra.checkpoint.stamp import CheckpointError, file_names, read_stamp, stamped_steps, step_folder, step_of
from mmhydra.checkpoint.verify import faults
from mmhydra.data.storage.faults import WHOLE_SHARD, BadChunk
from mmhydra.data.stream.skips import NO_SKIPS


def test_a_stamp_explains_the_checkpoint(make_run):
    run = make_run()
    stamp = read_stamp(run.save(run.start(), 100))
    assert (stamp.run_name, stamp.run_id, stamp.attempt, stamp.step) == ("debug", run.directory.path.name, 1, 100)
    assert stamp.tokens.total == 100 * 16 * 128
    assert stamp.tokens.by_source == {"stdlib_code": 1040 * 128, "stdlib_docs": 400 * 128}
    assert stamp.tokens.by_modality == {"text": 1440 * 128}
    assert stamp.tokens.padding == 160 * 128
    assert (stamp.tokens.skipped, stamp.stream.skips) == (0, [])
    assert (stamp.stream.sample, stamp.stream.seed, stamp.stream.algorithm) == (1600, 42, 2)
    assert stamp.git["commit"] == "c" * 40
    assert stamp.manifests == {"demo-v2": "1" * 64}
    assert stamp.parent is None


def test_a_stamp_names_what_was_skipped_and_since_when(make_run):
    run = make_run()
    bad = BadChunk("demo-v2", "shards/web-000001.tar", 3, "other bytes", 40, 52)
    run.skips = NO_SKIPS.with_bad([bad, bad._replace(chunk=WHOLE_SHARD)], from_sample=800)
    stamp = read_stamp(run.save(run.start(), 100))
    assert stamp.stream.skips == list(run.skips)
    assert [skip.place for skip in stamp.stream.skips] == [
        "demo-v2/shards/web-000001.tar, the whole shard",
        "demo-v2/shards/web-000001.tar, chunk 3",
    ]
    tokens = stamp.tokens
    assert (tokens.skipped_samples, tokens.skipped) == (2, 2 * 128)
    assert tokens.total == sum(tokens.by_source.values()) + tokens.padding + tokens.skipped


def test_a_stamp_of_before_is_read_as_of_the_first_order_of_samples(make_run):
    run = make_run()
    folder = run.save(run.start(), 100)
    document = json.loads((folder / "stamp.json").read_text())
    for section, names in {
        "stream": ("algorithm", "skips"),
        "tokens": ("padding", "skipped", "skipped_samples"),
    }.items():
        for name in names:
            del document[section][name]
    del document["digest"]
    (folder / "stamp.json").write_text(json.dumps({**document, "digest": module._digest(document)}))
    stamp = read_stamp(folder)
    assert (stamp.stream.algorithm, stamp.stream.skips, stamp.tokens.padding) == (1, [], None)


def test_every_file_is_in_the_stamp_with_its_hash(make_run):
    run = make_run()
    folder = run.save(run.start(), 100)
    stamp = read_stamp(folder)
    assert [file.name for file in stamp.files] == sorted(set(os.listdir(folder)) - {"stamp.json"})
    for file in stamp.files:
        content = (folder / file.name).read_bytes()
        assert (file.size_bytes, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert hashlib.sha256((folder / "config.yaml").read_bytes()).hexdigest() == stamp.config_sha256
    assert hashlib.sha256((folder / "code.patch").read_bytes()).hexdigest() == stamp.code_patch_sha256


def test_a_kill_before_the_stamp_leaves_no_checkpoint(make_run, monkeypatch):
    run = make_run()
    keeper = run.start()
    run.save(keeper, 100)

    def die(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("mmhydra.checkpoint.keeper.write_stamp", die)
    with pytest.raises(KeyboardInterrupt):
        run.save(keeper, 200)
    assert run.folder(200).is_dir()
    assert stamped_steps(run.directory.checkpoints) == [100]
    with pytest.raises(CheckpointError, match=r"step-00000200 is not a checkpoint: it has no stamp\.json"):
        read_stamp(run.folder(200))
    assert run.start().step_to_resume() == 100


def test_files_are_on_disk_before_the_stamp_appears(make_run, monkeypatch):
    synced: list[str] = []
    sync, write = module.sync, module.write_json
    monkeypatch.setattr(module, "sync", lambda path: (synced.append(path.name), sync(path)))
    monkeypatch.setattr(module, "write_json", lambda path, text: (synced.append(path.name), write(path, text)))
    run = make_run()
    run.save(run.start(), 100)
    assert synced == [".metadata", "__0_0.distcp", "__1_0.distcp", "code.patch", "config.yaml", "stamp.json"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: b"",
        lambda text: text[:-20],
        lambda text: b"[]",
        lambda text: b"\xff" + text,
        lambda text: text.replace(b'"schema_version": 1', b'"schema_version": 2'),
        lambda text: text.replace(b'"attempt": 1,', b""),
        lambda text: text.replace(b'"attempt": 1,', b'"attempt": 1, "foo": 1,'),
    ],
    ids=["empty", "truncated", "list", "no utf-8", "version", "missing key", "unknown key"],
)
def test_a_broken_stamp_is_refused(make_run, damage):
    run = make_run()
    path = run.save(run.start(), 100) / "stamp.json"
    text = path.read_bytes()
    path.write_bytes(damage(text))
    assert path.read_bytes() != text
    with pytest.raises(CheckpointError, match=r"stamp\.json can't be read as a stamp"):
        read_stamp(path.parent)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        (b'"digest"', b'"digets"', "digets: Extra inputs"),
        (b'"attempt": 1,', b"", "attempt: Field required"),
        (b'"attempt": 1,', b'"attempt": "one",', "attempt: Input should be a valid integer"),
    ],
)
def test_a_broken_stamp_says_which_field(make_run, old, new, text):
    run = make_run()
    path = run.save(run.start(), 100) / "stamp.json"
    path.write_bytes(path.read_bytes().replace(old, new))
    with pytest.raises(CheckpointError) as refusal:
        read_stamp(path.parent)
    assert text in str(refusal.value)
    assert "pydantic" not in str(refusal.value)


def test_a_stamp_without_a_digest_says_so(make_run):
    run = make_run()
    path = run.save(run.start(), 100) / "stamp.json"
    document = json.loads(path.read_bytes())
    del document["digest"]
    path.write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match="can't be read as a stamp: digest: Field required"):
        read_stamp(path.parent)


def test_names_of_folders(tmp_path):
    assert step_folder(tmp_path, 7).name == "step-00000007"
    for step in (0, 7, 99_999_999, 100_000_000):
        assert step_of(step_folder(tmp_path, step)) == step
    assert [step_of(tmp_path / name) for name in ("step-7", "step-0000000x", "step-00000007.tmp", "x")] == [None] * 4


def test_only_stamped_folders_are_steps(tmp_path):
    assert stamped_steps(tmp_path / "nowhere") == []
    for name in ("step-00000002", "step-100000000", "step-00000010", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "stamp.json").write_text("{}")
    (tmp_path / "step-00000003").mkdir()
    (tmp_path / "step-00000004").touch()
    assert stamped_steps(tmp_path) == [2, 10, 100_000_000]


def test_unfinished_files_are_no_part(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("a", "sub/b", "stamp.json", ".stamp.json.1.tmp"):
        (tmp_path / name).write_text("")
    assert file_names(tmp_path) == ["a", "sub/b"]


def test_the_stamp_is_json_for_other_tools(make_run):
    run = make_run()
    document = json.loads((run.save(run.start(), 100) / "stamp.json").read_text())
    assert document["schema_version"] == 1


# ---------------------------------------------------------------- stamps of earlier versions

LATER_FIELDS = ("lineage", "config_folders")
LATER_FIELDS_OF_PARENTS = ("run_id", "git_commit", "code_patch_sha256")


def as_before(folder) -> None:
    """Writes the stamp as the first version did, with a digest of its own."""
    path = folder / "stamp.json"
    document = json.loads(path.read_text())
    for name in ("digest", *LATER_FIELDS):
        del document[name]
    for name in LATER_FIELDS_OF_PARENTS if document["parent"] else ():
        del document["parent"][name]
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    path.write_text(json.dumps({**document, "digest": hashlib.sha256(text.encode()).hexdigest()}, indent=2))


@pytest.fixture
def old_run(make_run):
    """Two attempts, stamped as the first version did; the second one resumed."""
    run = make_run()
    run.save(run.start(), 100)
    keeper = run.start()
    keeper.step_to_resume()
    run.save(keeper, 200)
    for step in (100, 200):
        as_before(run.folder(step))
    run.events.clear()
    return run


def test_a_stamp_without_later_fields_is_read_and_verified(old_run):
    stamp = read_stamp(old_run.folder(200))
    assert (stamp.lineage, stamp.config_folders) == ([], [])
    assert (stamp.parent.kind, stamp.parent.step) == ("resume", 100)
    assert (stamp.parent.run_id, stamp.parent.git_commit, stamp.parent.code_patch_sha256) == (None, None, None)
    assert faults(old_run.folder(200)) == []


def test_a_run_with_such_stamps_goes_on(old_run):
    keeper = old_run.start()
    assert keeper.step_to_resume() == 200
    assert old_run.kinds() == ["resume"]
    stamp = read_stamp(old_run.save(keeper, 300))
    assert stamp.parent.git_commit == "c" * 40
    assert stamp.lineage == []


def test_such_a_stamp_can_be_extended_and_explained(old_run, make_run, capsys):
    child = make_run(checkpoint__extend_from=str(old_run.folder(200)), training__steps=400)
    keeper = child.start()
    keeper.require_initial_weights()
    stamp = read_stamp(child.save(keeper, 300))
    assert [ancestor.run_id for ancestor in stamp.lineage] == [old_run.directory.path.name]
    assert main(["show", str(old_run.folder(200))]) == 0
    assert main(["diff", str(old_run.folder(200)), str(child.folder(300))]) == 0
    assert "resume " in capsys.readouterr().out


def test_a_changed_old_stamp_is_still_seen(old_run):
    path = old_run.folder(200) / "stamp.json"
    path.write_text(path.read_text().replace('"step": 200', '"step": 201'))
    with pytest.raises(CheckpointError, match="was changed"):
        read_stamp(path.parent)
