"""What nobody foresaw in a record: it is named, and the build goes on once it is out."""

import json
import shutil
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dataset_builds import text_record, write_jsonl

from mmhydra.data.build.driver import build_dataset
from mmhydra.data.build.plan import BuildError
from mmhydra.data.build.tokenizer import _LONG_RUN, _cut
from mmhydra.data.records.batches import RecordFileError, list_files, read, scan


def silent(line: str) -> None:
    pass


def test_a_fault_of_ours_names_the_record(config_of, records, tmp_path, monkeypatch):
    """With the stages in this process, so that one of them can be broken."""
    from mmhydra.data.build import driver, read_stage

    def here(stage, context, tasks, processes):
        return map(__import__(stage, fromlist=["open_stage"]).open_stage(context), tasks)

    def broken(raw):
        if b'web-21"' in raw.value:
            raise ZeroDivisionError("nobody thought of that")
        return parse(raw)

    parse = read_stage.parse
    monkeypatch.setattr(driver, "run_tasks", here)
    monkeypatch.setattr(read_stage, "parse", broken)
    with pytest.raises(BuildError, match=r"web-0.jsonl:22: .*ZeroDivisionError: nobody thought of that"):
        build_dataset(config_of(records, tmp_path), silent)


def test_one_long_word_does_not_hang_the_training(config_of, tmp_path):
    folder = tmp_path / "records"
    rows = [text_record(f"r{n}", f"page {n} " + "about a river and a garden " * 3) for n in range(30)]
    long = "a" * 90_000
    write_jsonl(folder / "web.jsonl", [*rows, text_record("long", long), text_record("wide", "b" + " " * 90_000 + "c")])
    write_jsonl(folder / "notes.jsonl", [text_record(f"n{n}", f"a note about number {n}") for n in range(5)])
    began = time.monotonic()
    build_dataset(config_of(folder, tmp_path / "data", "dataset.filters=[]"), silent)
    assert time.monotonic() - began < 120
    assert max(map(len, _LONG_RUN.sub(_cut, long).split())) == 500


@pytest.mark.parametrize("kind", ["far future", "no such zone"])
def test_times_that_python_can_not_hold_name_the_file(tmp_path, kind):
    value = (
        pa.array([2**61], pa.timestamp("us")) if kind == "far future" else pa.array([0], pa.timestamp("us", "No/Zone"))
    )
    pq.write_table(pa.table({"when": value}), tmp_path / "t.parquet")
    (ref,) = scan(list_files(["*.parquet"], tmp_path), 10)
    with pytest.raises(RecordFileError, match=r"t.parquet: cannot read this file of records"):
        list(read(ref))


def test_a_lost_tokenizer_is_no_reason_to_install_anything(built, tmp_path):
    from mmhydra.data.vocabulary import VocabularyError, load_tokenizer

    for name in ("tokenizer.json", "qwen.tiktoken"):
        with pytest.raises(VocabularyError, match=f"{name} is not there: the dataset is not whole"):
            load_tokenizer(tmp_path / name)


def test_nothing_that_is_no_dataset_is_offered_for_removal(built, tmp_path):
    from mmhydra.data.shards.manifest import ManifestError, load_manifest

    for folder in (tmp_path, tmp_path / "nope"):
        with pytest.raises(ManifestError) as caught:
            load_manifest(folder)
        assert "rm -r" not in str(caught.value)
    copy = shutil.copytree(built, tmp_path / "copy")
    (copy / "manifest.json").write_text(json.dumps({}))
    with pytest.raises(ManifestError, match="rm -r"):
        load_manifest(copy)
