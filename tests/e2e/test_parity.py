"""One seed checkpoint, the same batches: every mesh computes the same thing, in every precision."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from workplace import Workplace, records

pytestmark = pytest.mark.slow

# tp2pp2 is DP 2 x TP 2 x PP 2; where it agrees in another precision, its parts would.
MESHES = {
    "fp32": ("single", "fsdp", "tp2", "tp2pp2"),
    "bf16": ("single", "tp2pp2"),
    "float8_emulated": ("single", "tp2pp2"),
}
# Relative tolerances of loss and gradient norm against one rank of the same precision.
TOLERANCES = {"fp32": (1e-6, 5e-6), "bf16": (3e-4, 1e-3), "float8_emulated": (1e-3, 5e-3)}
NUM_STEPS = 10
# A constant rate, so that the length of a run changes none of its steps.
STEADY = (
    "precision=fp32",
    "optim.lr=3e-3",
    "optim.min_lr=3e-3",
    "optim.warmup_steps=1",
    "training.validation_interval=null",
)
# Two microbatches a step on each rank; under pipeline parallelism there are several in any case.
ACCUMULATED = {"fsdp": ("training.microbatch_size=4",)}
# Four layers of seven linears (fused qkv counts as one of five) and the head, which stays in high precision.
LINEARS = {"single": [(20, 1)], "tp2pp2": [(10, 0), (10, 1)]}


@pytest.fixture(scope="module")
def seed(demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The initial weights, written by one process."""
    place = Workplace(demo_data, tmp_path_factory.mktemp("seed") / "outputs")
    return place.train("training.steps=0") / "checkpoints/step-00000000"


@pytest.fixture(scope="module")
def runs(seed: Path, demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """Run directories by precision and mesh."""
    found = {}
    for precision in TOLERANCES:
        for mesh in MESHES[precision]:
            place = Workplace(demo_data, tmp_path_factory.mktemp(f"{precision}-{mesh}") / "outputs")
            found[precision, mesh] = place.train(
                f"precision={precision}",
                f"parallel={mesh}",
                f"training.steps={NUM_STEPS}",
                f"training.validation_interval={NUM_STEPS}",
                "training.validation_batches=2",
                "optim.warmup_steps=2",
                *ACCUMULATED.get(mesh, ()),
                f"checkpoint.init_from={seed}",
            )
    return found


@pytest.mark.parametrize(
    ("precision", "mesh"), [(precision, mesh) for precision, meshes in MESHES.items() for mesh in meshes[1:]]
)
def test_losses_equal_one_rank(runs: dict[tuple[str, str], Path], precision: str, mesh: str) -> None:
    alone, parallel = records(runs[precision, "single"]), records(runs[precision, mesh])
    loss, grad_norm = TOLERANCES[precision]
    assert list(parallel) == list(alone) == list(range(1, NUM_STEPS + 1))
    for step in alone:
        assert parallel[step]["loss"] == pytest.approx(alone[step]["loss"], rel=loss)
        assert parallel[step]["grad_norm"] == pytest.approx(alone[step]["grad_norm"], rel=grad_norm)
    held_out = [records(runs[precision, name], "validation")[NUM_STEPS]["val_loss"] for name in ("single", mesh)]
    assert held_out[1] == pytest.approx(held_out[0], rel=loss)


@pytest.mark.parametrize(
    ("precision", "mesh"), [(precision, mesh) for precision, meshes in MESHES.items() for mesh in meshes[1:]]
)
def test_losses_by_modality_equal_one_rank_and_add_up(
    runs: dict[tuple[str, str], Path], precision: str, mesh: str
) -> None:
    rel = 10 * TOLERANCES[precision][0]  # a mean of few labels; of all of them, errors cancel out
    for kind, prefix in (("train", ""), ("validation", "val_")):
        loss, by_modality, tokens = f"{prefix}loss", f"{prefix}loss_by_modality", f"{prefix}tokens_by_modality"
        alone, parallel = (records(runs[precision, name], kind) for name in ("single", mesh))
        for step, record in parallel.items():
            assert record[tokens] == alone[step][tokens]
            assert record[by_modality] == pytest.approx(alone[step][by_modality], rel=rel)
            mean = sum(record[by_modality][name] * count for name, count in record[tokens].items())
            assert mean / sum(record[tokens].values()) == pytest.approx(record[loss], rel=1e-5)


def test_training_that_moves_from_mesh_to_mesh_is_the_uninterrupted_one(seed: Path, place: Workplace) -> None:
    """DP 2 x TP 2 x PP 2, then FSDP 2, then one rank, and back, each from the checkpoint of the one before."""
    whole = place.train(*STEADY, f"checkpoint.init_from={seed}", f"training.steps={NUM_STEPS}")
    moved, before = dict[int, Any](), f"checkpoint.init_from={seed}"
    for mesh, workers, steps in (("tp2pp2", 0, 3), ("fsdp", 3, 5), ("single", 1, 7), ("tp2pp2", 2, NUM_STEPS)):
        run = place.train(*STEADY, before, f"parallel={mesh}", f"training.steps={steps}", f"loader.workers={workers}")
        before = f"checkpoint.extend_from={run}/checkpoints/step-{steps:08d}"
        assert not moved.keys() & records(run).keys()
        moved |= records(run)
    loss, grad_norm = TOLERANCES["fp32"]
    expected = records(whole)
    assert list(moved) == list(expected) == list(range(1, NUM_STEPS + 1))
    exact = ("tokens_by_modality", "seen_tokens_by_source", "seen_tokens_by_modality", "epochs_by_source", "data_shard")
    for step, record in moved.items():
        assert record["loss"] == pytest.approx(expected[step]["loss"], rel=loss)
        assert record["grad_norm"] == pytest.approx(expected[step]["grad_norm"], rel=grad_norm)
        assert [record[name] for name in exact] == [expected[step][name] for name in exact]
    stamps = [
        json.loads((folder / f"checkpoints/step-{NUM_STEPS:08d}/stamp.json").read_text()) for folder in (run, whole)
    ]
    assert stamps[0]["stream"] == stamps[1]["stream"]
    assert stamps[0]["tokens"] == stamps[1]["tokens"]


@pytest.mark.parametrize("precision", ["bf16", "float8_emulated"])
def test_precision_really_differs(runs: dict[tuple[str, str], Path], precision: str) -> None:
    reference, other = records(runs["fp32", "single"]), records(runs[precision, "single"])
    assert all(reference[step]["loss"] != other[step]["loss"] for step in reference)


def test_all_meshes_read_the_same_samples(runs: dict[tuple[str, str], Path]) -> None:
    shards = {tuple(record["data_shard"] for record in records(run).values()) for run in runs.values()}
    assert len(shards) == 1


@pytest.mark.parametrize(("mesh", "expected"), LINEARS.items())
def test_float8_layers_are_really_float8(
    runs: dict[tuple[str, str], Path], mesh: str, expected: list[tuple[int, int]]
) -> None:
    found = set()
    for file in runs["float8_emulated", mesh].glob("attempts/0001/events*.jsonl"):
        for event in map(json.loads, file.read_text().splitlines()):
            if event["kind"] == "model":
                types = dict(re.findall(r"'(\w+)': (\d+)", event["message"]))
                found.add((int(types.get("Float8Linear", 0)), int(types.get("Linear", 0))))
    assert found == set(expected)


def test_stamps_name_seed_and_mesh(runs: dict[tuple[str, str], Path], seed: Path) -> None:
    stamp = json.loads((runs["fp32", "tp2pp2"] / f"checkpoints/step-{NUM_STEPS:08d}/stamp.json").read_text())
    assert stamp["parent"]["kind"] == "init_from"
    assert stamp["parent"]["path"] == str(seed)
    assert stamp["mesh"] == {"world_size": 8, "dp_replicate": 1, "dp_shard": 2, "tp": 2, "pp": 2}


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (("model.dim=256", "model.ffn_dim=512"), "model.dim: 128 -> 256"),
        (("tokens.pad_multiple=4096",), "tokens.pad_multiple: 64 -> 4096"),
    ],
)
def test_weights_of_another_shape_are_refused(
    seed: Path, place: Workplace, overrides: tuple[str, ...], named: str
) -> None:
    refused = place.run(f"checkpoint.init_from={seed}", *overrides)
    assert refused.code == 2, refused.text
    assert named in refused.err
    assert list(place.outputs.glob("*/*")) == [], "a refused run leaves nothing behind"
