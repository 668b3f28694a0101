"""What six cameras of a car see while something happens on a drawn road."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mmhydra.config.forms import CAMERA_PARTS
from mmhydra.data.demo.drawing import COLORS, RGB
from mmhydra.data.demo.record_file import record
from mmhydra.data.demo.video_file import write_video

SCENES = "cameras"
WIDTH, HEIGHT = 96, 64  # pixels
FRAME_RATE = 4  # frames/s
_HORIZON = 26  # pixels from the top
_SKIES: dict[str, RGB] = {"day": (150, 200, 240), "dusk": (225, 150, 110), "night": (18, 22, 48)}
_EVENTS = {
    "overtaken on the left": "A {color} car overtakes on the left: first it is seen back left, then front left.",
    "overtaken on the right": "A {color} car overtakes on the right: first it is seen back right, then front right.",
    "car ahead brakes": "A {color} car in front brakes: its red lights go on and it comes closer in the front camera.",
    "pedestrian": "A pedestrian in {color} clothes crosses the road in front, from left to right.",
    "traffic light": "The traffic light in front turns from red to green.",
    "followed": "A {color} car follows behind at the same distance; only the back camera sees it.",
    "empty": "The road is empty in all six cameras.",
}


@dataclass(frozen=True)
class Drive:
    """What is to be drawn."""

    time_of_day: str
    event: str
    color: str  # of the car or the clothes


def road_scenes(folder: Path, num_scenes: int) -> Iterator[dict[str, Any]]:
    """Writes six MP4 files (1 to 2 s) for each scene below `folder`/road and yields the records."""
    (folder / "road").mkdir()
    for index in range(num_scenes):
        dice = random.Random(f"{SCENES}/{index}")
        event = list(_EVENTS)[index % len(_EVENTS)]
        drive = Drive(dice.choice(list(_SKIES)), event, dice.choice(("red", "blue", "white", "yellow", "orange")))
        num_frames = dice.choice((4, 6, 8))
        paths = {camera: f"road/{index:05d}_{camera}.mp4" for camera in CAMERA_PARTS}
        for camera, path in paths.items():
            frames = [_frame(drive, camera, k / FRAME_RATE, k / (num_frames - 1)) for k in range(num_frames)]
            write_video(folder / path, np.stack(frames), FRAME_RATE)
        when = {"day": "By day", "dusk": "At dusk", "night": "At night"}[drive.time_of_day]
        yield record(
            SCENES,
            f"{index:05d}",
            paths,
            f"{when}, driving straight on. {_EVENTS[event].format(color=drive.color)}",
            title=event,
            duration_seconds=num_frames / FRAME_RATE,
            resolution={"width": WIDTH, "height": HEIGHT},
        )


def _frame(drive: Drive, camera: str, time_s: float, done: float) -> NDArray[np.uint8]:
    """One camera's picture, uint8 [HEIGHT, WIDTH, 3], when the fraction `done` of the event is over."""
    image = Image.new("RGB", (WIDTH, HEIGHT), _SKIES[drive.time_of_day])
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, _HORIZON, WIDTH, HEIGHT), fill=(60, 110, 60) if drive.time_of_day != "night" else (25, 45, 30))
    if camera in ("camera_front", "camera_back"):
        _road_ahead(pen, time_s if camera == "camera_front" else -time_s)
    else:
        # Ahead is on the right of a camera that looks to the left, so the road goes by to its left, and the reverse.
        _road_beside(pen, time_s if camera.endswith("right") else -time_s)
    _draw_event(pen, drive, camera, done)
    return np.asarray(image)


def _road_ahead(pen: ImageDraw.ImageDraw, way: float) -> None:
    middle = WIDTH / 2
    pen.polygon([(middle - 3, _HORIZON), (middle + 3, _HORIZON), (WIDTH, HEIGHT), (0, HEIGHT)], fill=(75, 75, 80))
    for k in range(4):
        depth = (k + way * 2) % 4 / 4  # 0 at the horizon, 1 in front of the car
        y = _HORIZON + (HEIGHT - _HORIZON) * depth**2
        pen.line((middle, y, middle, y + 1 + 7 * depth), fill=(240, 240, 240), width=1 + round(2 * depth))


def _road_beside(pen: ImageDraw.ImageDraw, way: float) -> None:
    pen.rectangle((0, _HORIZON + 12, WIDTH, HEIGHT), fill=(75, 75, 80))
    for k in range(-1, 4):
        x = k * 32 + way * 40 % 32
        pen.rectangle((x, HEIGHT - 8, x + 14, HEIGHT - 6), fill=(240, 240, 240))


def _draw_event(pen: ImageDraw.ImageDraw, drive: Drive, camera: str, done: float) -> None:
    side = drive.event.rpartition(" ")[2]
    if drive.event.startswith("overtaken") and camera == f"camera_back_{side}" and done < 0.5:
        _car_beside(pen, drive.color, done * 2, forwards_is_right=side == "left")
    elif drive.event.startswith("overtaken") and camera == f"camera_front_{side}" and done >= 0.5:
        _car_beside(pen, drive.color, done * 2 - 1, forwards_is_right=side == "left")
    elif drive.event == "car ahead brakes" and camera == "camera_front":
        _car_from_behind(pen, drive.color, 10 + round(10 * done), lights="red" if done > 0.3 else "brown")
    elif drive.event == "followed" and camera == "camera_back":
        _car_from_behind(pen, drive.color, 14, lights="yellow")
    elif drive.event == "pedestrian" and camera == "camera_front":
        x = 12 + 68 * done
        pen.ellipse((x, 28, x + 5, 33), fill=(230, 190, 150))
        pen.rectangle((x - 1, 34, x + 6, 50), fill=COLORS[drive.color])
    elif drive.event == "traffic light" and camera == "camera_front":
        pen.rectangle((70, 6, 80, 28), fill=(25, 25, 25))
        pen.rectangle((74, 28, 76, 44), fill=(90, 90, 90))
        for y, color, lit in ((8, "red", done < 0.5), (18, "green", done >= 0.5)):
            pen.ellipse((71, y, 79, y + 8), fill=COLORS[color] if lit else (55, 55, 55))


def _car_beside(pen: ImageDraw.ImageDraw, color: str, done: float, *, forwards_is_right: bool) -> None:
    start, end = (-40, WIDTH) if forwards_is_right else (WIDTH, -40)
    x, y = start + (end - start) * done, 34
    pen.rectangle((x, y + 6, x + 40, y + 16), fill=COLORS[color])
    pen.rectangle((x + 9, y, x + 31, y + 6), fill=COLORS[color])
    for wheel in (x + 5, x + 27):
        pen.ellipse((wheel, y + 12, wheel + 8, y + 20), fill=COLORS["black"])


def _car_from_behind(pen: ImageDraw.ImageDraw, color: str, half_width: int, lights: str) -> None:
    middle, bottom = WIDTH // 2, _HORIZON + half_width + 8
    pen.rectangle((middle - half_width, bottom - half_width, middle + half_width, bottom), fill=COLORS[color])
    pen.rectangle(
        (middle - half_width + 3, bottom - half_width - 5, middle + half_width - 3, bottom - half_width),
        fill=COLORS["black"],
    )
    for x in (middle - half_width + 1, middle + half_width - 5):
        pen.rectangle((x, bottom - half_width // 2, x + 4, bottom - half_width // 2 + 3), fill=COLORS[lights])
