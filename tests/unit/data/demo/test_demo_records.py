"""The demo's records say exactly what is in their media, and are the same each time."""

import hashlib
import itertools
import json
import re
import wave
from collections import Counter
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mmhydra.config.forms import CAMERA_PARTS
from mmhydra.data.demo.drawing import COLORS, PLACES, RADII
from mmhydra.data.demo.records import DemoSettings, write_records
from mmhydra.data.records.record import Record

SETTINGS = DemoSettings(corpus_mb=0.3, media=96)
SYNTHETIC = ("pictures", "sounds", "clips", "interleaved", "cameras")
# Of the JSON of all synthesized records; a change of it is a change of the demo's recipe.
SYNTHETIC_SHA256 = "0180d22f05e2801130ba2dc470bd8466dac9b662bd7ae320735336c0e4f1489d"


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    write_records(folder, SETTINGS, lambda line: None)
    return folder


def lines(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def frames(path: Path) -> tuple[NDArray[np.uint8], float]:
    """All frames and their rate."""
    with av.open(str(path)) as container:
        rate = container.streams.video[0].average_rate
        assert rate is not None
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)]), float(rate)


def sound(path: Path) -> tuple[NDArray[np.float64], int]:
    """Samples [n, channels] and their rate."""
    with wave.open(str(path)) as file:
        data = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
        return data.reshape(-1, file.getnchannels()) / 32768, file.getframerate()


def all_bytes(folder: Path) -> dict[str, str]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def is_color(pixel: NDArray[np.uint8], color: str, tolerance: int = 8) -> bool:
    return bool(np.abs(pixel.astype(int) - COLORS[color]).max() <= tolerance)


def test_every_record_is_valid_and_its_files_are_there(demo):
    counts, ids = {}, []
    for name in ("text_code", "text_docs", *SYNTHETIC):
        records = [Record.model_validate(line) for line in lines(demo, name)]
        counts[name] = len(records)
        ids += [record.unique_id for record in records]
        assert len({record.source for record in records}) == 1
        for record in records:
            assert record.metadata.license == ("PSF-2.0" if name.startswith("text") else "CC0-1.0")
            assert record.text
            for key in ("image", "audio", "video", *CAMERA_PARTS, "captions"):
                assert all((demo / path).stat().st_size > 0 for path in record.data_paths.get(key))
    assert {name: counts[name] for name in SYNTHETIC} == {
        "pictures": 96, "sounds": 48, "clips": 24, "interleaved": 24, "cameras": 6
    }  # fmt: skip
    assert counts["text_code"] >= counts["text_docs"] > 5
    assert len(set(ids)) == len(ids)
    named = {path for path in all_bytes(demo) if not path.endswith((".jsonl", ".vtt"))}
    assert 200 <= len(named) <= 400


def test_the_same_bytes_each_time_and_the_same_json_everywhere(demo, tmp_path):
    write_records(tmp_path / "new" / "folder", SETTINGS, lambda line: None)
    assert all_bytes(tmp_path / "new" / "folder") == all_bytes(demo)
    synthetic = b"".join((demo / f"{name}.jsonl").read_bytes() for name in SYNTHETIC)
    assert hashlib.sha256(synthetic).hexdigest() == SYNTHETIC_SHA256


def test_more_media_leave_the_first_ones_as_they_are(demo, tmp_path):
    write_records(tmp_path, DemoSettings(corpus_mb=0.1, media=8), lambda line: None)
    assert lines(tmp_path, "pictures") == lines(demo, "pictures")[:8]
    assert len(lines(tmp_path, "cameras")) == 2, "there are always some"
    few, many = all_bytes(tmp_path), all_bytes(demo)
    assert all(many[path] == digest for path, digest in few.items() if not path.endswith(".jsonl"))


def test_code_and_docstrings_of_a_module_are_one_split_group(demo):
    code = {line["metadata"]["split_group"] for line in lines(demo, "text_code")}
    docs = {line["metadata"]["split_group"] for line in lines(demo, "text_docs")}
    assert docs <= code


def test_english_captions_name_what_the_pixels_show(demo):
    kinds = "circle|square|triangle|star|cross|diamond|hexagon"  # a ring has the background in its middle
    phrase = re.compile(
        rf"a (small|large) (\w+) ({kinds}) (in|at|on) the ([\w ]+?)(?: corner)?(?=[,.]| and\b)", re.IGNORECASE
    )
    checked = 0
    for line in lines(demo, "pictures"):
        if line["metadata"]["language"] != "en":
            continue
        pixels = np.asarray(Image.open(demo / line["data_paths"]["image"]))
        assert pixels.shape == (96, 96, 3)
        background = re.search(r"(\w+) background", line["text"])
        assert background
        if "striped" not in line["text"] and "checkered" not in line["text"]:
            assert is_color(pixels[0, 0], background[1])
        for size, color, _, _, place in phrase.findall(line["text"]):
            x, y = (round(96 * part) for part in PLACES[place])
            assert is_color(pixels[y, x], color), line["text"]
            outside = round(96 * RADII["large"]) if size == "small" else None
            if outside and "striped" not in line["text"] and "checkered" not in line["text"]:
                assert not is_color(pixels[y, min(95, x + outside)], color), "a small shape ends before a large one"
            checked += 1
    assert checked > 50


def test_languages_duplicates_contacts_and_rudeness_are_planted(demo):
    pictures = lines(demo, "pictures")
    languages = Counter(line["metadata"]["language"] for line in pictures)
    assert languages == {"en": 48, "zh": 12, "de": 12, "fr": 12, "es": 12}
    same = Counter(
        (line["text"], hashlib.sha256((demo / line["data_paths"]["image"]).read_bytes()).hexdigest())
        for line in pictures
    )
    assert sorted(same.values(), reverse=True)[:3] == [2, 2, 1]
    assert sum("idiot" in line["text"] for line in pictures) == 2
    assert sum("@example." in line["text"] for line in pictures) >= 2
    assert sum(bool(re.search(r"\+\d[\d -]{8,}", line["text"])) for line in pictures) >= 2


def test_sounds_are_as_long_and_as_high_as_they_say(demo):
    rates = Counter()
    for line in lines(demo, "sounds"):
        samples, rate_hz = sound(demo / line["data_paths"]["audio"])
        metadata, text = line["metadata"], line["text"]
        assert rate_hz == metadata["sample_rate_hz"]
        assert len(samples) == round(metadata["duration_seconds"] * rate_hz)
        assert 1 <= metadata["duration_seconds"] <= 3
        assert 0.05 < np.abs(samples).max() < 1, "neither silent nor clipped"
        rates[(rate_hz, samples.shape[1])] += 1
        mono = samples.mean(axis=1)
        if metadata["title"] == "tone":
            stated = re.search(r"(\d+(?:\.\d+)?) ?(?:Hz|赫兹)", text)
            assert stated
            loudest = np.abs(np.fft.rfft(mono)).argmax() / metadata["duration_seconds"]
            assert abs(loudest - float(stated[1])) < 1.5
        if metadata["title"] == "rhythm":
            clicks = int(text.split()[0])
            beat_s = 60 / int(text.split("at ")[1].split()[0])
            loud = [np.abs(mono[round(k * beat_s * rate_hz) :][: rate_hz // 50]).max() > 0.3 for k in range(clicks)]
            assert all(loud)
            assert clicks * beat_s >= metadata["duration_seconds"] - 1e-9 > (clicks - 1) * beat_s
        if "louder on the" in text:
            loudness = np.abs(samples).mean(axis=0)
            assert (loudness[0] > 2 * loudness[1]) == ("left" in text)
    assert rates == {(16000, 1): 24, (24000, 1): 20, (44100, 2): 4}


def test_clips_end_as_their_captions_say(demo):
    subtitles = 0
    for line in lines(demo, "clips"):
        clip, rate = frames(demo / line["data_paths"]["video"])
        duration_s = line["metadata"]["duration_seconds"]
        assert (rate, len(clip) / rate, clip.shape[1:]) == (8, duration_s, (96, 96, 3))
        assert 2 <= duration_s <= 4
        captions = line["metadata"].get("captions")
        if captions is None:
            text = (demo / line["data_paths"]["captions"]).read_text(encoding="utf-8")
            cues = re.findall(r"(\d\d):(\d\d):(\d\d\.\d{3}) --> (\d\d):(\d\d):(\d\d\.\d{3})\n(.+)\n", text)
            captions = [{"start_s": float(c[2]), "end_s": float(c[5]), "text": c[6]} for c in cues]
            assert text.startswith("WEBVTT\n\n")
            subtitles += 1
        assert captions[0]["start_s"] == 0
        assert captions[-1]["end_s"] == duration_s
        assert all(a["end_s"] == b["start_s"] for a, b in itertools.pairwise(captions))
        # Where the last caption leaves the shape, there it is in the last frame; lossless, so the color is exact.
        opening = re.search(r"A \w+ (\w+) (\w+) (?:in|at|on) the ([\w ]+?)(?: corner)?,", line["text"])
        assert opening
        color, kind, place = opening.groups()
        for caption in captions:
            if turned := re.search(r"turns (\w+)\.", caption["text"]):
                color = turned[1]
            if moved := re.search(r"to the ([\w ]+)\.", caption["text"]):
                place = moved[1]
        if kind != "ring":
            x, y = (round(96 * part) for part in PLACES[place])
            assert is_color(clip[-1, y, x], color, tolerance=0), line["text"]
    assert subtitles == 6


def test_illustrated_texts_have_a_picture_for_each_placeholder(demo):
    for line in lines(demo, "interleaved"):
        images = line["data_paths"]["image"]
        assert line["text"].count("<|image|>") == len(images)
        assert 2 <= len(images) <= 3
    counting = lines(demo, "interleaved")[0]
    color = re.search(r"one (\w+) ", counting["text"])
    assert color
    pixels = [np.asarray(Image.open(demo / path)).astype(int) for path in counting["data_paths"]["image"]]
    areas = [np.all(np.abs(p - COLORS[color[1]]) <= 8, axis=-1).sum() for p in pixels]
    assert areas[1] == pytest.approx(2 * areas[0], rel=0.1)
    assert areas[2] == pytest.approx(3 * areas[0], rel=0.1)


def test_six_cameras_see_one_scene(demo):
    scenes = lines(demo, "cameras")
    for line in scenes:
        assert set(line["data_paths"]) == set(CAMERA_PARTS)
        shapes = set()
        for camera in CAMERA_PARTS:
            clip, rate = frames(demo / line["data_paths"][camera])
            shapes.add(clip.shape)
            assert len(clip) / rate == line["metadata"]["duration_seconds"]
        assert len(shapes) == 1
    titles = {line["metadata"]["title"]: line for line in scenes}
    overtaken = titles["overtaken on the left"]
    color = re.search(r"A (\w+) car", overtaken["text"])
    assert color
    seen = {}
    for camera in CAMERA_PARTS:
        clip, _ = frames(demo / overtaken["data_paths"][camera])
        near = np.abs(clip.astype(int) - COLORS[color[1]]).max(axis=-1) < 40
        seen[camera] = [k for k, count in enumerate(near.sum(axis=(1, 2))) if count > 100]
    assert seen["camera_back_left"]
    assert seen["camera_front_left"]
    assert max(seen["camera_back_left"]) < min(seen["camera_front_left"])
    assert not seen["camera_front_right"] + seen["camera_back_right"] + seen["camera_back"] + seen["camera_front"]
