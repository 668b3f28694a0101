"""What a build takes from records: reasons of its own, provenance, captions; and how much of them is in memory."""

import json
import re
import tracemalloc
from pathlib import Path

import pytest
from dataset_builds import WORDS, infos, sentence, text_record, write_jsonl

from mmhydra.data.__main__ import main
from mmhydra.data.build.driver import build_dataset
from mmhydra.data.build.plan import BYTES_PER_BATCH, Batch, Context
from mmhydra.data.build.read_stage import open_stage
from mmhydra.data.build.reasons import BUILD_REASONS, known
from mmhydra.data.records.batches import scan
from mmhydra.data.shards.manifest import load_manifest

DOCUMENT = Path(__file__).resolve().parents[4] / "docs" / "datasets.md"


def test_each_reason_of_the_build_stands_in_the_documents():
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", DOCUMENT.read_text(), re.MULTILINE))
    assert {reason: rows.get(reason) for reason in BUILD_REASONS} == BUILD_REASONS


def test_a_reason_without_a_line_is_not_counted():
    assert known("template_mismatch") == "template_mismatch"
    with pytest.raises(AssertionError, match="no_reason"):
        known("no_reason")


def test_a_record_that_no_template_takes_is_counted_and_told(config_of, tmp_path):
    captions = {"captions": [{"start_s": 0.0, "end_s": 1.0, "text": "hello"}]}
    captioned = text_record("captioned", "", metadata=captions)
    del captioned["text"]
    write_jsonl(tmp_path / "web.jsonl", [captioned, text_record("one", sentence(1)), text_record("two", sentence(2))])
    write_jsonl(tmp_path / "notes.jsonl", [text_record("one", sentence(3)), text_record("three", sentence(4))])
    manifest = build_dataset(config_of(tmp_path, tmp_path / "data"), lambda line: None)
    assert manifest.sources[0].statistics.rejected == {"template_mismatch": 1}
    assert manifest.sources[1].statistics.rejected == {"duplicate_id": 1}
    line = json.loads((tmp_path / "data" / "tiny" / "rejects" / "web.jsonl").read_text())
    assert line["detail"] == "the record has captions; templates take text: text"


def test_what_a_record_says_of_itself_is_kept_as_the_filters_left_it(config_of, tmp_path):
    stated = {"title": "Tale", "description": "ask ann@example.org", "upload_date": "20231013", "shelf": 7}
    rest = {
        "source_uri": "https://example.org/tale",
        "quality_scores": {"clip": 0.5},
        "processing_log": [{"stage": "crawl", "timestamp": "2023-10-14", "tool": "wget"}],
        "data_card_info": {"consent": True},
    }
    write_jsonl(tmp_path / "web.jsonl", [text_record("one", sentence(1), metadata=stated, **rest)])
    write_jsonl(tmp_path / "notes.jsonl", [text_record("two", sentence(2))])
    pii = "[{kind: pii, find: [email], phone_regions: [], action: redact}]"
    build_dataset(config_of(tmp_path, tmp_path / "data", f"dataset.filters={pii}"), lambda line: None)
    ((info,), *_) = (own for (_, source), own in infos(tmp_path / "data" / "tiny").items() if source == "web")
    metadata = {**stated, "description": "ask [EMAIL]", "upload_date": "2023-10-13"}
    assert info["source_uri"] == rest.pop("source_uri")
    assert info["record"] == {
        "place": "web.jsonl:1",
        "source": "made",
        "metadata": {"license": "CC0-1.0", "language": "en", **metadata},
        **rest,
    }


def test_a_tokenizer_is_trained_on_captions_too(config_of, tmp_path):
    entries = [{"start_s": float(n), "end_s": n + 1.0, "text": f"{word} and {word}"} for n, word in enumerate(WORDS)]
    captioned = [text_record(f"c{n}", "", metadata={"captions": entries}) for n in range(3)]
    for record in captioned:
        del record["text"]
    for name in ("web", "notes"):
        write_jsonl(tmp_path / f"{name}.jsonl", [{**r, "unique_id": name + r["unique_id"]} for r in captioned])
    form = "templates=[{name: said, form: '{captions}', loss: all, share: 1.0}]"
    overrides = [f"dataset.sources.{number}.{form}" for number in (0, 1)]
    config = config_of(tmp_path, tmp_path / "data", *overrides, "dataset.filters=[]", "dataset.heldout_fraction=0")
    build_dataset(config, lambda line: None)
    tokenizer = json.loads((tmp_path / "data" / "tiny" / "tokenizer.json").read_text())
    assert "Ġharbour" in tokenizer["model"]["vocab"]


def test_the_reading_stage_holds_no_more_than_a_record_or_two(config_of, tmp_path):
    megabyte = " ".join(WORDS) * 15_000
    write_jsonl(tmp_path / "web.jsonl", [text_record(f"w{n}", megabyte) for n in range(40)])
    write_jsonl(tmp_path / "notes.jsonl", [text_record("note", "short")])
    limits = ["dataset.limits.max_text_bytes=2000000", "dataset.filters=[]"]
    config = config_of(tmp_path, tmp_path / "data", *limits)
    refs = list(scan([tmp_path / "web.jsonl"], 250))
    context = Context(config.dataset, config.tokens, tmp_path, tmp_path / "building")
    read = open_stage(context)
    tracemalloc.start()
    counts = [read(Batch("web", number, ref)) for number, ref in enumerate(refs)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sum(count["text_bytes"] for count in counts) == 40 * len(megabyte)
    assert peak < 16 * len(megabyte), peak  # of 40 that were read


def test_a_batch_of_long_texts_ends_early(tmp_path):
    write_jsonl(tmp_path / "web.jsonl", [text_record(f"w{n}", "x" * 3_000_000) for n in range(14)])
    refs = list(scan([tmp_path / "web.jsonl"], 250, max_batch_bytes=BYTES_PER_BATCH))
    assert [ref.num_records for ref in refs] == [6, 6, 2]
    assert [ref.first for ref in refs] == [1, 7, 13]
    assert refs[0].stop == refs[1].start
    assert refs[-1].stop == (tmp_path / "web.jsonl").stat().st_size


def test_show_names_the_shard_that_has_the_key(built, tmp_path, capsys):
    first, second, *_ = load_manifest(built).shards_of("web", "train")
    key = f"{first.num_documents:09d}"  # the first of the second shard
    assert main(["show", str(built / first.path), key, "--out", str(tmp_path)]) == 2
    assert f"{first.path} has no sample {key}: it is in {second.path}" in capsys.readouterr().err
    assert main(["show", str(built / second.path), key, "--out", str(tmp_path)]) == 0
