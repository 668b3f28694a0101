"""Ranks with disks of their own: what one of them can't read, all of them leave out, from the same step on."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fitting_dataset import write_fitting

from mmhydra.config.frozen import to_yaml
from mmhydra.config.schema import RunConfig

WORLD_SIZE = 4
SMALL = {
    "training.seq_len": 32,
    "training.global_batch_size": 8,
    "training.microbatch_size": 2,
    "training.steps": 100,
    "loader.retries": 1,
    "loader.retry_wait_s": 0.01,
}
Start = Callable[..., tuple[int, str, list[dict[str, Any]]]]


@pytest.fixture
def start(default_config: RunConfig, change: Any, tmp_path: Path) -> Start:
    """Loads on four ranks, two of each row; `damage` gets their data folders. Exit code, errors, what they saw."""

    def start(damage: Callable[[list[Path]], None], **leaves: Any) -> tuple[int, str, list[dict[str, Any]]]:
        changes = {name.replace("__", "."): value for name, value in leaves.items()}
        config = change(default_config, {**SMALL, **changes, "paths.data": str(tmp_path / "data-0")})
        write_fitting(config, num_documents=8)
        folders = [tmp_path / f"data-{rank}" for rank in range(WORLD_SIZE)]
        for folder in folders[1:]:
            shutil.copytree(folders[0], folder)
        damage(folders)
        (tmp_path / "config.yaml").write_bytes(to_yaml(config))
        script = Path(__file__).parents[1] / "support/loader_rank.py"
        elastic = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={WORLD_SIZE}"]
        done = subprocess.run(
            [sys.executable, *elastic, str(script), str(tmp_path / "config.yaml"), str(tmp_path), "2"],
            env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
            capture_output=True,
            text=True,
            timeout=120,
        )
        files = sorted(tmp_path.glob("rank-*.json"))
        return done.returncode, done.stderr, [json.loads(file.read_text()) for file in files]

    return start


def flip(shards: list[Path]) -> list[str]:
    """Changes a byte of each shard; their paths as the manifest has them."""
    for shard in shards:
        content = bytearray(shard.read_bytes())
        content[1024 + 512 + 40] ^= 1
        shard.write_bytes(content)
    return [f"shards/{shard.name}" for shard in shards]


def shards_of(folder: Path, split: str) -> list[Path]:
    """The shards of the source that gives most samples."""
    return sorted(folder.glob(f"*/shards/stdlib_code-{split}-*.tar"))


@pytest.mark.parametrize("workers", [0, 2])
def test_all_ranks_leave_out_what_one_of_them_cannot_read(start: Start, workers: int) -> None:
    damaged: dict[str, list[str]] = {}

    def damage(folders: list[Path]) -> None:
        damaged["train"] = flip(shards_of(folders[3], "train")[:1])
        damaged["heldout"] = flip(shards_of(folders[2], "heldout"))

    code, errors, ranks = start(damage, loader__on_bad_chunk="skip", loader__workers=workers)
    assert code == 0, errors[-3000:]
    states = [rank["train"]["state"] for rank in ranks]
    assert states == states[:1] * WORLD_SIZE
    (skip,) = json.loads(states[0]["skips"])
    assert [skip["shard"]] == damaged["train"]
    assert skip["from_sample"] % 8 == 0
    assert states[0]["sample"] == 6 * 8
    for name in ("train", "first", "second", "again"):
        steps = [rank[name]["steps"] for rank in ranks]
        assert steps[0] == steps[1], "tensor-parallel ranks read the same rows"
        assert steps[2] == steps[3]
        assert steps[0] != steps[2]
    for rank in ranks:
        assert rank["again"]["steps"] == rank["train"]["steps"][3:]
        assert rank["second"]["steps"] == rank["first"]["steps"], "a validation is the same each time"
    tokens = ranks[0]["tokens"]
    assert [rank["tokens"] for rank in ranks] == [tokens] * WORLD_SIZE
    assert tokens["skipped_samples"] > 0
    assert tokens["total"] == sum(tokens["by_source"].values()) + tokens["padding"] + tokens["skipped"] == 6 * 8 * 32
    # Rank 0 tells, though it never met the damage; of each chunk once.
    assert [rank["events"] for rank in ranks[1:]] == [[]] * 3
    told = [values["skip"] for kind, message, values in ranks[0]["events"] if kind == "chunk_skipped"]
    assert {entry["split"] for entry in told} == {"train", "heldout"}
    assert len({(entry["shard"], entry["chunk"]) for entry in told}) == len(told) == len(ranks[0]["events"])
    for (_, message, _), entry in zip(ranks[0]["events"], told, strict=True):
        assert entry["shard"] in damaged[entry["split"]]
        assert f"{entry['dataset']}/{entry['shard']}, chunk {entry['chunk']}" in message
        assert entry["reason"] in message
    (of_training,) = [entry for entry in told if entry["split"] == "train"]
    assert of_training["step"] == skip["from_sample"] // 8 + 1


def test_without_leave_to_skip_the_rank_that_found_it_says_so(start: Start) -> None:
    def damage(folders: list[Path]) -> None:
        flip(shards_of(folders[3], "train")[:1])

    code, errors, ranks = start(damage, loader__on_bad_chunk="retry")
    assert code != 0
    assert len(ranks) < WORLD_SIZE
    assert "another hash than when it was written, 2 tries" in errors
