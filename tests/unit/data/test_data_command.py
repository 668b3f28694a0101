"""`python -m mmhydra.data`: the test set with all its reasons, verify, show, and what a run does before it starts."""

import io
import json
import re
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
import soundfile
from PIL import Image
from report_data import assert_funnel_adds_up
from rich.console import Console

from mmhydra.compose import compose
from mmhydra.compose.building import compose_build
from mmhydra.config.dataset import DemoRecords
from mmhydra.data.__main__ import main
from mmhydra.data.build.progress import Display
from mmhydra.data.demo.testset import ACCEPTED, write_testset
from mmhydra.data.filters.reasons import FILTER_REASONS
from mmhydra.data.prepare import BuildFailed, prepare
from mmhydra.data.records.reasons import MEDIA_REASONS, RECORD_REASONS
from mmhydra.data.report import totals
from mmhydra.data.shards.manifest import load_manifest
from mmhydra.data.shards.reader import TokenShards


@pytest.fixture(scope="module")
def testset(tmp_path_factory):
    """The folder of the built test set."""
    data = tmp_path_factory.mktemp("data")
    assert main(["build", "dataset=testset", f"paths.data={data}"]) == 0
    return data / "testset"


def test_the_test_set_exercises_every_reason(testset, tmp_path):
    expected = write_testset(tmp_path)
    counted = load_manifest(testset).sources[0].statistics
    assert {**counted.rejected, ACCEPTED: counted.accepted} == expected
    assert counted.records == sum(expected.values())
    reasons = RECORD_REASONS | MEDIA_REASONS | FILTER_REASONS
    assert reasons.keys() - counted.rejected.keys() == set()
    lines = [json.loads(line) for line in (testset / "rejects" / "testset.jsonl").read_text().splitlines()]
    assert len(lines) == sum(counted.rejected.values())
    assert all(line["detail"] or line["reason"] == "empty_file" for line in lines)


def test_the_funnel_of_the_test_set_adds_up_and_its_card_says_what_filters_cannot_do(testset):
    manifest = load_manifest(testset)
    stages = totals.funnel(manifest)
    assert_funnel_adds_up(stages, manifest)
    rejected = manifest.sources[0].statistics.rejected
    reading = (RECORD_REASONS | MEDIA_REASONS).keys() | {"template_mismatch"}
    assert stages[0].rejected == sum(n for reason, n in rejected.items() if reason in reading)
    card = (testset / "data_card.md").read_text()
    assert "The toxicity filter used the word list that comes with mmhydra." in card


def test_examples_of_each_modality_lie_in_the_dataset(testset):
    names = {path.name for path in (testset / "examples" / "testset").iterdir()}
    assert {"image-0.png", "audio-0.wav", "video-0.gif"} <= names
    card = (testset / "data_card.md").read_text()
    assert "(examples/testset/audio-0.wav)" in card
    assert "untrained: plumbing only" in card
    assert "untrained: plumbing only" in (testset / "governance.html").read_text()


def test_verify_finds_a_flipped_byte(testset, tmp_path, capsys):
    assert main(["verify", str(testset)]) == 0
    assert "is whole: 2 shards" in capsys.readouterr().out
    damaged = shutil.copytree(testset, tmp_path / "damaged")
    shard = damaged / "shards" / "testset-train-00000.tar"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    assert main(["verify", str(damaged)]) == 2
    said = capsys.readouterr().err
    assert "is damaged:" in said
    assert "shards/testset-train-00000.tar: sha256 is" in said


def documents(folder, split="train"):
    shards = TokenShards(folder, load_manifest(folder), "testset", split)
    return [(shards.key(n), shards.info(n)) for n in range(shards.num_documents)]


def test_show_prints_the_exact_text_by_key_and_by_id(testset, tmp_path, capsys):
    write_testset(tmp_path)
    texts = {}
    for line in (tmp_path / "records.jsonl").read_bytes().splitlines():
        try:
            record = json.loads(line)
            texts[record["unique_id"]] = record["text"]
        except (ValueError, TypeError, KeyError, RecursionError):
            continue
    key, info = next(
        (key, info) for key, info in documents(testset) if info["template"] == "text" and info["unique_id"] in texts
    )
    shard = str(testset / "shards" / "testset-train-00000.tar")
    said = []
    for name in (key, info["unique_id"]):
        assert main(["show", shard, name, "--out", str(tmp_path / "shown")]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert f"decoded text:\n{texts[info['unique_id']]}<|endoftext|>\n" in said[0]
    assert info["unique_id"] in said[0]


@pytest.mark.parametrize("template", ["image", "audio", "video"])
def test_show_writes_what_a_person_can_look_at_and_listen_to(testset, tmp_path, capsys, template):
    key, _ = next((key, info) for key, info in documents(testset) if info["template"] == template)
    assert main(["show", str(testset / "shards" / "testset-train-00000.tar"), key, "--out", str(tmp_path)]) == 0
    assert "(untrained: plumbing only)" in capsys.readouterr().out
    files = sorted(path.name for path in tmp_path.iterdir())
    if template == "image":
        assert files == [f"{key}-00-image.png"]
        assert np.asarray(Image.open(tmp_path / files[0])).ndim == 3
    elif template == "audio":
        assert files == [f"{key}-00-audio.wav"]
        samples, rate_hz = soundfile.read(tmp_path / files[0])
        assert len(samples) > 100
        assert rate_hz == load_manifest(testset).codecs["audio"].settings["sample_rate_hz"]
    else:
        assert files == [f"{key}-00-video.gif", f"{key}-00-video_frames.png"]
        with Image.open(tmp_path / files[0]) as clip:
            assert clip.n_frames > 1


def test_show_says_what_it_cannot_find(testset, tmp_path, capsys):
    shard = testset / "shards" / "testset-train-00000.tar"
    for arguments, told in (
        ([str(shard), "no_such_record"], "has no sample no_such_record; its keys are 000000000 to"),
        ([str(shard), "999999999"], "has no document 999999999"),
        ([str(testset / "shards" / "nothing.tar"), "000000000"], "there is no such shard"),
        ([str(testset / "manifest.json"), "000000000"], "no dataset in"),
        ([f"{shard}.idx.npy", "000000000"], "is no shard of"),
    ):
        assert main(["show", *arguments]) == 2
        said = capsys.readouterr().err
        assert told in said
        assert said.startswith("error: ")


def test_a_bar_on_a_terminal_and_lines_elsewhere():
    for is_terminal in (True, False):
        file = io.StringIO()
        with Display(Console(file=file, force_terminal=is_terminal, width=100)) as display:
            display.line("reading")
            display.progress("reading", 1, 4)
        shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", file.getvalue())
        assert shown.lstrip("\r").startswith("reading\n")
        assert ("1/4" in shown) == is_terminal


def demo(*overrides):
    """data and tokens of a run on a very small demo."""
    config = compose(["data.builder.corpus_mb=0.3", "data.builder.media=4", *overrides]).config
    return config.data, config.tokens


@pytest.mark.slow
def test_prepare_builds_the_demo_once_however_many_ask(tmp_path, capfd):
    data, tokens = demo()
    found = []
    lines: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(prepare(data, tokens, tmp_path, lines.append))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] == found[1]
    assert found[0].keys() == {"demo-v2"}
    assert found[0]["demo-v2"].digest == load_manifest(tmp_path / "demo-v2").digest
    said = capfd.readouterr()
    assert said.out.count("training a text tokenizer") == 1
    assert "register_constant" not in said.err
    assert prepare(data, tokens, tmp_path, lines.append) == found[0]
    assert len(lines) == 2  # only those who found nothing say that they build
    assert capfd.readouterr().out == ""
    other, _ = demo("data.builder.heldout_fraction=0.5")
    with pytest.raises(Exception, match=r"recipe.heldout_fraction: there 0\.\d+, asked for 0\.5"):
        prepare(other, tokens, tmp_path, lines.append)


def test_prepare_passes_on_what_the_builder_said(tmp_path):
    data, tokens = demo("data.builder.shard_mb=0.5")
    with pytest.raises(BuildFailed, match=r"^dataset.chunk_mb, dataset.shard_mb: a chunk of 1 MB is larger") as caught:
        prepare(data, tokens, tmp_path, lambda line: None)
    assert caught.value.exit_code == 2


def test_a_build_of_a_run_takes_its_recipe_from_the_run():
    config = compose_build(["dataset=demo-v2", "dataset.generate.media=4"])[0]
    assert isinstance(config.dataset.generate, DemoRecords)
    assert config.dataset.generate.media == 4


def test_a_build_of_text_imports_no_torch():
    code = "import sys, mmhydra.data.__main__, mmhydra.data.build.encode_stage; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
