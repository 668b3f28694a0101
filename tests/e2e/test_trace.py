"""From a spike of the loss to the document that made it, and back; figures of real runs against those of trace."""

import json
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
from dataset_builds import RECIPE, text_record, write_jsonl
from workplace import Workplace, records

pytestmark = pytest.mark.slow

PLANTED = "page-garbage"
LEARNT = 25  # steps, of 54; an epoch has 17 or 18, so the record is seen at least once after them
DATA = """\
# @package _global_
defaults:
  - override /tokens: demo
  - _self_
data:
  name: planted
  sources:
    - {name: web, dataset: tiny, modality: text, weight: 1.0}
  planned_tokens: null
  max_epochs: null
  schedule: []
  shuffle: true
  window_chunks: 8
  builder: null
"""
RUN = (
    *("training.steps=54", "training.global_batch_size=4", "training.seq_len=128", "optim.warmup_steps=10"),
    *(
        "optim.lr=3e-3",
        "checkpoint=none",
        "training.validation_interval=54",
        "training.validation_batches=1",
        "track.log_interval=1",
    ),
)


def garbage() -> str:
    """90 characters that nothing foretells."""
    draw = np.random.default_rng(0)
    return "".join(map(chr, draw.integers(33, 127, 90)))


def clean(number: int) -> str:
    """A text that a small model soon knows by heart."""
    who = ("baker", "teacher", "farmer", "painter")[number % 4]
    where = ("river", "garden", "harbour", "forest")[number // 4 % 4]
    return f"In the morning the {who} walks to the {where}, and in the evening the {who} walks home again. " * 4


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workplace, Path]:
    """A run that was trained on clean texts and one that is garbage."""
    root = tmp_path_factory.mktemp("planted")
    texts = [text_record(f"page-{number}", clean(number)) for number in range(70)]
    texts.insert(35, text_record(PLANTED, garbage()))
    write_jsonl(root / "records" / "web-0.jsonl", texts)
    write_jsonl(root / "records" / "notes.jsonl", [text_record(f"note-{n}", clean(n)) for n in range(20)])
    for group, name, text in (("dataset", "tiny", RECIPE), ("data", "planted", DATA)):
        (root / "groups" / group).mkdir(parents=True)
        (root / "groups" / group / f"{name}.yaml").write_text(text)
    place = Workplace(root / "data", root / "outputs")
    groups = ("--config-dir", str(root / "groups"))
    built = place.run(
        *("build", *groups, "dataset=tiny", f"dataset.records_dir={root / 'records'}", "dataset.heldout_fraction=0.02"),
        *("dataset.filters=[{kind: license, allow: [CC0-1.0]}]", "dataset.seq_lens=[128]"),
        module="mmhydra.data",
    )
    assert built.code == 0, built.text
    return place, place.train(*groups, "data=planted", *RUN)


def trace(place: Workplace, run: Path, *arguments: Any) -> list[dict[str, Any]]:
    finished = place.run(str(run), *map(str, arguments), "--json", module="mmhydra.trace")
    assert finished.code == 0, finished.text
    return [json.loads(line) for line in finished.out.splitlines()]


def spikes(run: Path) -> list[int]:
    """Steps, once the model has learnt, whose loss is far above that of the steps around them."""
    losses = {step: record["loss"] for step, record in records(run).items()}
    return [
        step
        for step in range(LEARNT, len(losses) + 1)
        if losses[step] > 0.5 + median(losses[near] for near in range(step - 5, step + 6) if near in losses)
    ]


def test_a_spike_of_the_loss_leads_to_the_planted_record_and_back(
    planted: tuple[Workplace, Path], tmp_path: Path
) -> None:
    place, run = planted
    found = spikes(run)
    assert found, {step: record["loss"] for step, record in records(run).items()}
    for step in found:
        _, *samples = trace(place, run, "--step", step)
        names = {piece["unique_id"]: sample for sample in samples for piece in sample["pieces"]}
        assert PLANTED in names
        shown = place.run(
            *(str(run), "--step", str(step), "--show", str(names[PLANTED]["number"]), "--out", str(tmp_path)),
            module="mmhydra.trace",
        )
        assert f"{garbage()}<|endoftext|>" in shown.out, shown.text
    _, *visits = trace(place, run, "--find", PLANTED)
    assert [visit["step"] for visit in visits if visit["step"] >= LEARNT] == found
    assert {visit["state"] for visit in visits} == {"seen"}


@pytest.mark.parametrize("step", [1, 37, 54])
def test_metrics_and_trace_count_the_same(step: int, planted: tuple[Workplace, Path]) -> None:
    place, run = planted
    head, *_ = trace(place, run, "--step", step)
    logged = records(run)[step]
    assert head["metrics"]["differing"] == {}
    assert {"seen_tokens_by_source", "seen_tokens_by_modality", "tokens_by_modality"} <= {*head["metrics"]["same"]}
    assert logged["seen_tokens_by_source"] == {"web": sum(head["seen"]["tokens"]["web"].values())}
    # Of the step itself: a piece that is not cut before has no label for its first id but for what comes before it.
    own = sum(head["tokens"]["tokens"]["web"].values())
    before = records(run)[step - 1]["seen_tokens_by_source"]["web"] if step > 1 else 0
    assert own == logged["seen_tokens_by_source"]["web"] - before
    assert sum(logged["tokens_by_modality"].values()) == own


def test_a_run_of_all_modalities_is_traced_to_its_stamp(short_place: Workplace, tmp_path: Path) -> None:
    run = short_place.newest_run()
    head, *samples = trace(short_place, run, "--step", 20)
    assert head["metrics"]["differing"] == {}
    stamp = json.loads((run / "checkpoints/step-00000020/stamp.json").read_text())
    seen = {name: sum(counts.values()) for name, counts in head["seen"]["tokens"].items()}
    assert stamp["tokens"]["by_source"] == seen
    assert stamp["tokens"]["padding"] == head["seen"]["padding"]
    assert stamp["stream"]["sample"] == head["seen"]["num_samples"] == 20 * 16
    # One rank of two gets the half of the step.
    assert trace(short_place, run, "--step", 20, "--dp", 2, "--rank", 1)[1:] == [
        {**sample, "rank": 1} for sample in samples[8:]
    ]
    pictures = next(sample for sample in samples if sample["source"] in ("pictures", "illustrated"))
    shown = short_place.run(
        *(str(run), "--step", "20", "--show", str(pictures["number"]), "--out", str(tmp_path / "shown")),
        module="mmhydra.trace",
    )
    assert shown.code == 0, shown.text
    assert list((tmp_path / "shown").glob("*.png"))
