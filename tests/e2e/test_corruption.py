"""Damaged data under a real trainer: skipped by all ranks and told of, or an end that names it."""

import json
import shutil
from pathlib import Path

import pytest
from workplace import SHORT, Workplace, events, records, replacing

pytestmark = pytest.mark.slow

SHORTER = replacing(SHORT, "training.steps=6", "checkpoint.interval=3", "training.validation_interval=6")
SHARD = "shards/sounds-train-00000.tar"  # of a source that comes in the first steps, and is not the only one


@pytest.fixture
def damaged(demo_data: Path, tmp_path: Path) -> Workplace:
    """A copy of the demo data in which one bit is another one."""
    place = Workplace(tmp_path / "data", tmp_path / "outputs")
    shutil.copytree(demo_data, place.data)
    path = place.data / "demo-v2" / SHARD
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return place


def test_a_flipped_byte_is_skipped_by_all_ranks_told_of_and_stays_skipped(damaged: Workplace, demo_data: Path) -> None:
    skipping = [*SHORTER, "loader.on_bad_chunk=skip", "loader.retries=1", "loader.retry_wait_s=0.01"]
    run = damaged.train(*skipping, "parallel=fsdp")
    (told,) = [event for event in events(run) if event["kind"] == "chunk_skipped"]
    assert f"demo-v2/{SHARD}, chunk 0 can't be read (it has another hash than when it was written)" in told["message"]
    assert f"left out from step {told['skip']['step']} on, on all ranks" in told["message"]
    stamps = [json.loads(path.read_text()) for path in sorted(run.glob("checkpoints/*/stamp.json"))]
    (skip,) = stamps[-1]["stream"]["skips"]
    assert (skip["shard"], skip["chunk"], skip["from_sample"]) == (SHARD, 0, (told["skip"]["step"] - 1) * 16)
    tokens = stamps[-1]["tokens"]
    assert tokens["skipped_samples"] == records(run)[6]["skipped_samples"] > 0
    assert tokens["total"] == sum(tokens["by_source"].values()) + tokens["padding"] + tokens["skipped"] == 6 * 16 * 128
    assert tokens["by_source"]["sounds"] == 0 or skip["from_sample"] > 0
    assert tokens["by_source"] == records(run)[6]["seen_tokens_by_source"]
    assert "sounds-train-00000.tar" in damaged.run("show", str(run), module="mmhydra.checkpoint").out

    # From the middle on one rank, with whole data again: the list of the checkpoint holds, so the losses are the same.
    shutil.rmtree(run / "checkpoints/step-00000006")
    shutil.copy(demo_data / "demo-v2" / SHARD, damaged.data / "demo-v2" / SHARD)
    before = records(run)
    assert damaged.train(*skipping) == run
    after = records(run, attempt="0002")
    assert list(after) == [4, 5, 6]
    for step, record in after.items():
        assert record["loss"] == pytest.approx(before[step]["loss"], rel=1e-5)
        assert record["tokens_by_modality"] == before[step]["tokens_by_modality"]
        assert record["skipped_samples"] == before[step]["skipped_samples"]
    assert [event["kind"] for event in events(run)].count("chunk_skipped") == 1


def test_a_flipped_byte_ends_a_run_that_may_not_skip_with_its_place_and_a_cure(damaged: Workplace) -> None:
    done = damaged.run(*SHORTER, "loader.on_bad_chunk=fail")
    assert done.code == 2, done.text
    assert SHARD in done.err
    assert "chunk 0 (bytes 0 to " in done.err
    assert "it has another hash than when it was written" in done.err
    assert "loader.on_bad_chunk=skip" in done.err
    assert "Traceback" not in done.text
