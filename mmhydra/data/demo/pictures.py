"""Captioned pictures, and small illustrated texts with pictures between their sentences."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from mmhydra.data.demo.drawing import COLORS, KINDS, PATTERNS, PLACES, RADII, Scene, Shape, draw
from mmhydra.data.demo.record_file import record
from mmhydra.data.demo.wording import PHRASINGS, describe

SIDE = 96  # pixels
PICTURES, ILLUSTRATED = "pictures", "illustrated"
PLACEHOLDER = "<|image|>"
# English every second time.
_LANGUAGES = ("en", "zh", "en", "de", "en", "fr", "en", "es")
# Reserved names and numbers, which belong to nobody: example.org, and the numbers kept for fiction.
_CONTACTS = (
    "Questions about this picture go to drawings@example.org.",
    "Ask Ana, ana.lopez@example.com, or call +1 202-555-0143.",
    "Contact: +44 20 7946 0018.",
)
_RUDE = "Only an idiot does not see that."
_CONTACT_EVERY = 24
_RUDE_EVERY = 48
_DUPLICATE_EVERY = 48


def captioned_pictures(folder: Path, num_pictures: int) -> Iterator[dict[str, Any]]:
    """Writes PNG files below `folder`/pictures and yields their records.

    The last of each 48 has the picture and caption of an earlier one, the 13th of each 24 a made-up contact, and the
    31st of each 48 a rude sentence, so that each filter has something to find.
    """
    (folder / "pictures").mkdir()
    for index in range(num_pictures):
        duplicate = index % _DUPLICATE_EVERY == _DUPLICATE_EVERY - 1
        seed = index - _DUPLICATE_EVERY // 2 if duplicate else index
        dice = random.Random(f"{PICTURES}/{seed}")
        scene, phrasing = random_scene(dice), dice.randrange(PHRASINGS)
        language = _LANGUAGES[seed % len(_LANGUAGES)]
        caption = describe(scene, language, phrasing)
        if index % _CONTACT_EVERY == _CONTACT_EVERY // 2:
            caption += " " + _CONTACTS[index // _CONTACT_EVERY % len(_CONTACTS)]
        if index % _RUDE_EVERY == 30:
            caption += " " + _RUDE
        path = f"pictures/{index:05d}.png"
        save(folder / path, scene)
        yield record(
            PICTURES, f"{index:05d}", {"image": path}, caption, title="flat shapes", language=language, resolution=_SIZE
        )


def illustrated_texts(folder: Path, num_texts: int) -> Iterator[dict[str, Any]]:
    """Writes PNG files below `folder`/illustrated and yields records of texts with 2 or 3 pictures each."""
    (folder / "illustrated").mkdir()
    for index in range(num_texts):
        dice = random.Random(f"{ILLUSTRATED}/{index}")
        title, sentences, scenes = _TALES[index % len(_TALES)](dice)
        paths = [f"illustrated/{index:05d}_{place}.png" for place in range(len(scenes))]
        for path, scene in zip(paths, scenes, strict=True):
            save(folder / path, scene)
        text = "\n".join(f"{sentence}\n{PLACEHOLDER}" for sentence in sentences[: len(scenes)])
        text = "\n".join([text, *sentences[len(scenes) :]])
        yield record(ILLUSTRATED, f"{index:05d}", {"image": paths}, text, title=title, resolution=_SIZE)


def random_scene(dice: random.Random) -> Scene:
    """One to three shapes in different places, none in the color of the background."""
    background = dice.choice(list(COLORS))
    others = [color for color in COLORS if color != background]
    shapes = []
    for place in dice.sample(list(PLACES), dice.choice((1, 2, 2, 3))):
        size = dice.choice(list(RADII))
        shapes.append(Shape(dice.choice(KINDS), dice.choice(others), *PLACES[place], RADII[size]))
    return Scene(background, dice.choice(PATTERNS), tuple(shapes))


def save(path: Path, scene: Scene) -> None:
    """Writes a scene as a PNG file of SIDE x SIDE pixels."""
    Image.fromarray(draw(scene, SIDE, SIDE)).save(path, format="PNG")


_SIZE = {"width": SIDE, "height": SIDE}
_Tale = tuple[str, list[str], list[Scene]]


def _counting(dice: random.Random) -> _Tale:
    kind, color, background = dice.choice(KINDS), dice.choice(("red", "green", "blue", "purple")), _pale(dice)
    plural = "crosses" if kind == "cross" else kind + "s"
    row = [Shape(kind, color, x, 0.5, 0.12) for x in (0.2, 0.5, 0.8)]
    scenes = [Scene(background, "plain", tuple(row[:count])) for count in (1, 2, 3)]
    sentences = [
        f"Let us count {plural}. First there is one {color} {kind}:",
        f"Beside it comes another one, so now there are two {plural}:",
        "And with the last one on the right there are three:",
        f"One, two, three {color} {plural} in a row.",
    ]
    return f"counting {plural}", sentences, scenes


def _growing(dice: random.Random) -> _Tale:
    kind, color, background = dice.choice(KINDS), dice.choice(("red", "brown", "blue", "black")), _pale(dice)
    scenes = [Scene(background, "plain", (Shape(kind, color, 0.5, 0.5, radius),)) for radius in (0.08, 0.2, 0.38)]
    sentences = [
        f"In the center stands a {kind} that is {color} and quite small:",
        "It grows, and now it is of a middle size:",
        "Then it grows once more, until it nearly fills the picture:",
        f"The background stayed {background} all the time.",
    ]
    return f"a {kind} grows", sentences, scenes


def _mixing(dice: random.Random) -> _Tale:
    first, second, mixed = dice.choice(
        (("red", "yellow", "orange"), ("blue", "yellow", "green"), ("red", "blue", "purple"))
    )
    background, kind = dice.choice(("white", "gray")), dice.choice(KINDS)
    scenes = [
        Scene(background, "plain", (Shape(kind, color, x, 0.5, radius),))
        for color, x, radius in ((first, 0.3, 0.15), (second, 0.7, 0.15), (mixed, 0.5, 0.3))
    ]
    sentences = [
        f"A {kind} on the left is painted {first}:",
        f"A {kind} on the right is painted {second}:",
        f"Both paints together make one large {kind} that is {mixed}:",
    ]
    return f"mixing {mixed}", sentences, scenes


def _building(dice: random.Random) -> _Tale:
    wall, roof = dice.choice(("orange", "brown", "pink", "gray")), dice.choice(("red", "black", "purple"))
    house = (Shape("square", wall, 0.5, 0.68, 0.26), Shape("triangle", roof, 0.5, 0.32, 0.3))
    scenes = [Scene("blue", "plain", house[:1]), Scene("blue", "plain", house)]
    sentences = [
        f"How to draw a house under a blue sky: begin with a {wall} square for the walls.",
        f"Put a {roof} triangle on top of it for the roof.",
        "Walls and a roof: that is a house.",
    ]
    return "drawing a house", sentences, scenes


def _pale(dice: random.Random) -> str:
    return dice.choice(("white", "yellow", "pink"))


_TALES = (_counting, _growing, _mixing, _building)
