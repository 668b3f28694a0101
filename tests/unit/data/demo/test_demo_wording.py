import random

import pytest

from mmhydra.data.demo.drawing import COLORS, KINDS, OUTLINES, PLACES, RADII, Scene, Shape
from mmhydra.data.demo.pictures import random_scene
from mmhydra.data.demo.wording import LANGUAGES, PHRASINGS, describe

TWO = Scene(
    "white",
    "checkered",
    (Shape("star", "green", *PLACES["top left"], RADII["small"]), Shape("square", "red", 0.5, 0.5, RADII["large"])),
)
ONE = Scene("pink", "plain", (Shape("cross", "purple", *PLACES["bottom"], RADII["large"]),))


@pytest.mark.parametrize(
    ("language", "two", "one"),
    [
        (
            "en",
            "A small green star in the top left corner and a large red square in the center, "
            "on a checkered white background.",
            "On a pink background there is a large purple cross at the bottom.",
        ),
        (
            "zh",
            "白色格子背景上，左上角有一个小绿色星形，中间有一个大红色正方形。",  # noqa: RUF001
            "这张图片是粉色背景，下方有一个大紫色十字形。",  # noqa: RUF001
        ),
        (
            "de",
            "Ein kleiner grüner Stern oben links und ein großes rotes Quadrat in der Mitte, "
            "auf weiß kariertem Hintergrund.",
            "Auf rosa Hintergrund ist ein großes lila Kreuz unten.",
        ),
        (
            "fr",
            "Une petite étoile verte en haut à gauche et un grand carré rouge au centre, sur un fond blanc à carreaux.",
            "Sur un fond rose, il y a une grande croix violette en bas.",
        ),
        (
            "es",
            "Una estrella verde pequeña arriba a la izquierda y un cuadrado rojo grande en el centro, "
            "sobre un fondo blanco a cuadros.",
            "Sobre un fondo rosa hay una cruz morada grande abajo.",
        ),
    ],
)
def test_each_language_says_it_with_its_own_grammar(language, two, one):
    assert describe(TWO, language, 0) == two
    assert describe(ONE, language, 1) == one


def test_every_word_is_there_in_every_language():
    for language in LANGUAGES:
        texts = set()
        for kind in KINDS:
            for color in COLORS:
                for size, place in ((RADII["small"], "left"), (RADII["large"], "top right")):
                    scene = Scene("gray", "striped", (Shape(kind, color, *PLACES[place], size),))
                    texts |= {describe(scene, language, phrasing) for phrasing in range(PHRASINGS)}
        assert len(texts) == len(KINDS) * len(COLORS) * 2 * PHRASINGS, "different scenes have different descriptions"
        assert not any("{" in text for text in texts)


def test_outlines_stay_inside_their_circle():
    assert all(x * x + y * y < 1.5 for corners in OUTLINES.values() for x, y in corners)


def test_random_scenes_hide_nothing():
    for seed in range(500):
        scene = random_scene(random.Random(seed))
        places = {(shape.x, shape.y) for shape in scene.shapes}
        assert len(places) == len(scene.shapes)
        assert scene.background not in {shape.color for shape in scene.shapes}
