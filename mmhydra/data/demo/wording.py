"""What a scene shows, in words of five languages."""
# ruff: noqa: RUF001 (Chinese has a comma of its own)

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mmhydra.data.demo.drawing import PLACES, RADII, Scene, Shape

PHRASINGS = 3  # ways in which each language says the same


@dataclass(frozen=True)
class _Language:
    nouns: Mapping[str, str]  # by kind; with a gender before a space where adjectives need one
    colors: Mapping[str, str]
    sizes: Mapping[str, str]
    places: Mapping[str, str]
    patterns: Mapping[str, str]  # {color}: what the background is called
    phrase: Callable[["_Language", str, str, str], str]  # size, color and kind -> "a small red circle"
    at: str  # {shape} and {place}
    comma: str
    last: str  # between the last two shapes
    sentences: tuple[Callable[[str, str, int], str], ...]  # shapes, background and number of shapes -> a sentence


def describe(scene: Scene, language: str, phrasing: int = 0) -> str:
    """All that is in the scene, in one of LANGUAGES. `phrasing` counts up to PHRASINGS."""
    words = LANGUAGES[language]
    shapes = [
        words.at.format(shape=_shape(words, shape), place=words.places[place_of(shape)]) for shape in scene.shapes
    ]
    background = words.patterns[scene.pattern].format(color=_color_of_background(words, language, scene))
    sentence = words.sentences[phrasing](_join(shapes, words), background, len(shapes))
    return sentence[0].upper() + sentence[1:]


def place_of(shape: Shape) -> str:
    """The name of the place that is nearest to the shape's centre."""
    return min(PLACES, key=lambda name: (PLACES[name][0] - shape.x) ** 2 + (PLACES[name][1] - shape.y) ** 2)


def size_of(shape: Shape) -> str:
    """The name of the size that is nearest to the shape's radius."""
    return min(RADII, key=lambda name: abs(RADII[name] - shape.radius))


def _shape(words: _Language, shape: Shape) -> str:
    return words.phrase(words, size_of(shape), shape.color, shape.kind)


def _join(parts: Sequence[str], words: _Language) -> str:
    return words.last.join([*([words.comma.join(parts[:-1])] if len(parts) > 1 else []), parts[-1]])


def _color_of_background(words: _Language, language: str, scene: Scene) -> str:
    color = words.colors[scene.background]
    if language == "de":
        return color if scene.pattern != "plain" or color in _UNINFLECTED else color + "em"
    return color


def _english(words: _Language, size: str, color: str, kind: str) -> str:
    return f"a {size} {color} {kind}"


def _chinese(words: _Language, size: str, color: str, kind: str) -> str:
    return f"一个{words.sizes[size]}{words.colors[color]}{words.nouns[kind]}"


def _german(words: _Language, size: str, color: str, kind: str) -> str:
    gender, noun = words.nouns[kind].split()
    ending = {"m": "er", "f": "e", "n": "es"}[gender]
    shade = words.colors[color] + ("" if words.colors[color] in _UNINFLECTED else ending)
    return f"{'eine' if gender == 'f' else 'ein'} {words.sizes[size]}{ending} {shade} {noun}"


def _french(words: _Language, size: str, color: str, kind: str) -> str:
    gender, noun = words.nouns[kind].split()
    adjectives = [words.sizes[size], words.colors[color]]
    if gender == "f":
        adjectives = [_FEMININE.get(word, word) for word in adjectives]
    return f"{'une' if gender == 'f' else 'un'} {adjectives[0]} {noun} {adjectives[1]}"


def _spanish(words: _Language, size: str, color: str, kind: str) -> str:
    gender, noun = words.nouns[kind].split()
    adjectives = [words.colors[color], words.sizes[size]]
    if gender == "f":
        adjectives = [word[:-1] + "a" if word.endswith("o") else word for word in adjectives]
    return f"{'una' if gender == 'f' else 'un'} {noun} {' '.join(adjectives)}"


_UNINFLECTED = ("orange", "lila", "rosa")
_FEMININE = {"petit": "petite", "grand": "grande", "vert": "verte", "bleu": "bleue", "violet": "violette"} | {
    "noir": "noire",
    "blanc": "blanche",
    "gris": "grise",
}


def _table(keys: Sequence[str], values: str) -> dict[str, str]:
    return dict(zip(keys, (value.strip() for value in values.split(",")), strict=True))


_COLOR_KEYS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "gray")
_KIND_KEYS = ("circle", "ring", "square", "triangle", "diamond", "hexagon", "star", "cross")
_PLACE_KEYS = tuple(PLACES)
_SIZE_KEYS = ("small", "large")
_PATTERN_KEYS = ("plain", "striped", "checkered")

LANGUAGES: dict[str, _Language] = {
    "en": _Language(
        nouns={},
        colors={color: color for color in _COLOR_KEYS},
        sizes={},
        places=_table(
            _PLACE_KEYS,
            "in the top left corner, at the top, in the top right corner, on the left, in the center, on the right, "
            "in the bottom left corner, at the bottom, in the bottom right corner",
        ),
        patterns=_table(_PATTERN_KEYS, "{color} background, striped {color} background, checkered {color} background"),
        phrase=_english,
        at="{shape} {place}",
        comma=", ",
        last=" and ",
        sentences=(
            lambda shapes, background, _: f"{shapes}, on a {background}.",
            lambda shapes, background, count: f"On a {background} there {'is' if count == 1 else 'are'} {shapes}.",
            lambda shapes, background, _: f"The picture has a {background} and shows {shapes}. Nothing else is in it.",
        ),
    ),
    "zh": _Language(
        nouns=_table(_KIND_KEYS, "圆形,圆环,正方形,三角形,菱形,六边形,星形,十字形"),
        colors=_table(_COLOR_KEYS, "红色,橙色,黄色,绿色,蓝色,紫色,粉色,棕色,黑色,白色,灰色"),
        sizes=_table(_SIZE_KEYS, "小,大"),
        places=_table(_PLACE_KEYS, "左上角,上方,右上角,左边,中间,右边,左下角,下方,右下角"),
        patterns=_table(_PATTERN_KEYS, "{color}背景,{color}条纹背景,{color}格子背景"),
        phrase=_chinese,
        at="{place}有{shape}",
        comma="，",
        last="，",
        sentences=(
            lambda shapes, background, _: f"{background}上，{shapes}。",
            lambda shapes, background, _: f"这张图片是{background}，{shapes}。",
            lambda shapes, background, _: f"图中{shapes}，{background}，没有别的东西。",
        ),
    ),
    "de": _Language(
        nouns=_table(_KIND_KEYS, "m Kreis,m Ring,n Quadrat,n Dreieck,f Raute,n Sechseck,m Stern,n Kreuz"),
        colors=_table(_COLOR_KEYS, "rot,orange,gelb,grün,blau,lila,rosa,braun,schwarz,weiß,grau"),
        sizes=_table(_SIZE_KEYS, "klein,groß"),
        places=_table(
            _PLACE_KEYS, "oben links,oben,oben rechts,links,in der Mitte,rechts,unten links,unten,unten rechts"
        ),
        patterns=_table(
            _PATTERN_KEYS, "{color} Hintergrund,{color} gestreiftem Hintergrund,{color} kariertem Hintergrund"
        ),
        phrase=_german,
        at="{shape} {place}",
        comma=", ",
        last=" und ",
        sentences=(
            lambda shapes, background, _: f"{shapes}, auf {background}.",
            lambda shapes, background, count: f"Auf {background} {'ist' if count == 1 else 'sind'} {shapes}.",
            lambda shapes, background, _: f"Das Bild mit {background} zeigt nur dies: {shapes}.",
        ),
    ),
    "fr": _Language(
        nouns=_table(_KIND_KEYS, "m cercle,m anneau,m carré,m triangle,m losange,m hexagone,f étoile,f croix"),
        colors=_table(_COLOR_KEYS, "rouge,orange,jaune,vert,bleu,violet,rose,marron,noir,blanc,gris"),
        sizes=_table(_SIZE_KEYS, "petit,grand"),
        places=_table(
            _PLACE_KEYS,
            "en haut à gauche,en haut,en haut à droite,à gauche,au centre,à droite,"
            "en bas à gauche,en bas,en bas à droite",
        ),
        patterns=_table(_PATTERN_KEYS, "fond {color},fond {color} rayé,fond {color} à carreaux"),
        phrase=_french,
        at="{shape} {place}",
        comma=", ",
        last=" et ",
        sentences=(
            lambda shapes, background, _: f"{shapes}, sur un {background}.",
            lambda shapes, background, _: f"Sur un {background}, il y a {shapes}.",
            lambda shapes, background, _: f"L'image montre {shapes} sur un {background}, et rien d'autre.",
        ),
    ),
    "es": _Language(
        nouns=_table(_KIND_KEYS, "m círculo,m anillo,m cuadrado,m triángulo,m rombo,m hexágono,f estrella,f cruz"),
        colors=_table(_COLOR_KEYS, "rojo,naranja,amarillo,verde,azul,morado,rosa,marrón,negro,blanco,gris"),
        sizes=_table(_SIZE_KEYS, "pequeño,grande"),
        places=_table(
            _PLACE_KEYS,
            "arriba a la izquierda,arriba,arriba a la derecha,a la izquierda,en el centro,a la derecha,"
            "abajo a la izquierda,abajo,abajo a la derecha",
        ),
        patterns=_table(_PATTERN_KEYS, "fondo {color},fondo {color} a rayas,fondo {color} a cuadros"),
        phrase=_spanish,
        at="{shape} {place}",
        comma=", ",
        last=" y ",
        sentences=(
            lambda shapes, background, _: f"{shapes}, sobre un {background}.",
            lambda shapes, background, _: f"Sobre un {background} hay {shapes}.",
            lambda shapes, background, _: f"La imagen muestra {shapes} sobre un {background} y nada más.",
        ),
    ),
}
