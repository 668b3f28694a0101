"""`python -m mmhydra.checkpoint show|verify|diff`: each fault is named, exit code 2."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fitting_dataset import vocabulary_of

import mmhydra
from mmhydra.checkpoint.__main__ import main
from mmhydra.checkpoint.stamp import read_stamp
from mmhydra.config.schema import RunConfig
from mmhydra.data.shards.manifest import Manifest, Source, write_manifest
from mmhydra.data.storage.faults import WHOLE_SHARD, BadChunk
from mmhydra.data.stream.skips import NO_SKIPS


@pytest.fixture
def checkpoint(make_run):
    run = make_run()
    return run.save(run.start(), 100)


@pytest.fixture
def command(capsys):
    def run(*arguments: object):
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert (code == 2) == err.startswith("error: ")
        return code, out, err

    return run


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)


def edit_stamp(folder: Path, old: str, new: str) -> None:
    text = (folder / "stamp.json").read_text()
    assert text.count(old) == 1
    (folder / "stamp.json").write_text(text.replace(old, new))


FAULTS = {
    "flipped byte": (lambda folder: flip(folder / "__0_0.distcp"), "__0_0.distcp was changed: SHA-256"),
    "missing file": (lambda folder: (folder / "__1_0.distcp").unlink(), "__1_0.distcp is missing"),
    "extra file": (lambda folder: (folder / "__2_0.distcp").touch(), "__2_0.distcp is not in the stamp"),
    "truncated file": (
        lambda folder: os.truncate(folder / "__0_0.distcp", 5),
        "__0_0.distcp has 5 bytes, the stamp says 2060",
    ),
    "folder for a file": (
        lambda folder: ((folder / ".metadata").unlink(), (folder / ".metadata").mkdir()),
        ".metadata is missing",
    ),
    "dead link": (
        lambda folder: ((folder / ".metadata").unlink(), (folder / ".metadata").symlink_to("gone")),
        ".metadata is missing",
    ),
    "changed config": (
        lambda folder: flip(folder / "config.yaml"),
        "config.yaml is not the config that the stamp names",
    ),
    "missing config": (lambda folder: (folder / "config.yaml").unlink(), "config.yaml is missing"),
    "changed patch": (lambda folder: flip(folder / "code.patch"), "code.patch was changed"),
    "another config hash": (
        lambda folder: edit_stamp(folder, '"config_sha256": "', '"config_sha256": "0'),
        "stamp.json was changed: its own digest is",
    ),
    "broken stamp": (lambda folder: os.truncate(folder / "stamp.json", 100), "can't be read as a stamp"),
    "no stamp": (lambda folder: (folder / "stamp.json").unlink(), "is not a checkpoint: it has no stamp.json"),
    "another step": (
        lambda folder: edit_stamp(folder, '"step": 100', '"step": 99'),
        "stamp.json was changed: its own digest is",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_verify_names_the_fault(checkpoint, command, name):
    assert command("verify", checkpoint)[0] == 0
    damage, text = FAULTS[name]
    damage(checkpoint)
    code, out, err = command("verify", checkpoint)
    assert (code, out) == (2, "")
    assert text in err


def test_verify_names_all_faults_at_once(checkpoint, command):
    flip(checkpoint / "__0_0.distcp")
    (checkpoint / ".metadata").unlink()
    (checkpoint / "extra").touch()
    _, _, err = command("verify", checkpoint)
    assert err.count("\n  ") == 3


def test_a_folder_renamed_to_another_step_is_refused(checkpoint, command):
    other = checkpoint.rename(checkpoint.with_name("step-00000200"))
    code, _, err = command("verify", other)
    assert code == 2
    assert "the folder step-00000200 holds step 100" in err


def test_a_config_that_this_version_can_not_read_is_a_fault(make_run, command):
    """All hashes agree, and the config is still no config."""
    run = make_run()
    keeper = run.start()
    keeper._text = b"name: old\n"
    keeper._provenance["config_sha256"] = hashlib.sha256(keeper._text).hexdigest()
    code, _, err = command("verify", run.save(keeper, 100))
    assert code == 2
    assert "config.yaml: not a frozen config of this version" in err


def write_data(folder: Path, default_config: RunConfig, **changes: object) -> Manifest:
    manifest = Manifest(
        dataset="demo-v2",
        builder={},
        vocabulary=vocabulary_of(default_config),
        sources=tuple(Source(name=s.name, description="", modality="text") for s in default_config.data.sources),
        shards=(),
        unigram_entropy_nats=6.0,
        codecs={},
    ).model_copy(update=changes)
    (folder / "demo-v2").mkdir(parents=True, exist_ok=True)
    write_manifest(folder / "demo-v2", manifest)
    return manifest


def test_verify_compares_the_data_that_is_here(make_run, command, tmp_path, default_config):
    manifest = write_data(tmp_path / "data", default_config)
    run = make_run(manifests={"demo-v2": manifest.digest})
    checkpoint = run.save(run.start(), 100)
    code, out, _ = command("verify", checkpoint)
    assert (code, "data manifests unchanged" in out) == (0, True)
    other = write_data(tmp_path / "data", default_config, unigram_entropy_nats=6.5)
    code, _, err = command("verify", checkpoint)
    assert code == 2
    assert f'manifest of demo-v2: "{manifest.digest}" -> "{other.digest}"' in err


def test_data_of_another_vocabulary_is_refused(make_run, command, tmp_path, default_config):
    manifest = write_data(tmp_path / "data", default_config)
    run = make_run(manifests={"demo-v2": manifest.digest})
    checkpoint = run.save(run.start(), 100)
    other = manifest.vocabulary.model_copy(update={"layout_digest": "3" * 64})
    write_data(tmp_path / "data", default_config, vocabulary=other)
    code, _, err = command("verify", checkpoint)
    assert code == 2
    assert "a vocabulary of other ids than tokens=demo" in err


def test_data_that_is_elsewhere_is_no_fault(checkpoint, command):
    code, out, _ = command("verify", checkpoint)
    assert code == 0
    assert "is whole: 5 files" in out
    assert "data not checked" in out


def test_show_explains_the_checkpoint(checkpoint, command):
    code, out, _ = command("show", checkpoint)
    assert code == 0
    words = "".join(out.split())  # the table folds long values
    for text in ("step 100", "c" * 40, "204,800", "with uncommitted changes", "none: fresh weights", "torch 2.0"):
        assert text.replace(" ", "") in words


def test_show_names_what_was_skipped_in_words(make_run, command):
    run = make_run()
    bad = BadChunk("demo-v2", "shards/a.tar", 3, "other bytes", 40, 52)
    run.skips = NO_SKIPS.with_bad([bad, bad._replace(chunk=WHOLE_SHARD)], from_sample=1600)
    words = "".join(command("show", run.save(run.start(), 100))[1].split())
    where = (", the whole shard", ", chunk 3")
    said = "; ".join(f"demo-v2/shards/a.tar{each}, from sample 1,600 on" for each in where)
    assert said.replace(" ", "") in words


def test_show_as_json_is_the_stamp(checkpoint, command):
    _, out, _ = command("show", "--json", checkpoint)
    assert json.loads(out) == read_stamp(checkpoint).model_dump(mode="json")


def test_a_run_or_the_stamp_itself_stands_for_the_newest_checkpoint(make_run, command):
    run = make_run()
    checkpoint = run.save(run.start(), 100, 200)
    for path in (run.directory.path, run.directory.checkpoints, checkpoint / "stamp.json"):
        assert str(checkpoint) in command("show", path)[1]


@pytest.mark.parametrize("verb", ["show", "verify", "diff"])
def test_what_is_no_checkpoint_is_refused(checkpoint, command, tmp_path, verb):
    others = [checkpoint] if verb == "diff" else []
    (tmp_path / "empty").mkdir()
    for path, text in {
        tmp_path / "nowhere": "does not exist; give a step-* folder or a run directory",
        tmp_path / "empty": "has no stamped checkpoint; give",
        tmp_path / "step-00000001": "is not a checkpoint: it has no stamp.json",
    }.items():
        code, out, err = command(verb, path, *others)
        assert (code, out) == (2, "")
        assert text in err
    (checkpoint / "stamp.json").write_text("{")
    code, _, err = command(verb, checkpoint, *others)
    assert code == 2
    assert "can't be read as a stamp" in err


def test_diff_separates_what_makes_the_numbers(make_run, command):
    one = make_run()
    other = make_run(model__ffn_dim=512, checkpoint__interval=7, manifests={"demo-v2": "3" * 64})
    code, out, _ = command("diff", one.save(one.start(), 100), other.save(other.start(), 200))
    assert code == 0
    numbers, rest = out.split("identity (what makes the numbers):\n")[1].split("everything else:\n")
    assert "  model.ffn_dim: 384 -> 512" in numbers
    assert "manifests.demo-v2" in numbers
    assert "  checkpoint.interval: 100 -> 7" in rest
    assert "  step: 100 -> 200" in rest
    assert "ffn_dim" not in rest


def test_diff_of_a_checkpoint_with_itself(checkpoint, command):
    code, out, _ = command("diff", checkpoint, checkpoint)
    assert code == 0
    assert out.count("no difference") == 2


def test_diff_needs_both_configs(checkpoint, command):
    (checkpoint / "config.yaml").unlink()
    code, _, err = command("diff", checkpoint, checkpoint)
    assert code == 2
    assert "config.yaml can't be read" in err


NO_TORCH = """
import sys
from mmhydra.checkpoint.__main__ import main
codes = [main(["show", sys.argv[1]]), main(["verify", sys.argv[1]]), main(["diff", sys.argv[1], sys.argv[1]])]
assert not {"torch", "torchtitan", "hydra"} & set(sys.modules)
sys.exit(max(codes))
"""


def test_torch_is_never_imported(checkpoint):
    environment = {**os.environ, "PYTHONPATH": str(Path(mmhydra.__file__).parent.parent)}
    done = subprocess.run([sys.executable, "-c", NO_TORCH, checkpoint], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
