"""What is wrong with recipe, records, media or the machine: said without a traceback, with what to do."""

import json
import os
import shutil
import signal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dataset_builds import files_of, sentence, text_record, write_jsonl, write_records

from mmhydra.data.build.driver import build_dataset
from mmhydra.data.dataset_folder import DatasetError
from mmhydra.data.records.batches import RecordFileError
from mmhydra.errors import UserError


def refused(config) -> str:
    """What a build says is wrong."""
    with pytest.raises(UserError) as caught:
        build_dataset(config, lambda line: None)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_another_recipe_in_the_folder_is_refused_with_the_differences(config_of, built, records):
    before = files_of(built)
    said = refused(config_of(records, built.parent, "dataset.seed=2", "dataset.heldout_fraction=0.1"))
    assert "recipe.seed: there 1, asked for 2" in said
    assert "recipe.heldout_fraction: there 0.2, asked for 0.1" in said
    assert "dataset.name=NAME" in said
    assert files_of(built) == before


def test_other_records_for_the_same_recipe_are_refused(config_of, built, tmp_path):
    other = write_records(tmp_path, 300)
    said = refused(config_of(other, built.parent))
    assert "made by this recipe of other files: web-0.jsonl, web-1.jsonl differ" in said


def test_records_of_other_content_and_the_same_size_are_refused(config_of, built, records, tmp_path):
    other = shutil.copytree(records, tmp_path / "records")
    content = (other / "web-1.jsonl").read_bytes()
    (other / "web-1.jsonl").write_bytes(content.replace(b"Tale", b"Tail", 1))
    said = refused(config_of(other, built.parent))
    assert "made by this recipe of other files: web-1.jsonl differ" in said


def test_a_finished_dataset_needs_no_records_any_more(config_of, built, tmp_path):
    build_dataset(config_of(tmp_path / "gone", built.parent), lambda line: None)


def test_empty_record_files(config_of, tmp_path):
    write_jsonl(tmp_path / "web.jsonl", [])
    write_jsonl(tmp_path / "notes.jsonl", [text_record("note", sentence(1))])
    said = refused(config_of(tmp_path, tmp_path / "data"))
    assert "no record of source web is left of 0: its files are empty" in said


def test_only_rejects(config_of, tmp_path):
    write_jsonl(tmp_path / "web.jsonl", [b"{", text_record("w", "x", metadata={"license": "GPL-3.0-only"})])
    write_jsonl(tmp_path / "notes.jsonl", [text_record("note", sentence(1))])
    said = refused(config_of(tmp_path, tmp_path / "data"))
    assert "no record of source web is left of 2: license_not_allowed 1, not_json 1" in said
    rejects = list((tmp_path / "data").glob(".tiny.building/stages/read/web/*.rejects.jsonl"))
    assert len(rejects[0].read_text().splitlines()) == 2


def test_only_duplicates_of_another_source(config_of, tmp_path):
    write_jsonl(tmp_path / "web.jsonl", [text_record("one", sentence(1)), text_record("two", sentence(2))])
    write_jsonl(tmp_path / "notes.jsonl", [text_record("three", sentence(2)), text_record("one", sentence(3))])
    said = refused(config_of(tmp_path, tmp_path / "data"))
    assert "no record of source notes is left of 2: duplicate_exact 1, duplicate_id 1" in said


def test_record_files_that_are_not_there(config_of, tmp_path):
    write_jsonl(tmp_path / "web.jsonl", [text_record("one", sentence(1))])
    said = refused(config_of(tmp_path, tmp_path / "data"))
    assert f"no record file matches notes.jsonl in {tmp_path}" in said


@pytest.mark.parametrize("content", [b"", b"PAR1 and no table", None])
def test_parquet_that_is_none(config_of, tmp_path, content):
    write_jsonl(tmp_path / "web.jsonl", [text_record("one", sentence(1))])
    path = tmp_path / "notes.parquet"
    pq.write_table(pa.table({"unique_id": [f"n{n}" for n in range(1000)]}), path)
    path.write_bytes(path.read_bytes()[:-20] if content is None else content)
    config = config_of(tmp_path, tmp_path / "data", "dataset.sources.1.records=[notes.parquet]")
    with pytest.raises(RecordFileError, match=r"notes\.parquet"):
        build_dataset(config, lambda line: None)


def test_a_parquet_file_that_breaks_in_a_process(config_of, tmp_path):
    write_jsonl(tmp_path / "web.jsonl", [text_record("one", sentence(1))])
    path = tmp_path / "notes.parquet"
    rows = [{key: value for key, value in text_record(f"n{n}", sentence(n)).items()} for n in range(300)]
    pq.write_table(pa.Table.from_pylist(rows), path, compression="zstd")
    content = bytearray(path.read_bytes())
    content[200:1200] = bytes(1000)  # pages; the footer, which is read first, is whole
    path.write_bytes(content)
    said = refused(config_of(tmp_path, tmp_path / "data", "dataset.sources.1.records=[notes.parquet]"))
    assert "notes.parquet: cannot read this file of records" in said


def test_a_filter_file_that_is_not_there(config_of, records, tmp_path):
    filters = "[{kind: toxicity, words_file: nowhere.txt, max_share: 0.1}]"
    said = refused(config_of(records, tmp_path, f"dataset.filters={filters}"))
    assert "nowhere.txt: cannot read it (No such file or directory)" in said


def test_what_a_filter_says_in_a_process_reaches_the_user(config_of, tmp_path):
    records = write_records(tmp_path, 300)
    (records / "words.txt").write_text("# nothing\n")
    filters = "[{kind: toxicity, words_file: words.txt, max_share: 0.1}]"
    said = refused(config_of(records, tmp_path / "data", f"dataset.filters={filters}"))
    assert said == "filter toxicity: words_file words.txt has no word in it"


def test_a_file_that_goes_away_between_reading_and_encoding(command, config_of, tmp_path):
    records = write_records(tmp_path / "records", 300)
    page = records / "page.txt"
    page.write_text(sentence(77_777))
    paged = text_record("paged", "", data_paths={"text": "page.txt"})
    del paged["text"]
    with (records / "web-1.jsonl").open("a") as file:
        file.write(json.dumps(paged) + "\n")
    build = command(records, tmp_path / "data")
    assert build.run_to("stages/read/*/*.json", 3)
    build.stop()
    page.rename(records / "away.txt")
    said = refused(config_of(records, tmp_path / "data"))
    assert "web-1.jsonl:151: record paged could be read when it was checked, and can't any more" in said
    assert "missing_file: page.txt" in said
    (records / "away.txt").rename(page)
    build_dataset(config_of(records, tmp_path / "data"), lambda line: None)


WRONG = {
    "dataset.shard_mbb=1": "dataset.shard_mbb: no such key; did you mean shard_mb?",
    "dataset.shard_mb=0.01": "a chunk of 0.05 MB is larger than a shard of 0.01 MB",
    "dataset.chunk_mb=0.0000001": "a chunk has at least 0.001 MB",
    "dataset.records_dir=null": "type dataset.records_dir=FOLDER",
    "dataset.filters=[{kind: licence}]": "no such kind of filter; legal: license, pii",
    "dataset.limits.max_pixels=none": "dataset.limits.max_pixels",
    "dataset.filters=[{kind: exact_duplicates},{kind: license, allow: [MIT]}]": "stands after a filter of duplicates",
    "dataset.sources.0.templates.0.form='{txt}'": "did you mean {text}?",
    "dataset.sources.0.templates.0.form='{text'": "without its other half",
    "dataset.sources.0.templates.0.form='<|image_start|>{image}<|image_end|>'": "needs a codec for image",
    "dataset.sources.1.name=web": "web: named twice",
    "dataset.heldout_fraction=1": "less than 1",
    "dataset.heldout_fraction=nan": "dataset.heldout_fraction",
    "tokens.ranges.0.size=100": "256",
    "build.processes=0": "greater than or equal to 1 or 'auto'",
    "dataset=tyni": "no such choice",
}


@pytest.mark.parametrize("override", WRONG)
def test_wrong_values(config_of, records, tmp_path, override):
    with pytest.raises(UserError) as caught:
        build_dataset(config_of(records, tmp_path, override), lambda line: None)
    assert WRONG[override] in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_codec_larger_than_its_range(config_of, records, tmp_path):
    codec = ["+codec@dataset.codecs.image=image_demo", "dataset.codecs.image.codebook_size=4096"]
    said = refused(config_of(records, tmp_path, *codec))
    assert "4096 ids, the vocabulary demo only 512 for image" in said


def test_a_data_folder_that_is_a_file(config_of, records, tmp_path):
    (tmp_path / "data").write_text("")
    with pytest.raises(DatasetError, match="is not a folder; give another data folder"):
        build_dataset(config_of(records, tmp_path / "data"), lambda line: None)


# The tokenizer takes about 60 kB, a shard up to 200 kB: one limit fails in this process, one in another stage.
@pytest.mark.slow
@pytest.mark.parametrize("fsize_bytes", [50_000, 150_000])
def test_a_full_disk(command, built, records, tmp_path, fsize_bytes):
    data = tmp_path / "data"
    code, said = command(records, data, fsize_bytes=fsize_bytes).wait()
    assert code == 2, said
    assert "File too large" in said
    assert "free some space and type the same command again" in said
    assert "Traceback" not in said
    assert not (data / "tiny").exists()
    assert command(records, data).wait()[0] == 0
    assert files_of(data / "tiny") == files_of(built)


@pytest.mark.slow
def test_a_killed_process(command, built, records, tmp_path):
    data = tmp_path / "data"
    build = command(records, data, "build.processes=2")
    assert build.run_to("stages/read/web/*.json")
    os.kill(build.workers()[0], signal.SIGKILL)
    code, said = build.wait()
    assert code == 1, said
    assert "a process of the build was killed or could not start" in said
    assert "the same command goes on" in said
    assert "Traceback" not in said
    assert command(records, data).wait()[0] == 0
    assert files_of(data / "tiny") == files_of(built)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["stages/inputs.json", "stages/encode/web/*.json"])
def test_control_c(command, built, records, tmp_path, moment):
    data = tmp_path / "data"
    build = command(records, data, "build.processes=2")
    assert build.run_to(moment)
    os.killpg(build.process.pid, signal.SIGINT)  # as a terminal does
    code, said = build.wait()
    assert code == 130, said
    assert said.endswith("stopped; the same command goes on from here\n")
    assert "Traceback" not in said
    assert build.workers() == []
    if moment.startswith("stages/encode"):
        assert command(records, data).wait()[0] == 0
        assert files_of(data / "tiny") == files_of(built)


@pytest.mark.slow
def test_of_two_builds_at_once_one_waits(command, built, records, tmp_path):
    data = tmp_path / "data"
    first = command(records, data)
    assert first.run_to("stages/read/web/*.json")
    other = command(records, data, "dataset.name=other", "build.processes=1")  # of another name: no wait
    second = command(records, data)
    codes = [build.process.wait(timeout=60) for build in (first, second, other)]
    assert codes == [0, 0, 0]
    assert files_of(data / "tiny") == files_of(built)
    assert (data / "other" / "manifest.json").is_file()
