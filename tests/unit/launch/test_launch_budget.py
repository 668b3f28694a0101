"""What a run needs of each source against what the manifests say is there: planned trillions, no shard."""

import hashlib
import sys
from pathlib import Path

import pytest
from fitting_dataset import vocabulary_of

from mmhydra import train
from mmhydra.compose import compose
from mmhydra.config.facts import Facts, TokenCount
from mmhydra.config.rules import check
from mmhydra.data.shards.manifest import Manifest, Shard, Source, write_manifest
from mmhydra.launch.preview import budget_lines

CLUSTER = ["model=10b", "parallel=tp4pp8", "cluster=h100_256"]
# The plan of mix_v0.1, and what is there of it, in tokens.
THERE = {"web": 15e12, "code": 1e12, "books": 1.5e12, "image_text": 3e12, "video_text": 3e12, "audio_text": 1e12}


@pytest.fixture
def data(tmp_path, monkeypatch):
    """The data folder of the commands."""
    monkeypatch.delenv("MMHYDRA_CLUSTER", raising=False)
    monkeypatch.setenv("MMHYDRA_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MMHYDRA_OUTPUTS", str(tmp_path / "outputs"))
    return tmp_path / "data"


def write_manifests(overrides, there):
    """Manifests of the datasets of a mix whose sources hold so many tokens; of other sources none is written."""
    config = compose([*overrides, "dry_run=config"]).config
    sha256 = hashlib.sha256(b"").hexdigest()
    for dataset in config.data.datasets:
        sources = [source for source in config.data.sources if source.dataset == dataset and source.name in there]
        if not sources:
            continue
        shards = [
            Shard(
                path=f"shards/{source.name}-{split}-000000.tar",
                source=source.name,
                split=split,
                sha256=sha256,
                size_bytes=int(4 * tokens),
                num_documents=10**6,
                num_tokens=int(tokens),
                chunk_bytes=1 << 24,
                sidecars_xxh3="0" * 32,
            )
            for source in sources
            for split, tokens in (("train", there[source.name]), ("heldout", 10**6))
        ]
        manifest = Manifest(
            dataset=dataset,
            builder={},
            vocabulary=vocabulary_of(config),
            sources=tuple(Source(name=s.name, description="", modality=s.modality) for s in sources),
            shards=tuple(shards),
            unigram_entropy_nats=8.0,
            codecs={},
        )
        folder = Path(config.paths.data) / dataset
        folder.mkdir(parents=True)
        write_manifest(folder, manifest)


def said(monkeypatch, capfd, *overrides):
    """What a dry run prints beside the config, and its exit code."""
    monkeypatch.setattr(sys, "argv", ["train", *overrides, "dry_run=config"])
    code = train.main()
    return code, capfd.readouterr().err.splitlines()


def test_a_dry_run_of_the_first_plan_says_what_its_manifests_cover(data, monkeypatch, capfd):
    write_manifests(["data=mix_v0.1"], THERE)
    code, lines = said(monkeypatch, capfd, "data=mix_v0.1", *CLUSTER, "training.tokens=1e12")
    assert code == 0
    budget = [line for line in lines if "budget" in line or "epochs needed" in line or "plan" in line]
    per_step = 1024 * 8192
    run = -(-(10**12) // per_step) * per_step
    assert budget[0] == (
        f"budget of web: 50.000% of the tokens, {run // 2:,} needed, 15,000,000,000,000 there: 0.03 epochs of at most 4"
    )
    assert budget[6].endswith("its manifest is not at hand")  # synthetic
    assert budget[7].startswith("epochs needed: 0.03 of web, 0.2 of code, 0.04 of books")
    assert budget[8] == (
        "the plan of 30,000,000,000,000 tokens: epochs needed: 1.0 of web, 5.0 of code, 1.3 of books, 1.0 of "
        "image_text, 1.0 of video_text, 1.0 of audio_text"
    )
    assert budget[9:] == [
        "note: the plan needs 5,000,000,000,000 tokens of code, 1,000,000,000,000 are there: 5.0 epochs, at most 4 are "
        "allowed",
        "note: 1,000,000,000,000 tokens of the plan are not covered: the manifest of synthetic is not at hand",
    ]


def test_the_second_plan_is_checked_likewise(data, monkeypatch, capfd):
    write_manifests(["data=mix_v0.2"], {"text": 1e12, "image": 2e11, "audio": 1e11, "video": 2e11})
    code, lines = said(monkeypatch, capfd, "data=mix_v0.2", *CLUSTER, "training.tokens=1.5e12")
    assert code == 0
    assert (
        "the plan of 1,500,000,000,000 tokens: epochs needed: 1.0 of text, 1.0 of image, 1.0 of audio, 1.0 of video"
        in lines
    )
    assert not [line for line in lines if line.startswith("note: the plan")]


def test_a_run_that_reads_a_source_too_often_is_refused_and_one_with_its_own_limit_is_not(data, monkeypatch, capfd):
    write_manifests(["data=mix_v0.1"], {**THERE, "synthetic": 1e12})
    code, lines = said(monkeypatch, capfd, "data=mix_v0.1", *CLUSTER, "training.tokens=30e12")
    assert code == 2
    assert any("5.0 epochs, at most 4 are allowed" in line and "source code holds" in line for line in lines)
    own = "+data.sources.1.max_epochs=6.0"
    assert said(monkeypatch, capfd, "data=mix_v0.1", *CLUSTER, "training.tokens=30e12", own)[0] == 0


@pytest.mark.parametrize("mix", ["mix_v0.1", "mix_v0.2", "incremental_v0.3"])
def test_each_mix_composes_without_any_data_and_says_nothing_of_budgets(data, monkeypatch, capfd, mix):
    code, lines = said(monkeypatch, capfd, f"data={mix}", *CLUSTER)
    assert code == 0
    assert not [line for line in lines if "budget" in line or "epochs" in line]


def test_stages_share_the_tokens_by_their_length(default_config, change):
    shares = {"stdlib_code": [0.0, 1.0], "stdlib_docs": [1.0, 0.0]}
    only = {"stdlib_docs": [1.0, 1.0]}
    config = change(
        default_config,
        {
            "data.schedule": [
                {"name": "a", "fraction": 0.5, "shares": shares, "lr_multiplier": [1.0, 1.0]},
                {"name": "b", "fraction": 0.5, "shares": only, "lr_multiplier": [1.0, 1.0]},
            ]
        },
    )
    dataset = config.data.sources[0].dataset
    facts = Facts(
        tokens={(dataset, "stdlib_code"): TokenCount(102_400, 1), (dataset, "stdlib_docs"): TokenCount(204_800, 1)}
    )
    lines = budget_lines(config, facts)
    assert lines[0] == "budget of stdlib_code: 25.000% of the tokens, 102,400 needed, 102,400 there: 1.0 epochs"
    assert lines[-1] == "epochs needed: 1.0 of stdlib_code, 1.5 of stdlib_docs"
    assert [problem for problem in check(config, facts) if not problem.is_note] == []
