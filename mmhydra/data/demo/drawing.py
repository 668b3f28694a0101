"""Pictures of a few flat shapes, drawn from a description."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

RGB = tuple[int, int, int]

COLORS: dict[str, RGB] = {
    "red": (214, 40, 40),
    "orange": (245, 130, 20),
    "yellow": (250, 214, 50),
    "green": (50, 150, 70),
    "blue": (40, 90, 200),
    "purple": (130, 60, 170),
    "pink": (245, 150, 190),
    "brown": (125, 80, 45),
    "black": (20, 20, 22),
    "white": (250, 250, 250),
    "gray": (140, 145, 150),
}
PLACES: dict[str, tuple[float, float]] = {  # centres, as fractions of width and height
    "top left": (0.2, 0.2),
    "top": (0.5, 0.2),
    "top right": (0.8, 0.2),
    "left": (0.2, 0.5),
    "center": (0.5, 0.5),
    "right": (0.8, 0.5),
    "bottom left": (0.2, 0.8),
    "bottom": (0.5, 0.8),
    "bottom right": (0.8, 0.8),
}
RADII: dict[str, float] = {"small": 0.08, "large": 0.15}  # as fractions of the width
PATTERNS = ("plain", "striped", "checkered")
_OVERSAMPLING = 4  # drawn this many times larger, then averaged: smooth edges


@dataclass(frozen=True)
class Shape:
    """One shape; centre and radius are fractions of the picture's sides."""

    kind: str
    color: str
    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class Scene:
    """Shapes on a background, the later ones in front."""

    background: str
    pattern: str
    shapes: tuple[Shape, ...]


def draw(scene: Scene, width: int, height: int) -> NDArray[np.uint8]:
    """The scene as pixels, uint8 [height, width, 3]."""
    large = (width * _OVERSAMPLING, height * _OVERSAMPLING)
    image = Image.new("RGB", large, COLORS[scene.background])
    pen = ImageDraw.Draw(image)
    _draw_pattern(pen, scene, large)
    for shape in scene.shapes:
        _draw_shape(pen, shape, large)
    return np.asarray(image.reduce(_OVERSAMPLING))


def _draw_pattern(pen: ImageDraw.ImageDraw, scene: Scene, size: tuple[int, int]) -> None:
    """A second, nearby shade in stripes or squares of an eighth of the width."""
    color = COLORS[scene.background]
    shade = tuple(level - 30 if sum(color) > 300 else level + 30 for level in color)
    step = size[0] // 8
    for row in range(-(-size[1] // step)):
        for column in range(8):
            striped = scene.pattern == "striped" and column % 2
            checkered = scene.pattern == "checkered" and (row + column) % 2
            if striped or checkered:
                x, y = column * step, row * step
                pen.rectangle((x, y, x + step - 1, y + step - 1), fill=shade)


def _draw_shape(pen: ImageDraw.ImageDraw, shape: Shape, size: tuple[int, int]) -> None:
    x, y, radius = shape.x * size[0], shape.y * size[1], shape.radius * size[0]
    color = COLORS[shape.color]
    if radius <= 0:
        return
    box = (x - radius, y - radius, x + radius, y + radius)
    if shape.kind == "circle":
        pen.ellipse(box, fill=color)
    elif shape.kind == "ring":
        pen.ellipse(box, outline=color, width=max(1, round(radius * 0.4)))
    else:
        pen.polygon([(x + u * radius, y + v * radius) for u, v in OUTLINES[shape.kind]], fill=color)


def _regular(
    corners: int, first_degrees: float, radii: Callable[[int], float] = lambda _: 1.0
) -> list[tuple[float, float]]:
    angles = [math.radians(first_degrees + 360 * i / corners) for i in range(corners)]
    return [(radii(i) * math.cos(angle), radii(i) * math.sin(angle)) for i, angle in enumerate(angles)]


_ARM = 0.35
# Corners around (0, 0) in a circle of radius 1; y grows downwards.
OUTLINES: dict[str, list[tuple[float, float]]] = {
    "square": [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)],
    "triangle": _regular(3, -90),
    "diamond": [(0, -1), (0.7, 0), (0, 1), (-0.7, 0)],
    "hexagon": _regular(6, 0),
    "star": _regular(10, -90, lambda i: 0.42 if i % 2 else 1.0),
    "cross": [
        *((-_ARM, -1), (_ARM, -1), (_ARM, -_ARM), (1, -_ARM), (1, _ARM), (_ARM, _ARM)),
        *((_ARM, 1), (-_ARM, 1), (-_ARM, _ARM), (-1, _ARM), (-1, -_ARM), (-_ARM, -_ARM)),
    ],
}
KINDS = ("circle", "ring", *OUTLINES)
