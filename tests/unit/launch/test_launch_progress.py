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
