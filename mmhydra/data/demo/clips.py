"""Clips of one shape that moves and changes, with a caption for each thing that happens."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmhydra.data.demo.drawing import COLORS, KINDS, PATTERNS, PLACES, RADII, Scene, Shape, draw
from mmhydra.data.demo.record_file import record
from mmhydra.data.demo.video_file import write_video
from mmhydra.data.demo.wording import describe, place_of

CLIPS = "clips"
SIDE = 96  # pixels
FRAME_RATE = 8  # frames/s
_LENGTHS_S = ((1.0, 1.0), (1.5, 1.5), (1.0, 1.0, 1.0), (2.0, 2.0), (1.0, 1.0, 1.0, 1.0))  # of the things that happen
_SUBTITLES_EVERY = 4  # captions as a file beside the clip instead of in the record


@dataclass(frozen=True)
class Event:
    """One thing that happens to the shape: `at(fraction)` of it, fraction from 0 to 1."""

    text: str
    at: Callable[[float], Shape]

    @property
    def end(self) -> Shape:
        """The shape afterwards."""
        return self.at(1.0)


def captioned_clips(folder: Path, num_clips: int) -> Iterator[dict[str, Any]]:
    """Writes lossless Matroska files below `folder`/clips and yields their records.

    They last 2 to 4 s. The captions of every fourth clip are a WebVTT file, those of the others are in the record.
    """
    (folder / "clips").mkdir()
    for index in range(num_clips):
        dice = random.Random(f"{CLIPS}/{index}")
        opening, frames, captions = _act(dice)
        name = f"clips/{index:05d}"
        write_video(folder / f"{name}.mkv", frames, FRAME_RATE)
        paths = {"video": f"{name}.mkv"}
        metadata: dict[str, Any] = {}
        if index % _SUBTITLES_EVERY == _SUBTITLES_EVERY - 1:
            (folder / f"{name}.vtt").write_text(_web_vtt(captions), encoding="utf-8", newline="\n")
            paths["captions"] = f"{name}.vtt"
        else:
            metadata["captions"] = captions
        yield record(
            CLIPS,
            f"{index:05d}",
            paths,
            " ".join([f"At first: {opening}", *(caption["text"] for caption in captions)]),
            title="a shape changes",
            duration_seconds=len(frames) / FRAME_RATE,
            resolution={"width": SIDE, "height": SIDE},
            **metadata,
        )


def _act(dice: random.Random) -> tuple[str, NDArray[np.uint8], list[dict[str, Any]]]:
    """What is there at first, the frames, and the captions."""
    background = dice.choice(list(COLORS))
    pattern = dice.choice(PATTERNS)
    colors = [color for color in COLORS if color != background]
    shape = Shape(dice.choice(KINDS), dice.choice(colors), *PLACES[dice.choice(list(PLACES))], RADII["large"])
    opening = describe(Scene(background, pattern, (shape,)), "en")
    frames, captions, start_s = [], [], 0.0
    for length_s in dice.choice(_LENGTHS_S):
        event = dice.choice((_move, _move, _recolor, _resize, _stay))(dice, shape, colors)
        count = round(length_s * FRAME_RATE)
        frames += [draw(Scene(background, pattern, (event.at((k + 1) / count),)), SIDE, SIDE) for k in range(count)]
        captions.append({"start_s": start_s, "end_s": start_s + length_s, "text": event.text})
        start_s += length_s
        shape = event.end
    return opening, np.stack(frames), captions


def _move(dice: random.Random, shape: Shape, colors: list[str]) -> Event:
    here = place_of(shape)
    there = dice.choice([place for place in PLACES if place != here])
    x, y = PLACES[there]
    return Event(
        f"The {shape.color} {shape.kind} moves from {_at(here)} to {_at(there)}.",
        lambda f: replace(shape, x=shape.x + f * (x - shape.x), y=shape.y + f * (y - shape.y)),
    )


def _recolor(dice: random.Random, shape: Shape, colors: list[str]) -> Event:
    color = dice.choice([color for color in colors if color != shape.color])
    return Event(
        f"The {shape.color} {shape.kind} turns {color}.", lambda f: shape if f < 0.5 else replace(shape, color=color)
    )


def _resize(dice: random.Random, shape: Shape, colors: list[str]) -> Event:
    shrinks = shape.radius > 0.1
    radius = RADII["small" if shrinks else "large"]
    return Event(
        f"The {shape.color} {shape.kind} {'shrinks' if shrinks else 'grows'}.",
        lambda f: replace(shape, radius=shape.radius + f * (radius - shape.radius)),
    )


def _stay(dice: random.Random, shape: Shape, colors: list[str]) -> Event:
    return Event(f"The {shape.color} {shape.kind} stays where it is.", lambda f: shape)


def _at(place: str) -> str:
    return f"the {place}"


def _web_vtt(captions: list[dict[str, Any]]) -> str:
    cues = [f"{_time(c['start_s'])} --> {_time(c['end_s'])}\n{c['text']}\n" for c in captions]
    return "\n".join(["WEBVTT\n", *cues])


def _time(seconds: float) -> str:
    milliseconds = round(seconds * 1000)
    return f"00:{milliseconds // 60000:02d}:{milliseconds // 1000 % 60:02d}.{milliseconds % 1000:03d}"
