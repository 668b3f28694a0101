"""The reverse of rendering: what the ids of a document say, for people."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmhydra.config.forms import CAMERA_TOKENS
from mmhydra.data.shards.document import Document
from mmhydra.data.vocabulary import TextTokenizer, Vocabulary


class Part(NamedTuple):
    """A run of ids of one modality, or one special token.

    `ids` are local: a text tokenizer decodes those of text, a codec those of image, audio and video. `text` is the
    decoded text, or how the special token is spelt; empty for media.
    """

    modality: str
    ids: NDArray[np.int64]
    text: str
    loss: bool


class Signal(NamedTuple):
    """Local ids of one image or one stretch of audio or video, for a codec to decode. `name` is that of a camera."""

    modality: str
    name: str
    ids: NDArray[np.int64]


def describe(document: Document, vocabulary: Vocabulary, tokenizer: TextTokenizer) -> list[Part]:
    """The parts of a document in order; a segment with specials inside is taken apart.

    Raises VocabularyError for ids that are not in the vocabulary.
    """
    parts: list[Part] = []
    for segment in document.segments:
        ids = document.ids[segment.start : segment.start + segment.length]
        codes = vocabulary.modality_of(ids)
        edges = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), len(ids)]
        for begin, stop in pairwise(edges):
            parts += _parts(vocabulary.modalities[codes[begin]], ids[begin:stop], segment.loss, vocabulary, tokenizer)
    return parts


def _parts(
    modality: str, ids: NDArray[np.int64], loss: bool, vocabulary: Vocabulary, tokenizer: TextTokenizer
) -> Iterator[Part]:
    local = vocabulary.to_local(modality, ids)
    if modality == "special":
        for place, token_id in zip(local, ids.tolist(), strict=True):
            yield Part(modality, np.array([place]), vocabulary.special_token(token_id), loss)
    else:
        yield Part(modality, local, tokenizer.decode(local.tolist()) if modality == "text" else "", loss)


def signals(parts: Sequence[Part]) -> list[Signal]:
    """The media of a document in order. Steps of one camera that other cameras interrupt are one signal."""
    found: list[Signal] = []
    camera = ""  # of the steps that follow
    at: dict[str, int] = {}  # where each camera's signal is
    for part in parts:
        if part.modality == "special":
            camera = part.text.strip("<|>") if part.text in CAMERA_TOKENS else ""
            if not camera:
                at = {}
        elif part.modality == "text":
            camera, at = "", {}
        elif camera in at:
            earlier = found[at[camera]]
            found[at[camera]] = earlier._replace(ids=np.concatenate([earlier.ids, part.ids]))
        else:
            if camera:
                at[camera] = len(found)
            found.append(Signal(part.modality, camera, part.ids))
    return found


def to_text(parts: Sequence[Part], max_chars: int) -> str:
    """One string to read: text as it is, special tokens spelt, `<image 256 ids>` for media. A longer one is cut."""
    shown: list[str] = []
    length = 0
    for part in parts:
        shown.append(part.text if part.modality in ("text", "special") else f"<{part.modality} {len(part.ids)} ids>")
        length += len(shown[-1])
        if length > max_chars:
            break
    whole = "".join(shown)
    return whole if len(whole) <= max_chars else f"{whole[: max(0, max_chars - 1)]}\u2026"
