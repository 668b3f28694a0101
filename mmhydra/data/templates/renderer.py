"""A record and the ids of its media, laid out as its template says."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmhydra.config.forms import (
    CAMERA_TOKENS,
    CAMERAS,
    FIELDS,
    IMAGE_END,
    IMAGE_PLACEHOLDER,
    IMAGE_START,
    Piece,
    Slot,
    Special,
    Words,
    parse,
)
from mmhydra.config.templates import Template, takes
from mmhydra.data.shards.document import Document
from mmhydra.data.templates import timing
from mmhydra.data.templates.draw import draw
from mmhydra.data.templates.media import Caption, EncodedMedia, Unrenderable
from mmhydra.data.templates.writer import DocumentWriter
from mmhydra.data.vocabulary import TextTokenizer, Vocabulary


class Renderer:
    """Renders the records of one source. The templates have passed `template_problems`."""

    def __init__(
        self, vocabulary: Vocabulary, tokenizer: TextTokenizer, templates: Sequence[Template], seed: int
    ) -> None:
        assert templates
        self._vocabulary, self._tokenizer, self._seed = vocabulary, tokenizer, seed
        self._templates = tuple(templates)
        self._forms = {template.name: parse(template.form, vocabulary.special) for template in templates}

    def template_of(self, unique_id: str, parts: Collection[str] | None = None) -> Template:
        """The template that a record gets, by seed and id: of all, or of those that take no more than its `parts`.

        Raises Unrenderable where none does.
        """
        fitting = self._templates if parts is None else fitting_templates(self._templates, parts)
        if not fitting:
            raise Unrenderable("template_mismatch", f"no template takes {', '.join(sorted(parts or ())) or 'nothing'}")
        return draw(fitting, self._seed, unique_id)

    def render(
        self,
        unique_id: str,
        media: EncodedMedia | None = None,
        text: str | None = None,
        captions: Sequence[Caption] = (),
        template: Template | None = None,
    ) -> tuple[str, Document]:
        """The name of the template (null: drawn of all) and the document, closed by the end-of-document id.

        Raises Unrenderable where the record lacks what the template needs, or its parts do not fit together.
        """
        template = template or self.template_of(unique_id)
        writer = DocumentWriter(self._vocabulary, self._tokenizer)
        filling = _Filling(writer, template, media or EncodedMedia(), text or "", captions)
        pieces = self._forms[template.name]
        for index, piece in enumerate(pieces):
            if isinstance(piece, Words):
                writer.text(piece.text, loss=template.loss == "all")
            elif isinstance(piece, Slot):
                filling.fill(piece.name, _token(pieces, index - 1), _token(pieces, index + 1))
            elif isinstance(piece, Special) and not _belongs(pieces, index):
                writer.special(piece.token, loss=filling.has_loss(_goes_with(pieces, index)))
        return template.name, writer.close()


def fitting_templates(templates: Sequence[Template], parts: Collection[str]) -> list[Template]:
    """The templates that a record with these parts (text, captions, image, camera_front, ...) can fill."""
    return [template for template in templates if {*takes(template)} <= {*parts}]


def _token(pieces: Sequence[Piece], index: int) -> str:
    """The special token at a place, or nothing."""
    piece = pieces[index] if 0 <= index < len(pieces) else None
    return piece.token if isinstance(piece, Special) else ""


def _belongs(pieces: Sequence[Piece], index: int) -> bool:
    """Whether a special is written by the field beside it, which repeats it where it has several parts."""
    return any(
        isinstance(slot, Slot) and getattr(FIELDS[slot.name], side)
        for side, slot in (("closed", _at(pieces, index - 1)), ("opened", _at(pieces, index + 1)))
    )


def _at(pieces: Sequence[Piece], index: int) -> Piece | None:
    return pieces[index] if 0 <= index < len(pieces) else None


def _goes_with(pieces: Sequence[Piece], index: int) -> str:
    """The modality of the field that a special closes or begins."""
    special = pieces[index]
    assert isinstance(special, Special)
    before = [piece.name for piece in reversed(pieces[:index]) if isinstance(piece, Slot)]
    after = [piece.name for piece in pieces[index:] if isinstance(piece, Slot)]
    nearest = [*before[:1], *after[:1]] if special.ends else [*after[:1], *before[:1]]
    return FIELDS[nearest[0]].modality


@dataclass(frozen=True)
class _Filling:
    """One record on its way into a form."""

    writer: DocumentWriter
    template: Template
    media: EncodedMedia
    text: str
    captions: Sequence[Caption]

    def has_loss(self, modality: str) -> bool:
        return self.template.loss == "all" or modality in self.template.loss

    def fill(self, name: str, start: str, end: str) -> None:
        """Writes a field, and the specials around it where it has some."""
        fields: dict[str, Callable[[], None]] = {
            "text": lambda: self._text(self.text, "text"),
            "captions": lambda: self._text("\n".join(timing.lines(self.captions)), "captions"),
            "interleaved": self._interleaved,
            "image": lambda: self._images(start, end),
            "audio": lambda: self._sounds(start, end),
            "captioned_audio": lambda: self._captioned("audio", self._only_sound(), start, end),
            "video": lambda: self._whole("video", self._clip("video"), start, end),
            "captioned_video": lambda: self._captioned("video", self._clip("video"), start, end),
            "cameras": lambda: self._cameras(start, end),
        }
        if name in fields:
            fields[name]()
        else:
            self._whole("video", self._clip(name), start, "")  # camera_front and so on

    def _text(self, text: str, what: str) -> None:
        if not text:
            raise Unrenderable(f"no_{what}", f"template {self.template.name} needs {what}, and the record has none")
        self.writer.text(text, loss=self.has_loss("text"))

    def _images(self, start: str, end: str) -> None:
        if not self.media.image:
            raise Unrenderable("no_image", f"template {self.template.name} needs an image, and the record has none")
        for ids in self.media.image:
            self.writer.image(ids, start, end, loss=self.has_loss("image"))

    def _interleaved(self) -> None:
        texts = self.text.split(IMAGE_PLACEHOLDER)
        if len(texts) - 1 != len(self.media.image):
            raise Unrenderable(
                "placeholder_mismatch",
                f"the text has {len(texts) - 1} {IMAGE_PLACEHOLDER}, the record {len(self.media.image)} images",
            )
        if not self.text:
            raise Unrenderable("no_text", f"template {self.template.name} needs text, and the record has none")
        self.writer.text(texts[0], loss=self.has_loss("text"))
        for ids, text in zip(self.media.image, texts[1:], strict=True):
            self.writer.image(ids, IMAGE_START, IMAGE_END, loss=self.has_loss("image"))
            self.writer.text(text, loss=self.has_loss("text"))

    def _sounds(self, start: str, end: str) -> None:
        if not self.media.audio:
            raise Unrenderable("no_audio", f"template {self.template.name} needs audio, and the record has none")
        for ids in self.media.audio:
            self._whole("audio", ids, start, end)

    def _only_sound(self) -> ArrayLike:
        if len(self.media.audio) != 1:
            have = len(self.media.audio)
            raise Unrenderable("no_audio", f"captions with times need one sound, and the record has {have}")
        return self.media.audio[0]

    def _clip(self, name: str) -> ArrayLike:
        if name not in self.media.video:
            there = ", ".join(sorted(self.media.video)) or "none"
            reason = "no_video" if name == "video" else "missing_camera"
            raise Unrenderable(reason, f"template {self.template.name} needs {name}; clips of the record: {there}")
        return self.media.video[name]

    def _units(self, modality: str, ids: ArrayLike) -> NDArray[np.int64]:
        """[units, ids of a unit]."""
        unit = self.media.units[modality]
        flat = np.asarray(ids, dtype=np.int64).reshape(-1)
        if not len(flat):
            raise Unrenderable(f"no_{modality}", f"the {modality} of the record has no ids")
        if len(flat) % unit:
            raise Unrenderable("bad_codes", f"{len(flat)} ids of {modality} are no multiple of its unit, {unit}")
        return flat.reshape(-1, unit)

    def _whole(self, modality: str, ids: ArrayLike, start: str, end: str) -> None:
        self._stretch(modality, self._units(modality, ids), start, end)

    def _stretch(self, modality: str, units: NDArray[np.int64], start: str, end: str) -> None:
        loss = self.has_loss(modality)
        self.writer.special(start, loss=loss)
        self.writer.units(modality, units, start, loss=loss)
        if end:
            self.writer.special(end, loss=loss)

    def _captioned(self, modality: str, ids: ArrayLike, start: str, end: str) -> None:
        """Each caption before the unit during which it begins; the signal is closed before it and opened behind it."""
        if not self.captions:
            raise Unrenderable("no_captions", f"template {self.template.name} needs captions, the record has none")
        units = self._units(modality, ids)
        for begin, stop, text in _stretches(self.captions, len(units), self.media.step_s[modality]):
            if text:
                self.writer.text(text, loss=self.has_loss("text"))
            if stop > begin:
                self._stretch(modality, units[begin:stop], start, end)

    def _cameras(self, start: str, end: str) -> None:
        clips = [self._units("video", self._clip(f"camera_{name}")) for name in CAMERAS]
        if len({len(clip) for clip in clips}) > 1:
            steps = ", ".join(f"{name} {len(clip)}" for name, clip in zip(CAMERAS, clips, strict=True))
            raise Unrenderable("camera_mismatch", f"the cameras have different numbers of steps: {steps}")
        loss = self.has_loss("video")
        self.writer.special(start, loss=loss)
        self.writer.cameras(np.stack(clips), CAMERA_TOKENS, start, loss=loss)
        self.writer.special(end, loss=loss)


def _stretches(captions: Sequence[Caption], num_units: int, step_s: float) -> Iterator[tuple[int, int, str]]:
    """(first unit, unit behind the last, text before it) in order; the ends may be text or units alone."""
    placed = timing.place(captions, num_units, step_s)
    if placed[0][0] > 0:
        placed.insert(0, (0, ""))
    stops = [unit for unit, _ in placed[1:]] + [num_units]
    for (begin, text), stop in zip(placed, stops, strict=True):
        yield begin, stop, text
