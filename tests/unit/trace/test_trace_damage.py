"""Trace over damaged shards, chunks that a run went on without, and runs that extend others."""

import io
import json
import re
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_run import FakeRun
from rich.console import Console

from mmhydra.data.shards.manifest import load_manifest
from mmhydra.data.shards.reader import TokenShards
from mmhydra.data.stream.skips import Skip, Skips
from mmhydra.trace.commands import list_step
from mmhydra.trace.opening import open_traced

BATCH, STEPS = 12, 40  # as in conftest.py
SHARD = "shards/web-train-00000.tar"


def test_a_record_is_found_in_whichever_chunks_its_name_lies(data):
    manifest = load_manifest(data / "texts")
    shards = TokenShards(data / "texts", manifest, "web", "train")
    faults: list[Any] = []
    for document in range(shards.num_documents):
        name = shards.info(document)["unique_id"]
        assert list(shards.holding(f'"unique_id": "{name}"'.encode(), faults.append)) == [document]
    # Bytes on both sides of the edge of two chunks.
    content, looked_at = (data / "texts" / SHARD).read_bytes(), 0
    with tarfile.open(data / "texts" / SHARD) as tar:
        members = [(int(member.name[:9]), member.offset, member.offset_data + member.size) for member in tar]
    for edge in range(6000, len(content), 6000):
        for document, start, end in members:
            needle = content[max(start, edge - 300) : min(end, edge + 300)]
            if start < edge < end and content.count(needle) == 1:
                assert list(shards.holding(needle, faults.append)) == [document]
                looked_at += 1
    assert looked_at > 3
    assert faults == []


@pytest.fixture
def damaged(data: Path, tmp_path: Path) -> Path:
    """The datasets with a byte flipped in chunk 1 of the first shard of web."""
    copy = shutil.copytree(data, tmp_path / "damaged")
    content = bytearray((copy / "texts" / SHARD).read_bytes())
    content[6000 + 4000] ^= 1
    (copy / "texts" / SHARD).write_bytes(content)
    return copy


def test_what_can_not_be_read_is_listed_with_the_reason(make_run, trace, trace_json, damaged):
    run = make_run()
    whole = [sample for step in range(1, 9) for sample in trace_json(run, "--step", step)[1:]]
    torn = [sample for step in range(1, 9) for sample in trace_json(run, "--step", step, "--data", damaged)[1:]]
    faults = 0
    for one, other in zip(whole, torn, strict=True):
        for piece, read in zip(one["pieces"], other["pieces"], strict=True):
            if read["fault"]:
                assert "chunk 1" in read["fault"]
                assert read.items() >= {(key, piece[key]) for key in ("shard", "key", "offset", "length", "position")}
                faults += 1
            else:
                assert read == piece
    assert 0 < faults < sum(len(sample["pieces"]) for sample in whole) / 2
    step = next(1 + number // BATCH for number, sample in enumerate(torn) if any(p["fault"] for p in sample["pieces"]))
    code, out, _ = trace(run, "--step", step, "--data", damaged)
    assert code == 0
    assert re.search(r"unreadable: shard \S+/web-train-00000.tar, chunk 1 ", out)


def skip_of(data: Path, chunk: int, from_sample: int) -> Skip:
    """A chunk of the first shard of web, or all of it, left out from a sample on."""
    shards = TokenShards(data / "texts", load_manifest(data / "texts"), "web", "train")
    return Skip("texts", SHARD, chunk, "another hash", from_sample, *shards.documents_of(SHARD, chunk))


def skipping(make_run: Any, data: Path, from_sample: int, chunk: int = 1, **leaves: Any) -> FakeRun:
    """A run that leaves out samples of a chunk from a sample on."""
    run: FakeRun = make_run(loader__on_bad_chunk="skip", **leaves)
    run.skips = Skips((skip_of(data, chunk, from_sample),))
    return run


def told(run: FakeRun, number: int = -1) -> None:
    """Writes the event of its skips into an attempt, the newest one if not said otherwise."""
    lines = [
        json.dumps({"kind": "chunk_skipped", "skip": {**record, "split": split, "step": 1}})
        for record in run.skips.records
        for split in ("train", "heldout")
    ]
    run.directory.attempts[number].events.write_text('{"kind": "model"}\n' + "\n".join(lines) + "\n")


def test_samples_that_were_left_out_are_marked(make_run, trace, trace_json, data):
    run = skipping(make_run, data, 5 * BATCH)
    before = [trace_json(run, "--step", step) for step in (3, 5, 6, 7, 8)]
    assert not any(sample["is_skipped"] for _, *samples in before for sample in samples)
    told(run)
    from_events = [trace_json(run, "--step", step) for step in (3, 5, 6, 7, 8)]
    run.directory.attempts[-1].events.write_text("")
    run.save(run.start(), 5)
    from_stamp = [trace_json(run, "--step", step) for step in (3, 5, 6, 7, 8)]
    assert [samples for _, *samples in from_stamp] == [samples for _, *samples in from_events]
    assert from_stamp[-1][0]["seen"] == from_events[-1][0]["seen"]

    split = open_traced(run.directory, None).split
    lowest, highest = run.skips.entries[0].first_document, run.skips.entries[0].last_document
    skipped = 0
    for (head, *samples), (whole, *_) in zip(from_events, before, strict=True):
        own = [sample for sample in samples if sample["is_skipped"]]
        expected = [
            sample
            for sample in samples
            if sample["n"] >= 5 * BATCH
            and sample["source"] == "web"
            and any(lowest <= piece["document"] < highest for piece in sample["pieces"])
        ]
        assert own == expected
        assert head["tokens"]["skipped_samples"] == len(own)
        blank = split.read(np.array([sample["n"] for sample in own], np.int64), run.skips).batch if own else None
        assert blank is None or (blank.labels_BL == -100).all()
        filled = [sum(sum(counts.values()) for counts in one["tokens"]["tokens"].values()) for one in (head, whole)]
        assert filled[0] < filled[1] if own else filled[0] == filled[1]
        skipped += len(own)
    assert skipped

    step, listed = next((line[0]["step"], line[1:]) for line in from_events if line[0]["tokens"]["skipped_samples"])
    name = next(sample for sample in listed if sample["is_skipped"])["pieces"][0]["unique_id"]
    run.directory.attempts[-1].metrics.write_text(f'{{"kind": "train", "step": {STEPS}}}\n')
    _, *visits = trace_json(run, "--find", name)
    assert "skipped" in {visit["state"] for visit in visits if visit["step"] > 5}
    assert {visit["state"] for visit in visits if visit["step"] <= 5} <= {"seen"}
    _, out, _ = trace(run, "--step", step)
    columns, *lines = [line.split() for line in out.split("\n\n")[0].splitlines()[1:]]
    marked = {int(line[columns.index("n")]) for line in lines if line[columns.index("left_out")] == "yes"}
    assert marked == {sample["n"] for sample in listed if sample["is_skipped"]}
    assert f"left out from sample 60 on: texts/{SHARD}, chunk 1 (another hash)" in out


def test_without_stamps_and_events_it_says_what_it_can_not_know(make_run, trace):
    run = make_run(loader__on_bad_chunk="skip")
    code, _, err = trace(run, "--step", 1)
    assert code == 0
    assert err.startswith("note: skipped chunks may be missing here: the events of attempt 1 can't be read")
    told(run)
    assert trace(run, "--step", 1)[2] == ""


def test_events_count_unless_a_later_attempt_made_the_step_again(make_run, data, trace_json):
    run = skipping(make_run, data, 14 * BATCH)  # in step 15

    def made(number: int, first: int, last: int) -> None:
        lines = [json.dumps({"kind": "train", "step": step}) for step in range(first, last + 1)]
        run.directory.attempts[number].metrics.write_text("".join(f"{line}\n" for line in lines))
        if not run.directory.attempts[number].events.exists():
            run.directory.attempts[number].events.write_text('{"kind": "model"}\n')

    def skips() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = trace_json(run, "--step", 15)[0]["skips"]
        return found

    told(run)
    made(0, 1, 20)
    assert skips() == run.skips.records
    run.start()  # goes on from step 10, and has made no step yet
    made(1, 1, 0)
    assert skips() == run.skips.records
    made(1, 11, 12)  # step 15 is still the one that the first attempt made
    assert skips() == run.skips.records
    made(1, 11, 15)  # the chunk was mended meanwhile
    assert skips() == []
    told(run, 1)
    assert skips() == run.skips.records


def test_a_run_that_extends_one_with_skips_begins_with_its_list(make_run, data, trace, trace_json):
    parent = skipping(make_run, data, 5 * BATCH)
    folder = parent.save(parent.start(), STEPS)
    child = make_run(checkpoint__extend_from=str(folder), training__steps=60, tag="child")
    child.directory.attempts[0].events.write_text("")
    assert trace_json(child, "--step", 41)[0]["skips"] == parent.skips.records
    marked = [s for step in range(41, 61) for s in trace_json(child, "--step", step)[1:] if s["is_skipped"]]
    assert marked
    # Its own stamp says more than that of the parent.
    child.skips = Skips((*parent.skips, skip_of(data, 0, 45 * BATCH)))
    child.save(child.start(), 50)
    assert trace_json(child, "--step", 41)[0]["skips"] == child.skips.records


@pytest.mark.parametrize("chunk", [1, -1])
def test_a_listing_goes_on_where_what_lies_beside_a_shard_is_gone(make_run, data, trace, trace_json, tmp_path, chunk):
    run = skipping(make_run, data, 0, chunk)
    told(run)
    whole = [trace_json(run, "--step", step) for step in range(1, 8)]
    gone = shutil.copytree(data, tmp_path / "gone")
    (gone / "texts" / f"{SHARD}.idx.npy").unlink()
    torn = [trace_json(run, "--step", step, "--data", gone) for step in range(1, 8)]
    unreadable = 0
    for (_, *one), (_, *other) in zip(whole, torn, strict=True):
        assert [sample["is_skipped"] for sample in one] == [sample["is_skipped"] for sample in other]
        for sample, read in zip(one, other, strict=True):
            for piece, found in zip(sample["pieces"], read["pieces"], strict=True):
                assert bool(found["fault"]) == (found["shard"] == SHARD)
                assert found["key"] == piece["key"]
                unreadable += bool(found["fault"])
    assert unreadable
    code, out, _ = trace(run, "--step", 6, "--data", gone)
    assert code == 0
    assert "unreadable: " in out
    assert f"texts/{SHARD}, {'the whole shard' if chunk == -1 else 'chunk 1'} (another hash)" in out
    assert "chunk -1" not in out
    code, out, err = trace(run, "--find", "text-9999", "--data", gone)
    assert code == 2
    assert f"(but these can't be read: texts/{SHARD}, the whole shard)" in err


def test_steps_before_an_extension_are_those_of_the_parent(make_run, trace, trace_json):
    parent = make_run()
    keeper = parent.start()
    folder = parent.save(keeper, STEPS)
    child = make_run(checkpoint__extend_from=str(folder), training__steps=60, data__sources__0__weight=1.0, tag="child")
    code, out, err = trace(child, "--step", 7)
    assert code == 0
    assert err == f"note: step 7 was made by the run that this one extends, {parent.directory.path}\n"
    assert out == trace(parent, "--step", 7)[1]
    head, *_ = trace_json(child, "--step", 41)
    assert (head["run"], head["first_sample"]) == (str(child.directory.path), STEPS * BATCH)
    assert "its steps are 41 to 60" in trace(child, "--step", 61)[2]

    lines = trace_json(child, "--find", "text-5")
    edge = next(number for number, line in enumerate(lines) if line.get("run") == str(child.directory.path))
    assert lines[:edge] == trace_json(parent, "--find", "text-5")
    own = [(visit["step"], visit["number"]) for visit in lines[edge + 1 :]]
    assert own == [
        (step, sample["number"])
        for step in range(41, 61)
        for sample in trace_json(child, "--step", step)[1:]
        for piece in sample["pieces"]
        if piece["unique_id"] == "text-5"
    ]
    shutil.rmtree(parent.directory.path)
    code, out, err = trace(child, "--find", "text-5")
    assert code == 0
    assert "note: steps 1 to 40 are not looked at: " in err
    assert trace(child, "--step", 7)[0] == 2


def test_on_a_terminal_it_is_a_table_and_hostile_names_are_spelt_out(make_run, data, tmp_path):
    run = make_run()
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=110, highlight=False, soft_wrap=True)
    list_step(console, open_traced(run.directory, None), 3, None, None, as_json=False)
    shown = re.sub(r"\x1b\[[\d;]*m", "", out.getvalue())
    assert re.search(r"sample +source +positions +tokens +document +license +source URI", shown)
    assert re.search(r"^n 25 ", shown, re.MULTILINE)
    assert max(map(len, shown.splitlines())) <= 110
