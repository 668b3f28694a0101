"""The same bytes of every file, whatever folder, number of processes, and however often a build was killed."""

import json
import os
import random
import shutil
import signal
import time

import pytest
from dataset_builds import files_of, write_records

from mmhydra.data.build.driver import build_dataset
from mmhydra.data.shards.manifest import load_manifest
from mmhydra.data.verify import verify


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 3])
def test_any_number_of_processes_in_any_folder(config_of, built, tmp_path, processes):
    records = write_records(tmp_path / "elsewhere" / "with records")
    data = tmp_path / "data"
    manifest = build_dataset(config_of(records, data, f"build.processes={processes}"), lambda line: None)
    assert manifest.digest == load_manifest(built).digest
    assert files_of(data / "tiny") == files_of(built)


def test_no_file_of_a_dataset_names_a_folder_of_this_machine(built, records):
    for name, content in files_of(built).items():
        assert str(built.parent).encode() not in content, name
        assert str(records).encode() not in content, name


def test_absolute_paths_in_the_recipe_make_no_difference(config_of, tmp_path):
    copies = []
    for name in ("a", "b"):
        folder = write_records(tmp_path / name, 300)
        (folder / "words.txt").write_text("no licence\n")
        absolute = [
            f"dataset.sources.0.records=['{folder}/web-*.jsonl']",
            f"dataset.sources.1.records=['{folder}/notes.jsonl']",
            f"dataset.filters=[{{kind: toxicity, words_file: {folder}/words.txt, max_share: 0.0}}]",
        ]
        build_dataset(config_of(tmp_path / "nothing", folder / "data", *absolute), lambda line: None)
        copies.append(files_of(folder / "data" / "tiny"))
    assert copies[0] == copies[1]
    assert b'"toxic"' in copies[0]["rejects/web.jsonl"]
    assert b'"place": "web-0.jsonl:8"' in copies[0]["rejects/web.jsonl"]


def test_what_is_in_the_folder_and_nothing_else(built):
    names = {name.split("/")[0] for name in files_of(built)}
    assert names == {"manifest.json", "data_card.md", "governance.html", "tokenizer.json", "shards", "packs", "rejects"}
    assert verify(built, load_manifest(built)) == []
    shards = load_manifest(built).shards
    assert len([shard for shard in shards if (shard.source, shard.split) == ("web", "train")]) > 2
    assert not list(built.parent.glob(".*"))


# What is to be there when a build is killed, in the order of the stages; together they cover all of them.
MOMENTS = [
    ("stages/inputs.json", 1),
    ("stages/read/web/*.json", 1),
    ("stages/read/web/*.json", 4),
    ("tokenizer.json", 1),
    ("stages/encode/*/*.json", 2),
    ("shards/*.tar", 1),
    ("shards/*.tar", 4),
    ("packs/*.json", 1),
    ("governance.html", 1),
]


@pytest.mark.slow
@pytest.mark.parametrize("whole_group", [True, False], ids=["all processes", "the parent alone"])
def test_a_build_that_is_killed_again_and_again(command, built, records, tmp_path, whole_group):
    draw = random.Random(int(whole_group))
    data = tmp_path / "data"
    kills = 0
    for pattern, number in MOMENTS[int(whole_group) :: 2]:
        build = command(records, data, f"build.processes={draw.choice([1, 2, 3])}")
        if not build.run_to(pattern, number):
            break
        time.sleep(draw.random() * 0.03)
        workers = build.workers()
        if whole_group:
            os.killpg(build.process.pid, signal.SIGKILL)
        else:
            build.process.kill()
        build.process.wait()
        kills += 1
        ends = time.monotonic() + 10
        while any(is_alive(worker) for worker in workers):
            assert time.monotonic() < ends, "a process has outlived its build"
            time.sleep(0.01)
    assert kills >= 3
    code, said = command(records, data).wait()
    assert code == 0, said
    assert files_of(data / "tiny") == files_of(built)
    assert [path.name for path in data.iterdir() if path.name.startswith(".")] == []


def is_alive(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_build_killed_between_its_last_file_and_its_name(config_of, built, records, tmp_path):
    building = tmp_path / ".tiny.building"
    shutil.copytree(built, building)
    (building / "stages" / "read").mkdir(parents=True)  # as its removal may leave it
    lines = []
    build_dataset(config_of(records, tmp_path), lines.append)
    assert lines == []
    assert files_of(tmp_path / "tiny") == files_of(built)


def test_halves_of_files_are_removed(command, built, records, tmp_path):
    data = tmp_path / "data"
    build = command(records, data)
    assert build.run_to("tokenizer.json")
    build.stop()
    building = data / ".tiny.building"
    (building / "shards").mkdir(exist_ok=True)
    (building / "shards" / ".web-train-00000.tar.tmp").write_bytes(b"half")
    (building / ".manifest.json.123.tmp").write_bytes(b"{")
    code, said = command(records, data).wait()
    assert code == 0
    assert "going on with a build that was stopped" in said
    assert files_of(data / "tiny") == files_of(built)


@pytest.mark.parametrize("rubbish", ["link", "settings"])
def test_rubbish_in_the_building_folder(config_of, built, records, tmp_path, rubbish):
    building = tmp_path / ".tiny.building"
    (building / "stages").mkdir(parents=True)
    if rubbish == "link":
        (tmp_path / "precious").mkdir()
        (tmp_path / "precious" / "file").write_text("kept")
        (building / "packs").symlink_to(tmp_path / "precious")
        (building / "tokenizer.json").write_text("{}")
    else:
        (building / "stages" / "build.json").write_text('{"builder_version": ')
    lines = []
    build_dataset(config_of(records, tmp_path), lines.append)
    assert "is left of another build: starting anew" in lines[0]
    assert files_of(tmp_path / "tiny") == files_of(built)
    if rubbish == "link":
        assert (tmp_path / "precious" / "file").read_text() == "kept"


def test_a_changed_recipe_starts_anew(command, config_of, records, tmp_path):
    data = tmp_path / "data"
    build = command(records, data)
    assert build.run_to("stages/encode/*/*.json")
    build.stop()
    lines = []
    manifest = build_dataset(config_of(records, data, "dataset.seed=2", "dataset.name=tiny"), lines.append)
    assert "starting anew" in lines[0]
    assert manifest.builder["recipe"]["seed"] == 2


def test_changed_records_are_refused_with_the_cure(command, config_of, tmp_path):
    records = write_records(tmp_path / "records", 300)
    data = tmp_path / "data"
    build = command(records, data)
    assert build.run_to("stages/read/web/*.json")
    build.stop()
    with (records / "web-1.jsonl").open("a") as file:
        file.write(json.dumps({"one": "more"}) + "\n")
    code, said = command(records, data).wait()
    assert code == 2
    assert "files have changed since this build was started: web-1.jsonl" in said
    assert f"rm -r {data / '.tiny.building'}" in said
    shutil.rmtree(data / ".tiny.building")
    assert command(records, data).wait()[0] == 0


def test_a_finished_dataset_is_returned_at_once(config_of, built, records):
    before = {path: path.stat().st_mtime_ns for path in built.rglob("*")}
    lines = []
    manifest = build_dataset(config_of(records, built.parent), lines.append)
    assert manifest.digest == load_manifest(built).digest
    assert len(lines) == 1
    assert "is there already" in lines[0]
    assert {path: path.stat().st_mtime_ns for path in built.rglob("*")} == before
