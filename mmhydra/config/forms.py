"""The form of a template, `<|image_start|>{image}<|image_end|>{text}`, taken apart."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from mmhydra.config.tokens import Modality

CAMERAS = ("front", "front_left", "front_right", "back", "back_left", "back_right")
CAMERA_PARTS = tuple(f"camera_{name}" for name in CAMERAS)  # what records and fields call them
CAMERA_TOKENS = tuple(f"<|camera_{name}|>" for name in CAMERAS)
IMAGE_PLACEHOLDER = "<|image|>"  # in interleaved text
IMAGE_START, IMAGE_END = "<|image_start|>", "<|image_end|>"


class Field(NamedTuple):
    """What may stand in braces.

    `modality` is what the specials around it go with, `takes` the parts of a record that it uses up. A field that is
    `opened` stands directly behind a special, which begins its modality; one that is `closed` directly before one.
    The part `interleaved` is a text with placeholders for images, `text` one without: no field takes both.
    """

    modality: Modality
    modalities: tuple[Modality, ...]
    takes: tuple[str, ...]
    opened: bool = False
    closed: bool = False
    needs: tuple[str, ...] = ()  # specials that it brings itself


FIELDS: dict[str, Field] = {
    "text": Field("text", ("text",), ("text",)),
    "captions": Field("text", ("text",), ("captions",)),
    "interleaved": Field(
        "text", ("text", "image"), ("interleaved", "image"), needs=(IMAGE_PLACEHOLDER, IMAGE_START, IMAGE_END)
    ),
    "image": Field("image", ("image",), ("image",), opened=True, closed=True),
    "audio": Field("audio", ("audio",), ("audio",), opened=True, closed=True),
    "captioned_audio": Field("audio", ("audio", "text"), ("audio", "captions"), opened=True, closed=True),
    "video": Field("video", ("video",), ("video",), opened=True, closed=True),
    "captioned_video": Field("video", ("video", "text"), ("video", "captions"), opened=True, closed=True),
    "cameras": Field("video", ("video",), CAMERA_PARTS, opened=True, closed=True, needs=CAMERA_TOKENS),
    **{part: Field("video", ("video",), (part,), opened=True) for part in CAMERA_PARTS},
}


class Special(NamedTuple):
    """A special token of the form. One that `ends` closes what stands before it, any other begins what follows."""

    token: str

    @property
    def ends(self) -> bool:
        """Whether its name says so: `<|image_end|>`."""
        return re.search(r"_end\W*$", self.token) is not None

    @property
    def begins(self) -> bool:
        """Whether its name says that another one has to end what it begins: `<|image_start|>`."""
        return re.search(r"_start\W*$", self.token) is not None

    @property
    def end(self) -> str:
        """The token that ends what this one begins."""
        return re.sub(r"_start(\W*)$", r"_end\1", self.token)

    @property
    def start(self) -> str:
        """The token that begins what this one ends."""
        return re.sub(r"_end(\W*)$", r"_start\1", self.token)


class Slot(NamedTuple):
    """A field of the form."""

    name: str


class Words(NamedTuple):
    """Text that every document has at this place."""

    text: str


class Stray(NamedTuple):
    """What is none of the three: a brace without its other half, or what looks like a special and is not declared."""

    text: str


Piece = Special | Slot | Words | Stray


def parse(form: str, special: Sequence[str]) -> list[Piece]:
    """The pieces of a form in their order, given the declared special tokens."""
    declared = "|".join(re.escape(token) for token in sorted(special, key=len, reverse=True) if token)
    pattern = re.compile(
        rf"(?P<special>{declared or '(?!)'})|\{{(?P<slot>[^{{}}]*)\}}|(?P<stray>[{{}}]|<\|[^<>|{{}}]*\|>)", re.DOTALL
    )
    pieces: list[Piece] = []
    end = 0
    for found in pattern.finditer(form):
        if found.start() > end:
            pieces.append(Words(form[end : found.start()]))
        end = found.end()
        if found.group("special") is not None:
            pieces.append(Special(found.group()))
        elif found.group("slot") is not None:
            pieces.append(Slot(found.group("slot")))
        else:
            pieces.append(Stray(found.group()))
    if end < len(form):
        pieces.append(Words(form[end:]))
    return pieces
