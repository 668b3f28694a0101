"""Runs from a checkpoint that another run is still to save, and evaluations: stable, decay, held-out loss."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from workplace import Workplace, events, records

pytestmark = pytest.mark.slow

LR = 3e-3
HELDOUT = "training.validation_batches=2"
STABLE = (
    "optim=adamw_wsd",
    f"optim.lr={LR}",
    "optim.min_lr=0.0",
    "optim.warmup_steps=2",
    "checkpoint.interval=10",
    "training.validation_interval=10",
    HELDOUT,
)


def decay(parent: Path) -> tuple[str, ...]:
    """What goes on from the last step of a stable run."""
    start = f"checkpoint.extend_from={parent}/checkpoints/step-00000020"
    return (*STABLE, "optim.decay_fraction=0.334", "training.steps=30", start, "checkpoint.awaits=true")


def evaluation(of: Path) -> tuple[str, ...]:
    """What measures the last step of a decay."""
    start = f"checkpoint.init_from={of}/checkpoints/step-00000030"
    return ("training.steps=0", HELDOUT, start, "checkpoint.awaits=true")


@dataclass(frozen=True)
class Chain:
    """Three runs, each from the last checkpoint of the one before."""

    place: Workplace
    stable: Path
    decay: Path
    evaluation: Path


@pytest.fixture(scope="module")
def chain(demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """Trained once. What a test takes away it puts back."""
    place = Workplace(demo_data, tmp_path_factory.mktemp("chain") / "outputs")
    stable = place.train(*STABLE, "optim.decay_fraction=0.0", "training.steps=20")
    child = place.train(*decay(stable))
    return Chain(place, stable, child, place.train(*evaluation(child)))


def test_the_decay_goes_on_where_the_stable_part_ended(chain: Chain) -> None:
    before, after = records(chain.stable), records(chain.decay)
    assert (list(before), list(after)) == (list(range(1, 21)), list(range(21, 31)))
    assert [record["lr"] for step, record in before.items() if step > 2] == pytest.approx([LR] * 18)
    assert [record["lr"] for record in after.values()] == pytest.approx([LR * left / 10 for left in range(10, 0, -1)])
    assert after[30]["consumed_tokens"] == before[20]["consumed_tokens"] // 20 * 30
    assert records(chain.decay, "validation")[30]["val_loss"] < records(chain.stable, "validation")[20]["val_loss"]


def test_identities_name_the_run_and_the_step_and_stamps_the_lineage(chain: Chain) -> None:
    found = [yaml.safe_load((run / "identity.yaml").read_text())["identity"] for run in (chain.decay, chain.evaluation)]
    assert (found[0]["init_from"], found[0]["extends"]) == (None, {"run": chain.stable.name, "step": 20})
    assert found[1]["init_from"] == {"run": chain.decay.name, "step": 30}
    stamp = json.loads((chain.decay / "checkpoints/step-00000030/stamp.json").read_text())
    assert [(one["kind"], one["run_id"], one["step"]) for one in stamp["lineage"]] == [
        ("extend", chain.stable.name, 20)
    ]


def test_an_evaluation_measures_what_the_run_itself_did(chain: Chain) -> None:
    itself, measured = records(chain.decay, "validation")[30], records(chain.evaluation, "validation")[0]
    for key in ("val_loss", "val_loss_by_modality", "val_tokens_by_modality"):
        assert measured[key] == pytest.approx(itself[key], rel=1e-7)


def test_an_evaluation_trains_and_saves_nothing(chain: Chain) -> None:
    assert records(chain.evaluation) == {}
    assert list((chain.evaluation / "checkpoints").iterdir()) == []
    assert json.loads((chain.evaluation / "attempts/0001/status.json").read_text())["state"] == "done"
    weights = f"starting from the weights of {chain.decay}/checkpoints/step-00000030"
    assert weights in [event["message"] for event in events(chain.evaluation) if event["kind"] == "init_from"]


@pytest.mark.parametrize("by", ["the same command", "resume"])
def test_a_complete_one_is_not_run_again(chain: Chain, by: str) -> None:
    for run, typed in {chain.decay: decay(chain.stable), chain.evaluation: evaluation(chain.decay)}.items():
        done = chain.place.run(*(typed if by == "the same command" else (f"resume={run}",)))
        assert done.code == 0, done.text
        assert f"run {run.name}: already complete" in done.out
        assert [path.name for path in (run / "attempts").iterdir()] == ["0001"]
    assert "held-out loss" in done.out
    assert "what made the weights" in done.out
    assert "what made the checkpoint" not in done.out


def test_every_mesh_that_trains_evaluates(chain: Chain) -> None:
    run = chain.place.train(*evaluation(chain.decay), "parallel=tp2pp2", "tag=mesh")
    alone, meshed = records(chain.evaluation, "validation")[0], records(run, "validation")[0]
    assert meshed["val_tokens_by_modality"] == alone["val_tokens_by_modality"]
    assert meshed["val_loss"] == pytest.approx(alone["val_loss"], rel=1e-5)


def test_a_start_without_the_checkpoint_ends_with_1_and_the_same_command_runs_it_later(
    chain: Chain, tmp_path: Path
) -> None:
    typed = (*evaluation(chain.decay), "tag=early")
    saved, aside = chain.decay / "checkpoints/step-00000030", tmp_path / "aside"
    shutil.move(saved, aside)
    early = chain.place.run(*typed)
    shutil.move(aside, saved)
    assert early.code == 1, early.text
    assert f"starts from step-00000030 of {chain.decay}, which is not there: it has saved none. See how" in early.err
    assert "Traceback" not in early.text
    run = chain.place.newest_run()
    assert chain.place.train(*typed) == run
    assert [path.name for path in sorted((run / "attempts").iterdir())] == ["0001", "0002"]
    assert records(run, "validation").keys() == {0}


def test_what_will_not_fit_is_refused_before_anything_starts(chain: Chain) -> None:
    before = sorted(chain.place.outputs.glob("*/*"))
    start = f"checkpoint.extend_from={chain.stable}/checkpoints/step-000000"
    for typed, text in {
        (*STABLE, "training.steps=30", f"{start}15", "checkpoint.awaits=true"): "does not have step 15 at its end",
        (*decay(chain.stable), "model.ffn_dim=512"): "model.ffn_dim: 384 -> 512",
        (*decay(chain.stable), "seed.data=7"): "seed.data: 42 there, 7 here",
        (*STABLE, "training.steps=30", "checkpoint.awaits=true"): "nothing says which checkpoint the run awaits",
        (*STABLE, "training.steps=0", f"{start}20"): "type checkpoint.init_from=",
    }.items():
        refused = chain.place.run(*typed)
        assert refused.code == 2, refused.text
        assert text in refused.err
        assert "Traceback" not in refused.text
    assert sorted(chain.place.outputs.glob("*/*")) == before
