"""Going on with runs: extended beyond their last step, resumed as they were frozen, and started twice at once."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
import yaml
from workplace import Workplace, events, records

from mmhydra.checkpoint.stamp import Stamp, read_stamp
from mmhydra.checkpoint.verify import faults

pytestmark = pytest.mark.slow

# A constant rate, so that the length of a run changes none of its steps; a tracker whose folder is a secret.
STEADY = ("optim.lr=3e-3", "optim.min_lr=3e-3", "optim.warmup_steps=1", "training.validation_interval=null")
BOARD = ("track=tensorboard", "track.tensorboard.logdir='${secret:LAB_BOARD}'")
DEADLINE_S = 240


@dataclass(frozen=True)
class Family:
    """One run of 8 steps, and the same in three parts: 4 steps, 2 more, 2 more."""

    place: Workplace
    board: Path
    whole: Path
    parent: Path
    child: Path
    grandchild: Path


@pytest.fixture(scope="module")
def family(demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> "Family":
    """Trained once. Copy a run before you change it."""
    root = tmp_path_factory.mktemp("family")
    place, board = Workplace(demo_data, root / "outputs"), root / uuid4().hex
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_BOARD", str(board))
        whole = place.train(*STEADY, "training.steps=8")
        parent = place.train(*STEADY, *BOARD, "training.steps=4", "checkpoint.interval=3")
        child = place.train(f"extend={parent}", "training.steps=6", "checkpoint.interval=1")
        grandchild = place.train(f"extend={child}", "training.steps=8")
        return Family(place, board, whole, parent, child, grandchild)


def last_stamp(run: Path) -> Stamp:
    return read_stamp(max(run.glob("checkpoints/step-*")))


def test_an_extended_run_is_the_longer_run_bit_for_bit(family: Family) -> None:
    whole = records(family.whole)
    parts = {family.parent: range(1, 5), family.child: range(5, 7), family.grandchild: range(7, 9)}
    for run, steps in parts.items():
        part = records(run)
        assert list(part) == list(steps)
        for step, record in part.items():
            for key in ("loss", "grad_norm", "lr", "data_shard"):
                assert record[key] == whole[step][key], (run, step, key)
    stamps = [last_stamp(run) for run in (family.whole, family.grandchild)]
    assert stamps[0].stream == stamps[1].stream
    assert stamps[0].tokens == stamps[1].tokens
    assert stamps[1].stream.sample == 8 * 16


def test_the_child_says_where_it_comes_from(family: Family) -> None:
    assert len({family.whole.name, family.parent.name, family.child.name, family.grandchild.name}) == 4
    parent, child = last_stamp(family.parent), last_stamp(family.child)
    assert (parent.parent, parent.lineage) == (None, [])
    assert child.parent is not None
    assert child.parent.kind == "extend"
    assert (child.parent.path, child.parent.step) == (str(family.parent / "checkpoints/step-00000004"), 4)
    assert child.parent.git_commit == parent.git["commit"]
    assert [ancestor.run_id for ancestor in child.lineage] == [family.parent.name]
    identity = yaml.safe_load((family.child / "identity.yaml").read_text())
    assert identity["identity"]["extends"] == child.parent.stamp_sha256
    assert identity["identity"]["config"]["training"]["steps"] == 6
    assert "extends" not in yaml.safe_load((family.parent / "identity.yaml").read_text())["identity"]
    assert "extend" in [event["kind"] for event in events(family.child)]


def test_an_extension_of_an_extension_names_both(family: Family) -> None:
    stamp = last_stamp(family.grandchild)
    assert [(one.kind, one.run_id, one.step) for one in stamp.lineage] == [
        ("extend", family.parent.name, 4),
        ("extend", family.child.name, 6),
    ]
    for run in (family.parent, family.child, family.grandchild):
        assert faults(max(run.glob("checkpoints/step-*"))) == []


def test_the_same_command_again_says_complete(family: Family) -> None:
    for command, run in {
        (f"extend={family.parent}", "training.steps=6"): family.child,
        (f"extend={family.parent / 'checkpoints/step-00000004'}", "training.steps=6"): family.child,
        (f"resume={family.child}",): family.child,
        (f"resume={family.parent / 'attempts/0001'}",): family.parent,
    }.items():
        done = family.place.run(*command)
        assert done.code == 0, done.text
        assert f"run {run.name}: already complete" in done.out
        assert [path.name for path in (run / "attempts").iterdir()] == ["0001"]


def test_what_can_not_be_extended_ends_with_2_and_leaves_nothing(family: Family) -> None:
    before = sorted(family.place.outputs.glob("*/*"))
    for overrides, text in {
        ("training.steps=4",): "has 4 steps already, training.steps=4 adds none; type training.steps=8",
        ("training.steps=8", "model.ffn_dim=512"): "model.ffn_dim: 384 -> 512",
        ("training.steps=8", "training.seq_len=96"): "type checkpoint.init_from=",
    }.items():
        refused = family.place.run(f"extend={family.parent}", *overrides)
        assert refused.code == 2, refused.text
        assert text in refused.err
        assert "Traceback" not in refused.text
    assert sorted(family.place.outputs.glob("*/*")) == before


def test_a_value_that_is_secret_is_nowhere_below_the_outputs(family: Family) -> None:
    assert list(family.board.rglob("*tfevents*")), "the job did not read the variable"
    config = (family.child / "attempts/0001/config.yaml").read_text()
    assert "logdir: secret:LAB_BOARD\n" in config
    for path in family.place.outputs.rglob("*"):
        assert family.board.name not in path.name
        assert not path.is_file() or family.board.name.encode() not in path.read_bytes(), path


def test_a_job_without_its_secret_ends_with_2_and_says_what_to_type(family: Family, tmp_path: Path) -> None:
    place = Workplace(family.place.data, tmp_path / "outputs")
    refused = place.run(*STEADY, *BOARD, "training.steps=1", "checkpoint=none")
    assert refused.code == 2, refused.text
    assert "$LAB_BOARD is not set, and the config takes a secret from it; type export LAB_BOARD=..." in refused.err
    assert "Traceback" not in refused.err


def test_resume_goes_on_with_the_frozen_config_whatever_else_says(
    family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An extension that was moved, its parent gone, in an environment and beside groups that say otherwise."""
    place = Workplace(family.place.data, tmp_path / "other")
    run = Path(shutil.copytree(family.child, tmp_path / "moved" / family.child.name))
    shutil.rmtree(run / "checkpoints/step-00000006")
    (tmp_path / "lab" / "lab").mkdir(parents=True)
    (tmp_path / "lab" / "lab" / "x.yaml").write_text("# @package _global_\noptim: {lr: 9.0}\n")
    monkeypatch.setenv("MMHYDRA_CLUSTER", "h100_256")
    monkeypatch.setenv("LAB_BOARD", str(tmp_path / "board"))
    hidden = family.parent.rename(tmp_path / "hidden")
    done = place.run("--config-dir", str(tmp_path / "lab"), f"resume={run / 'attempts/0001'}")
    hidden.rename(family.parent)
    assert done.code == 0, done.text
    assert "attempt 2: there are checkpoints up to step 5" in done.out
    assert not place.outputs.exists()
    frozen = [(run / f"attempts/{number}/config.yaml").read_bytes() for number in ("0001", "0002")]
    assert frozen[0] == frozen[1]
    before, after = records(run, attempt="0001"), records(run, attempt="0002")
    assert list(after) == [6]
    assert (after[6]["loss"], after[6]["grad_norm"]) == (before[6]["loss"], before[6]["grad_norm"])
    stamp = last_stamp(run)
    assert stamp.parent is not None
    assert (stamp.attempt, stamp.step, stamp.parent.kind, stamp.parent.step) == (2, 6, "resume", 5)
    assert [ancestor.run_id for ancestor in stamp.lineage] == [family.parent.name]


@pytest.mark.parametrize("turn", [1, 2])
def test_two_starts_at_the_same_instant_train_once(place: Workplace, turn: int) -> None:
    line = place.command(*STEADY, "training.steps=2", f"tag=race-{turn}")
    racers = [
        subprocess.Popen(line, env=place.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    ended = [(racer, *racer.communicate(timeout=DEADLINE_S)) for racer in racers]
    (run,) = place.outputs.glob("debug/*")
    trained = [(racer, out) for racer, out, _ in ended if f"run {run.name}: done" in out]
    others = [(racer, out, err) for racer, out, err in ended if f"run {run.name}: done" not in out]
    assert len(trained) == len(others) == 1, ended
    assert trained[0][0].returncode == 0
    for racer, out, err in others:
        if racer.returncode == 0:  # it came when the other one was done
            assert "already complete" in out
        else:
            assert racer.returncode == 2, out + err
            assert f"is under way, started by process {trained[0][0].pid} on " in err
            assert "Traceback" not in err
    assert [path.name for path in (run / "attempts").iterdir()] == ["0001"]
    lines = (run / "attempts/0001/metrics.jsonl").read_text().splitlines()
    steps = [record["step"] for record in map(json.loads, lines) if record["kind"] == "train"]
    assert steps == [1, 2]
    assert json.loads((run / "lease.json").read_text())["released"] is True
