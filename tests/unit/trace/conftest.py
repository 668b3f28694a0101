"""A run of two sources, text and media, over shards made by hand; its attempts write what a trainer would."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from fake_run import FakeRun

from mmhydra.config.codecs import AudioCodec, ImageCodec, VideoCodec
from mmhydra.config.schema import RunConfig
from mmhydra.data.codecs import build_codec, info_of
from mmhydra.data.shards.document import Document
from mmhydra.data.shards.manifest import Manifest, Source, Vocabulary, write_manifest
from mmhydra.data.shards.writer import DocumentInfo, ShardWriter
from mmhydra.data.templates.writer import DocumentWriter
from mmhydra.data.vocabulary import Vocabulary as Layout
from mmhydra.data.vocabulary import train_bpe, vocabulary_digest
from mmhydra.paths import config_dir
from mmhydra.run.directory import RunDirectory
from mmhydra.run.identity import identify
from mmhydra.trace.__main__ import main

SEQ_LEN = 96
BATCH = 12
STEPS = 40
NUM_TEXTS = 120
SECTIONS = {"image": ImageCodec, "audio": AudioCodec, "video": VideoCodec}


def text_of(number: int) -> str:
    """A text that is like no other's; every ninth is longer than a sequence."""
    draw = np.random.default_rng(number)
    words = [
        f"{chr(97 + int(draw.integers(26)))}{int(draw.integers(1000))}" for _ in range(100 if number % 9 == 4 else 9)
    ]
    return f"Text {number}: {' '.join(words)}"


def media_documents(layout: Layout, tokenizer: Any) -> dict[str, Document]:
    """Captioned pictures, sounds that are cut, and clips; ids are drawn from their ranges."""
    draw = np.random.default_rng(5)
    found = {}
    for number in range(12):
        picture = DocumentWriter(layout, tokenizer)
        picture.image(draw.integers(0, 512, 64), "<|image_start|>", "<|image_end|>", loss=False)
        picture.text(f"picture {number}", loss=True)
        found[f"picture-{number}"] = picture.close()
        sound = DocumentWriter(layout, tokenizer)
        sound.text(f"sound {number}", loss=True)
        sound.special("<|audio_start|>", loss=True)
        rows = np.stack([draw.integers(0, 256, 75), draw.integers(256, 512, 75)], axis=1)
        sound.units("audio", rows, "<|audio_start|>", loss=True)
        sound.special("<|audio_end|>", loss=True)
        found[f"sound-{number}"] = sound.close()
        clip = DocumentWriter(layout, tokenizer)
        clip.special("<|video_start|>", loss=True)
        clip.units("video", draw.integers(0, 256, (4, 16)), "<|video_start|>", loss=True)
        clip.special("<|video_end|>", loss=True)
        found[f"clip-{number}"] = clip.close()
    return found


@pytest.fixture(scope="session")
def traced_config(default_config: RunConfig, change: Any) -> RunConfig:
    """The config of the run; its data folder is still to be set."""
    sources = [
        {"name": "web", "dataset": "texts", "modality": "text", "weight": 3.0, "max_epochs": None},
        {"name": "shows", "dataset": "media", "modality": "image_text", "weight": 1.0, "max_epochs": None},
    ]
    return change(
        default_config,
        {
            "data.sources": sources,
            "data.builder": None,
            "training.seq_len": SEQ_LEN,
            "training.global_batch_size": BATCH,
            "training.steps": STEPS,
            "parallel.dp": 2,
        },
    )


@pytest.fixture(scope="session")
def data(traced_config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two datasets: several shards a source, several chunks a shard, two documents held out. Only read it."""
    data = tmp_path_factory.mktemp("data")
    layout = Layout.of(traced_config.tokens)
    texts = [text_of(number) for number in range(NUM_TEXTS)]
    tokenizer = train_bpe(texts, 400)

    def write(dataset: str, source: str, documents: dict[str, Document], codecs: dict[str, Any]) -> None:
        folder, shards = data / dataset, []
        names = list(documents)
        for split, own in (("train", names[2:]), ("heldout", names[:2])):
            sizes = {"max_bytes": 60_000, "chunk_bytes": 6000}
            with ShardWriter(folder, source, split, vocab_size=layout.size, eod_id=layout.eod_id, **sizes) as writer:
                for name in own:
                    place = f"https://example.org/{name}"
                    writer.write(documents[name], DocumentInfo(name, source, place, ("text",), "CC0-1.0", "en", "t"))
            shards += writer.shards
        tokenizer.save(folder)
        vocabulary = Vocabulary(
            size=layout.size,
            digest=vocabulary_digest(layout.layout_digest, tokenizer),
            layout_digest=layout.layout_digest,
            layout=layout.layout,
            eod_id=layout.eod_id,
            tokenizer_file=tokenizer.file_name,
            tokenizer_sha256=tokenizer.digest,
        )
        manifest = Manifest(
            dataset=dataset,
            builder={},
            vocabulary=vocabulary,
            sources=(Source(name=source, description="", modality="text"),),
            shards=tuple(shards),
            unigram_entropy_nats=5.0,
            codecs=codecs,
        )
        write_manifest(folder, manifest)

    plain = {}
    for number, text in enumerate(texts):
        writer = DocumentWriter(layout, tokenizer)
        writer.text(text, loss=True)
        plain[f"text-{number}"] = writer.close()
    write("texts", "web", plain, {})
    codecs = {}
    for modality, section in SECTIONS.items():
        fields = yaml.safe_load((config_dir() / "codec" / f"{modality}_demo.yaml").read_text())
        codecs[modality] = info_of(build_codec(section.model_validate(fields)))
    write("media", "shows", media_documents(layout, tokenizer), codecs)
    return data


@pytest.fixture(scope="session")
def texts() -> dict[str, str]:
    """What the records of source web say, by unique_id."""
    return {f"text-{number}": text_of(number) for number in range(NUM_TEXTS)}


@pytest.fixture
def make_run(traced_config: RunConfig, data: Path, change: Any, tmp_path: Path) -> Callable[..., FakeRun]:
    """A run over the datasets with one attempt that was frozen."""

    def make(**leaves: Any) -> FakeRun:
        dotted = {name.replace("__", "."): value for name, value in leaves.items()}
        config = change(traced_config, {"paths.data": str(data), **dotted})
        manifests = {
            name: Manifest.model_validate_json((data / name / "manifest.json").read_text()).digest
            for name in ("texts", "media")
        }
        identity = identify(config, manifests, None)
        directory = RunDirectory(tmp_path / "outputs" / config.name / identity.run_id)
        directory.create(identity)
        run = FakeRun(config, directory, manifests)
        run.start()
        return run

    return make


@pytest.fixture
def trace(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs the command; its exit code and what it printed on both streams."""

    def trace(run: FakeRun | Path, *arguments: Any) -> tuple[int, str, str]:
        path = run.directory.path if isinstance(run, FakeRun) else run
        code = main([str(path), *map(str, arguments)])
        return code, *capsys.readouterr()

    return trace


@pytest.fixture
def trace_json(trace: Callable[..., tuple[int, str, str]]) -> Callable[..., list[dict[str, Any]]]:
    """The objects that the command prints with --json."""

    def trace_json(run: FakeRun | Path, *arguments: Any) -> list[dict[str, Any]]:
        code, out, err = trace(run, *arguments, "--json")
        assert code == 0, err
        return [json.loads(line) for line in out.splitlines()]

    return trace_json
