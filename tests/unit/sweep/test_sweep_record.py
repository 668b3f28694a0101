"""The record of a sweep: what is written is read, and what is none is refused."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from mmhydra.sweep.record import Record, RecordedParent, RecordedPoint, RecordError, sweep_directory

PARENT = RecordedPoint(
    number=1,
    name="debug",
    run_id="0123456789ab",
    config_sha256="ab" * 32,
    overrides=("model=debug", "optim.lr=1e-3"),
    label={"optim.lr": "1e-3"},
    cluster="slurm_dev",
    num_steps=20,
    gpu_hours=0.5,
    stage="stable",
)
CHILD = replace(
    PARENT,
    number=2,
    run_id="ba9876543210",
    stage="decay",
    parent=RecordedParent("debug", PARENT.run_id, 20, "extend"),
    num_best=1,
    gpu_hours=None,
)
RECORD = Record(
    name="decays",
    study="decays",
    question="does it decay?",
    stop_rule="when it does",
    metric="val_loss",
    direction="minimize",
    command=("-m", "sweep=decays"),
    created="2026-11-26T00:00:00+00:00",
    updated="2026-11-26T00:00:00+00:00",
    points=(PARENT, CHILD),
    code={"commit": "0" * 40},
    study_file="/lab/sweeps/decays.yaml",
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    sweep = sweep_directory(tmp_path, "decays")
    sweep.write(RECORD)
    assert sweep.read() == RECORD
    assert sweep.outputs == tmp_path
    assert sweep.run(CHILD).path == tmp_path / "debug" / CHILD.run_id


def test_arrays_are_numbered_beyond_nine_thousand(tmp_path: Path) -> None:
    sweep = sweep_directory(tmp_path, "decays")
    assert sweep.arrays == []
    for number in (1, 2, 9999):
        (sweep.path / "arrays" / f"{number:04d}").mkdir(parents=True)
    (sweep.path / "arrays" / "notes").mkdir()
    assert sweep.new_array().name == "10000"
    assert [folder.name for folder in sweep.arrays] == ["0001", "0002", "9999", "10000"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"schema_version": 99}, "version 99"),
        ({"points": [{"number": 1, "colour": "red"}]}, "colour"),
        ({"points": "all"}, "can't be read"),
        ({"flavour": 1}, "flavour"),
        ({"points": [{"number": 1}]}, r"points\.0\.name: Field required"),
        ({"direction": "sideways"}, "direction: Input should be 'minimize' or 'maximize'"),
        ({"points": [json.loads(json.dumps(asdict(PARENT))) | {"num_steps": "x"}]}, r"points\.0\.num_steps: "),
        ({"points": [json.loads(json.dumps(asdict(PARENT))) | {"label": None}]}, r"points\.0\.label: "),
    ],
)
def test_what_is_none_is_refused(tmp_path: Path, change: dict, told: str) -> None:
    sweep = sweep_directory(tmp_path, "decays")
    sweep.write(RECORD)
    sweep.record.write_text(json.dumps(json.loads(sweep.record.read_text()) | change))
    with pytest.raises(RecordError, match=rf"{told}.*; read it with the mmhydra that wrote it, or move the file away"):
        sweep.read()


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_a_broken_file_is_refused(tmp_path: Path, text: str) -> None:
    sweep = sweep_directory(tmp_path, "decays")
    sweep.path.mkdir(parents=True)
    sweep.record.write_text(text)
    with pytest.raises(RecordError, match=r"sweep\.json"):
        sweep.read()
    with pytest.raises(RecordError, match=r"nothing is no sweep: it has no sweep\.json; type the command"):
        sweep_directory(tmp_path, "nothing").read()
