"""Real trainers of several ranks: packed documents don't see each other, and padding harms nothing."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from mmhydra.config.frozen import to_yaml
from mmhydra.config.schema import RunConfig

SMALL = {
    "model.dim": 32,
    "model.num_heads": 4,
    "model.num_kv_heads": 4,
    "model.num_layers": 2,
    "model.ffn_dim": 64,
    "training.seq_len": 32,
    "training.validation_interval": 1,
    "training.steps": 100,
    "checkpoint.enabled": False,
}
Start = Callable[[str, Mapping[str, Any]], list[dict[str, Any]]]


@pytest.fixture
def start(default_config: RunConfig, change: Any, tmp_path: Path) -> Start:
    """Runs a scenario of trainer_rank.py on all ranks of a config; what each of them saw."""

    def start(scenario: str, changes: Mapping[str, Any]) -> list[dict[str, Any]]:
        config = change(default_config, {**SMALL, **changes})
        (tmp_path / "config.yaml").write_bytes(to_yaml(config))
        script = Path(__file__).parents[1] / "support/trainer_rank.py"
        elastic = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={config.world_size}"]
        done = subprocess.run(
            [sys.executable, *elastic, str(script), str(tmp_path / "config.yaml"), scenario, str(tmp_path)],
            env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return [json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(config.world_size)]

    return start


def test_documents_are_isolated_under_tensor_and_pipeline_parallelism(start: Start, tmp_path: Path) -> None:
    told = start(
        "isolation",
        {
            "parallel.tp": 2,
            "parallel.pp": 2,
            "training.global_batch_size": 4,
            "training.microbatch_size": 2,
        },
    )
    assert told[:2] == [{}, {}], "only the last stage has logits"
    for rank in told[2:]:
        assert not rank["other_changed"]
        assert rank["itself_changed"]
        assert rank["seen_without_mask"]
        assert rank["place_changes"] < 1e-5
    # What the stages rehearsed before the first step is no label.
    train, *heldout = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert sum(train["tokens_by_modality"].values()) == 4 * 32
    assert [sum(record["val_tokens_by_modality"].values()) for record in heldout] == [4 * 32] * 5


def test_ranks_and_steps_without_labels_have_no_nan(start: Start, tmp_path: Path) -> None:
    told = start(
        "padding",
        {"parallel.dp": 2, "training.global_batch_size": 4, "training.microbatch_size": 1},
    )
    assert [rank["weights_are_numbers"] for rank in told] == [True, True]
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [sum(record["tokens_by_modality"].values()) for record in records] == told[0]["num_valid"]
    for record in records:
        losses, tokens = record["loss_by_modality"], record["tokens_by_modality"]
        assert losses.keys() == tokens.keys()
        assert isinstance(record["max_loss"], float)
        if not losses:
            assert (record["loss"], record["grad_norm"], record["max_loss"]) == (0, 0, 0)
            continue
        mean = sum(losses[name] * tokens[name] for name in losses) / sum(tokens.values())
        assert record["loss"] == pytest.approx(mean, rel=1e-5)
        assert record["loss"] <= record["max_loss"] * (1 + 1e-6)
        assert 0 < record["grad_norm"] < 1e3
    assert [bool(record["loss_by_modality"]) for record in records] == [True, True, False, True]
