"""`trace --show`: a sample as text and files, no more than its sequence holds."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile
from fake_run import FakeRun
from PIL import Image

STEPS = 40  # as in conftest.py


@pytest.fixture
def first_seen(trace_json: Any) -> Callable[..., tuple[int, dict[str, Any], dict[str, Any]]]:
    """The step, the sample and the piece by which a run first sees a record, from an offset above 0 if asked."""

    def first_seen(run: FakeRun, name: str, *, later: bool = False) -> tuple[int, dict[str, Any], dict[str, Any]]:
        _, *visits = trace_json(run, "--find", name)
        visit = next(visit for visit in visits if bool(visit["offset"]) == later)
        sample = trace_json(run, "--step", visit["step"])[1 + visit["number"]]
        piece = next(piece for piece in sample["pieces"] if piece["position"] == visit["position"])
        assert piece["unique_id"] == name
        return visit["step"], sample, piece

    return first_seen


@pytest.fixture
def show(trace: Any, tmp_path: Path) -> Callable[..., str]:
    """What `--show` prints; files go to tmp_path/out."""

    def show(run: FakeRun, step: int, sample: dict[str, Any]) -> str:
        code, out, err = trace(run, "--step", step, "--show", sample["number"], "--out", tmp_path / "out")
        assert code == 0, err
        return out

    return show


def section_of(out: str, sample: dict[str, Any], piece: dict[str, Any]) -> str:
    """What was printed of one piece."""
    return re.split(r"^piece \d+: ", out, flags=re.MULTILINE)[1 + sample["pieces"].index(piece)]


def test_text_is_shown_as_it_is_with_its_end(make_run, first_seen, show, texts, tmp_path):
    run = make_run()
    step, sample, piece = first_seen(run, "text-7")
    out = show(run, step, sample)
    told = section_of(out, sample, piece)
    assert told.startswith(f"positions {piece['position']}-")
    assert f", text-7, {piece['shard']} {piece['key']}, whole\n" in told
    assert f"{texts['text-7']}<|endoftext|>\n" in told
    assert not (tmp_path / "out").exists()


def test_a_text_that_is_cut_is_shown_up_to_the_cut(make_run, first_seen, show, texts):
    run = make_run()
    step, sample, piece = first_seen(run, "text-13")
    told = section_of(show(run, step, sample), sample, piece)
    assert f"cut: tokens 0-{piece['length'] - 1} of {piece['num_ids']}" in told
    assert "<|endoftext|>" not in told
    begin = told.split("decoded text:\n")[1].rstrip("\n")
    assert texts["text-13"].startswith(begin)
    assert 50 < len(begin) < len(texts["text-13"])
    step, sample, piece = first_seen(run, "text-13", later=True)
    rest = section_of(show(run, step, sample), sample, piece).split("decoded text:\n")[1].rstrip("\n")
    assert texts["text-13"][len(begin) :].startswith(rest.removesuffix("<|endoftext|>"))


def test_media_become_files(make_run, first_seen, show, tmp_path):
    run = make_run()
    step, sample, piece = first_seen(run, "picture-3")
    out = show(run, step, sample)
    assert re.search(r"image 64 ids -> \S+-00-image.png \(untrained: plumbing only\)", out)
    picture = next((tmp_path / "out").glob(f"sample-{sample['n']}-*-{piece['key']}-00-image.png"))
    with Image.open(picture) as image:
        assert image.size == (64, 64)
    assert "<|image_start|><image 64 ids><|image_end|>picture 3<|endoftext|>" in out
    step, sample, piece = first_seen(run, "clip-4")
    out = show(run, step, sample)
    clip = next((tmp_path / "out").glob(f"sample-{sample['n']}-*-{piece['key']}-00-video.gif"))
    held = int(re.search(r"<video (\d+) ids>", section_of(out, sample, piece))[1])
    with Image.open(clip) as moving:
        assert moving.n_frames == held // 16 * 2


def test_of_a_sound_that_is_cut_only_what_the_sequence_holds_is_written(make_run, first_seen, show, tmp_path):
    run = make_run()
    step, sample, piece = first_seen(run, "sound-7", later=True)
    assert piece["opener"] is not None
    out = section_of(show(run, step, sample), sample, piece)
    assert "begins with the repeated token that opens its signal" in out
    assert "<|audio_start|><audio " in out
    held = int(re.search(r"<audio (\d+) ids>", out)[1])
    assert 0 < held < 150
    path = next((tmp_path / "out").glob(f"sample-{sample['n']}-*-{piece['key']}-00-audio.wav"))
    samples, rate_hz = soundfile.read(path)
    assert len(samples) / rate_hz == pytest.approx(held / 50, abs=0.05)
