"""Files from outside of the records: weights of codecs and a tokenizer that is taken over, told apart by content."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from dataset_builds import files_of, sentence, text_record, write_jsonl
from PIL import Image

from mmhydra.config.codecs import ImageCodec
from mmhydra.data.__main__ import main
from mmhydra.data.build.driver import build_dataset
from mmhydra.data.build.media import MediaEncoder
from mmhydra.data.build.plan import BuildError, Context
from mmhydra.data.build.recipe import settings_of
from mmhydra.data.build.start import start
from mmhydra.data.codecs import build_codec
from mmhydra.data.dataset_folder import DatasetError
from mmhydra.data.shards.manifest import load_manifest
from mmhydra.data.vocabulary.huggingface import train_bpe
from mmhydra.data.weight_files import weight_files
from mmhydra.files import sha256_of_file, write_json
from mmhydra.paths import config_dir

DRAWN = "{name: drawn, form: '<|image_start|>{image}<|image_end|>{text}', loss: all, share: 1.0}"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Records of a few pictures with words."""
    folder = tmp_path_factory.mktemp("pictures")
    draw = np.random.default_rng(1)
    for number in range(4):
        Image.fromarray(draw.integers(0, 255, (16, 16, 3), np.uint8)).save(folder / f"{number}.png")
    changes = [{"modalities": ["text", "image"], "data_paths": {"image": f"{number}.png"}} for number in range(4)]
    write_jsonl(folder / "web.jsonl", [text_record(f"p{n}", sentence(n), **changes[n]) for n in range(4)])
    write_jsonl(folder / "notes.jsonl", [text_record(f"n{n}", sentence(90 + n)) for n in range(4)])
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Two folders with weights of one name: the demo's seeded ones, and others."""
    fields = yaml.safe_load((config_dir() / "codec" / "image_demo.yaml").read_text())
    folder = tmp_path_factory.mktemp("weights")
    for name, seed in (("first", 0), ("second", 1)):
        (folder / name).mkdir()
        codec = build_codec(ImageCodec.model_validate(fields | {"seed": seed}))
        torch.save(codec.model.state_dict(), folder / name / "vq.pt")
    return folder


@pytest.fixture(scope="module")
def with_weights(config_of, pictures):
    """The config of a build of pictures by a codec of these weights."""

    def with_weights(file: Path, data: Path):
        codec = ["+codec@dataset.codecs.image=image_demo", f"dataset.codecs.image.weights={file}"]
        return config_of(pictures, data, *codec, f"dataset.sources.0.templates=[{DRAWN}]", "dataset.seq_lens=[128]")

    return with_weights


@pytest.fixture(scope="module")
def trained(with_weights, weights, tmp_path_factory):
    """The folder of a dataset made with the first weights."""
    data = tmp_path_factory.mktemp("trained")
    build_dataset(with_weights(weights / "first" / "vq.pt", data), lambda line: None)
    return data / "tiny"


def test_the_place_of_weights_changes_no_byte(with_weights, weights, trained, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    copy = shutil.copy(weights / "first" / "vq.pt", tmp_path / "elsewhere")
    manifest = build_dataset(with_weights(copy, tmp_path), lambda line: None)
    assert manifest.digest == load_manifest(trained).digest
    assert manifest.codecs["image"].trained
    assert manifest.codecs["image"].settings["weights"] == "vq.pt"
    assert manifest.builder["outside"] == {"codecs.image.weights": sha256_of_file(Path(copy))}
    assert files_of(tmp_path / "tiny") == files_of(trained)


def test_a_finished_dataset_of_other_weights_is_refused_with_both_hashes(with_weights, weights, trained):
    before = files_of(trained)
    with pytest.raises(DatasetError) as caught:
        build_dataset(with_weights(weights / "second" / "vq.pt", trained.parent), lambda line: None)
    first, second = (sha256_of_file(weights / name / "vq.pt") for name in ("first", "second"))
    assert f"outside.codecs.image.weights: there '{first}', asked for '{second}'" in str(caught.value)
    assert files_of(trained) == before


def test_a_finished_dataset_needs_no_weights_any_more(with_weights, trained, tmp_path):
    assert build_dataset(with_weights(tmp_path / "vq.pt", trained.parent), lambda line: None) == load_manifest(trained)


def test_weights_that_are_not_there_leave_what_was_done(with_weights, tmp_path):
    left = tmp_path / ".tiny.building" / "stages" / "build.json"
    left.parent.mkdir(parents=True)
    write_json(left, {})
    with pytest.raises(BuildError, match=r"codecs.image.weights: nothing to read at .*vq.pt; give a folder"):
        build_dataset(with_weights(tmp_path / "vq.pt", tmp_path), lambda line: None)
    assert left.is_file()


def test_weights_that_changed_make_an_unfinished_build_start_anew(with_weights, weights, tmp_path):
    configs = [with_weights(weights / name / "vq.pt", tmp_path) for name in ("first", "second")]
    settings = [settings_of(config.dataset, config.tokens) for config in configs]
    context = Context(configs[1].dataset, configs[1].tokens, tmp_path, tmp_path / "building")
    (context.work / "encode").mkdir(parents=True)
    write_json(context.work / "build.json", settings[0])
    lines = []
    start(context, settings[1], lines.append)
    assert "starting anew" in lines[0]
    assert not (context.work / "encode").exists()


def test_no_two_codecs_work_on_one_build(with_weights, weights, pictures, tmp_path):
    """Weights that change behind a build's back, or random ones that another processor draws otherwise."""
    for name in ("first", "second"):
        config = with_weights(weights / name / "vq.pt", tmp_path)
        context = Context(config.dataset, config.tokens, pictures, tmp_path)
        if name == "first":
            MediaEncoder(context)
            MediaEncoder(context)  # another process with the same one
        else:
            with pytest.raises(BuildError, match=r"were encoded by the image codec [0-9a-f]{64}, and it is .*rm -r"):
                MediaEncoder(context)


@pytest.mark.parametrize("given", ["option", "variable", "modality"])
def test_show_finds_weights_by_their_name(trained, weights, tmp_path, capsys, monkeypatch, given):
    shard = str(next(trained.glob("shards/web-train-*.tar")))
    assert main(["show", shard, "000000000", "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "the image codec was made with weights named vq.pt" in said
    assert "type --weights FOLDER, or set MMHYDRA_WEIGHTS" in said
    options = ["--weights", str(weights / "first")]
    if given == "variable":
        monkeypatch.setenv("MMHYDRA_WEIGHTS", str(weights / "first"))
        options = []
    elif given == "modality":
        shutil.copytree(weights / "first", tmp_path / "image")
        shutil.copy(weights / "second" / "vq.pt", tmp_path)
        options = ["--weights", str(tmp_path)]
    assert main(["show", shard, "000000000", "--out", str(tmp_path / "out"), *options]) == 0
    assert (tmp_path / "out" / "000000000-00-image.png").is_file()


def test_show_refuses_other_weights(trained, weights, tmp_path, capsys):
    shard = str(next(trained.glob("shards/web-train-*.tar")))
    options = ["--out", str(tmp_path), "--weights", str(weights / "second")]
    assert main(["show", shard, "000000000", *options]) == 2
    assert "are others, or have changed since" in capsys.readouterr().err


def test_what_is_read_of_a_folder_of_weights(tmp_path):
    assert weight_files(tmp_path) == []
    for name in ("README.md", "pytorch_model.bin", "config.json"):
        (tmp_path / name).write_text("")
    assert [file.name for file in weight_files(tmp_path)] == ["config.json", "pytorch_model.bin"]
    (tmp_path / "model.safetensors").write_text("")
    assert [file.name for file in weight_files(tmp_path)] == ["config.json", "model.safetensors"]


@pytest.fixture
def with_tokenizer(config_of, records, tmp_path):
    """The config of a build that takes over a tokenizer, each in a folder of the same name."""
    for name in ("a", "b"):
        (tmp_path / name / "model").mkdir(parents=True)
        train_bpe([f"{name} tale of {name}s"] * 3, 300).save(tmp_path / name / "model")

    def with_tokenizer(name: str):
        return config_of(
            records, tmp_path / "data", "tokens.text.kind=hf", f"tokens.text.folder={tmp_path / name / 'model'}"
        )

    return with_tokenizer


def test_a_finished_dataset_of_another_tokenizer_is_refused(with_tokenizer, tmp_path):
    build_dataset(with_tokenizer("a"), lambda line: None)
    with pytest.raises(DatasetError) as caught:
        build_dataset(with_tokenizer("b"), lambda line: None)
    hashes = [sha256_of_file(tmp_path / name / "model" / "tokenizer.json") for name in ("a", "b")]
    assert f"outside.tokens.text.folder: there '{hashes[0]}', asked for '{hashes[1]}'" in str(caught.value)


def test_a_tokenizer_that_changed_makes_an_unfinished_build_start_anew(with_tokenizer, tmp_path):
    configs = [with_tokenizer(name) for name in ("a", "b")]
    settings = [settings_of(config.dataset, config.tokens) for config in configs]
    context = Context(configs[1].dataset, configs[1].tokens, tmp_path, tmp_path / "building")
    context.work.mkdir(parents=True)
    write_json(context.work / "build.json", settings[0])
    shutil.copy(tmp_path / "a" / "model" / "tokenizer.json", context.building)
    assert context.tokenizer is not None
    lines = []
    start(context, settings[1], lines.append)
    assert "starting anew" in lines[0]
    assert context.tokenizer is None
