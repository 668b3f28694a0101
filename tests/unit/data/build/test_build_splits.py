"""Which split a record gets, duplicates over all sources, and memory that does not grow with the records."""

import json
import os
import subprocess
import sys

import pytest
from dataset_builds import infos, sentence, text_record, write_jsonl, write_records

from mmhydra.data.build.driver import build_dataset
from mmhydra.data.shards.manifest import load_manifest


def test_groups_never_straddle_splits_even_over_sources(config_of, tmp_path):
    """Two sources share their groups; the second has so few that none of its own would be held out."""
    groups = [f"group {n}" for n in range(40)]
    web = [text_record(f"w{n}", sentence(n), metadata={"split_group": groups[n % 40]}) for n in range(200)]
    notes = [text_record(f"n{n}", sentence(5000 + n), metadata={"split_group": groups[n % 3]}) for n in range(9)]
    write_jsonl(tmp_path / "web.jsonl", web)
    write_jsonl(tmp_path / "notes.jsonl", notes)
    build_dataset(config_of(tmp_path, tmp_path / "data", "dataset.heldout_fraction=0.02"), lambda line: None)
    group_of = {record["unique_id"]: record["metadata"]["split_group"] for record in [*web, *notes]}
    found = infos(tmp_path / "data" / "tiny")
    assert sorted(found) == [("heldout", "notes"), ("heldout", "web"), ("train", "notes"), ("train", "web")]
    by_split = {
        split: {group_of[i["unique_id"]] for (s, _), own in found.items() for i in own if s == split}
        for split in ("train", "heldout")
    }
    assert not by_split["train"] & by_split["heldout"]
    assert by_split["train"] | by_split["heldout"] == set(groups)


def test_without_a_heldout_fraction_all_is_train(config_of, tmp_path):
    records = write_records(tmp_path, 60)
    manifest = build_dataset(config_of(records, tmp_path / "data", "dataset.heldout_fraction=0"), lambda line: None)
    assert {shard.split for shard in manifest.shards} == {"train"}


def test_duplicates_are_counted_and_told(built):
    source = load_manifest(built).sources[0].statistics
    assert source.records == 1200
    assert source.rejected == {"duplicate_exact": 1, "duplicate_id": 1, "license_not_allowed": 1, "not_json": 1}
    assert source.accepted == 1196 == sum(source.documents.values())
    assert {name: (row.seen, row.rejected) for name, row in source.filters.items()} == {
        "license": (1199, 1),
        "exact_duplicates": (1197, 1),
        "near_duplicates": (1196, 0),
    }
    lines = [json.loads(line) for line in (built / "rejects" / "web.jsonl").read_text().splitlines()]
    assert [(line["place"], line["reason"]) for line in lines] == [
        ("web-0.jsonl:8", "license_not_allowed"),
        ("web-0.jsonl:12", "not_json"),
        ("web-0.jsonl:14", "duplicate_id"),
        ("web-0.jsonl:18", "duplicate_exact"),
    ]
    assert lines[2]["detail"] == "the same as web-12 (web-0.jsonl:13)"


def test_both_templates_are_used_by_their_share(built):
    notes = load_manifest(built).sources[1].statistics
    assert notes.templates.keys() == {"note", "text"}
    assert sum(notes.templates.values()) == notes.accepted == 40
    assert min(notes.templates.values()) > 10


# Run by itself: what the largest process of a build takes, in bytes, is the last thing that it prints.
PEAK = """
import resource, sys
from mmhydra.data.__main__ import main
code = main(sys.argv[1:])
peaks = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(code, *(peak * 1024 for peak in peaks))
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_records(groups, tmp_path):
    peaks = {}
    for number in (500, 5000):
        records = write_records(tmp_path / str(number), number)
        command = [sys.executable, "-c", PEAK, "build", "--config-dir", str(groups), "dataset=tiny"]
        command += [f"dataset.records_dir={records}", f"paths.data={tmp_path / str(number) / 'data'}"]
        done = subprocess.run([*command, "build.processes=2"], capture_output=True, text=True, env=os.environ)
        code, *peaks[number] = map(int, done.stdout.splitlines()[-1].split())
        assert code == 0, done.stderr
    grown_mb = [(large - small) / 1e6 for small, large in zip(*peaks.values(), strict=True)]
    assert max(grown_mb) < 60, grown_mb
