"""The bar follows metrics.jsonl while it is written."""

import io
import json

import pytest
from rich.console import Console

from mmhydra.launch.progress import Progress, show_end


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=120)


def train(step: int) -> bytes:
    return json.dumps({"kind": "train", "step": step, "loss": 8.0 - step, "throughput_tps": 1234.5}).encode() + b"\n"


def validation(step: int) -> bytes:
    return json.dumps({"kind": "validation", "step": step, "val_loss": 5.25}).encode() + b"\n"


def test_nothing_is_shown_before_the_file_is_there(console, tmp_path):
    progress = Progress(console, 10)
    progress.follow(tmp_path / "metrics.jsonl")
    assert (progress.last, console.file.getvalue()) == ({}, "")


def test_each_line_is_read_once_and_a_torn_one_when_it_is_whole(console, tmp_path):
    metrics = tmp_path / "metrics.jsonl"
    progress = Progress(console, 10)
    second = train(2)
    metrics.write_bytes(train(1) + second[:7])
    progress.follow(metrics)
    assert progress.last["step"] == 1
    progress.follow(metrics)
    with open(metrics, "ab") as file:
        file.write(second[7:-1])
    progress.follow(metrics)
    assert progress.last["step"] == 1
    with open(metrics, "ab") as file:
        file.write(second[-1:] + validation(2) + train(3))
    progress.follow(metrics)
    assert progress.last["step"] == 3
    assert progress.validation["val_loss"] == 5.25
    assert console.file.getvalue().splitlines() == [
        "step 1/10  loss 7.000  1,234 tokens/s",
        "step 2/10  loss 6.000  1,234 tokens/s",
        "step 2: held-out loss 5.2500 nats a token",
        "step 3/10  loss 5.000  1,234 tokens/s",
    ]


LOSSES = {"text": 3.912, "special": 1.2, "image": 5.1, "audio": 5.25, "video": 6.0}


def by_modality(tmp_path):
    """One step and its validation, of all modalities."""
    record = json.loads(train(1)) | {"loss_by_modality": LOSSES}
    heldout = json.loads(validation(1)) | {"val_loss_by_modality": LOSSES}
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text(f"{json.dumps(record)}\n{json.dumps(heldout)}\n")
    return metrics


def test_a_line_has_the_loss_of_each_modality_and_is_not_broken(tmp_path):
    console = Console(file=io.StringIO(), width=80)
    Progress(console, 10).follow(by_modality(tmp_path))
    assert console.file.getvalue().splitlines() == [
        "step 1/10  loss 7.000 (text 3.9 special 1.2 image 5.1 audio 5.2 video 6.0)  1,234 tokens/s",
        "step 1: held-out loss 5.2500 nats a token (text 3.91 special 1.20 image 5.10 audio 5.25 video 6.00)",
    ]


def test_on_a_terminal_the_modalities_are_below_the_bar(tmp_path):
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    with Progress(console, 10) as progress:
        progress.follow(by_modality(tmp_path))
    shown = console.file.getvalue().splitlines()
    below = shown.index("text 3.912 special 1.200 image 5.100 audio 5.250 video 6.000")
    assert "loss 7.000" in shown[below - 1]


@pytest.mark.parametrize(("num_steps", "most"), [(1, 1), (19, 19), (20, 20), (1000, 20), (1019, 21)])
def test_where_there_is_no_terminal_a_run_prints_about_twenty_lines(console, tmp_path, num_steps, most):
    (tmp_path / "metrics.jsonl").write_bytes(b"".join(train(step) for step in range(1, num_steps + 1)))
    Progress(console, num_steps).follow(tmp_path / "metrics.jsonl")
    lines = console.file.getvalue().splitlines()
    assert min(num_steps, 10) <= len(lines) <= most


def test_the_panel_says_where_and_what_next_and_takes_no_markup(console):
    show_end(console, "run 01: done", {"metrics": "a[bold]b"}, {"again": "python -m mmhydra.train tag=[x]"})
    text = console.file.getvalue()
    assert "a[bold]b" in text
    assert "python -m mmhydra.train tag=[x]" in text


def test_broken_lines_and_numbers_that_are_none_end_nothing(console, tmp_path):
    """What a full disk leaves behind, and a loss that is no number, are no reason to end a run by watching it."""
    torn = train(1)[:9] + b"\n"
    nan = json.dumps({"kind": "validation", "step": 2, "val_loss": "NaN"}).encode() + b"\n"
    (tmp_path / "metrics.jsonl").write_bytes(torn + nan + train(3))
    progress = Progress(console, 10)
    progress.follow(tmp_path / "metrics.jsonl")
    assert progress.last["step"] == 3
    assert "held-out loss nan" in console.file.getvalue()
