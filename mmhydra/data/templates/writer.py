"""Puts a document together, id by id and segment by segment."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmhydra.data.shards.document import NO_OPENER, Document, Segment
from mmhydra.data.templates.media import Unrenderable
from mmhydra.data.vocabulary import TextTokenizer, Vocabulary, VocabularyError


class DocumentWriter:
    """Appends text, special tokens and media to one document."""

    def __init__(self, vocabulary: Vocabulary, tokenizer: TextTokenizer) -> None:
        self._vocabulary, self._tokenizer = vocabulary, tokenizer
        self._ids: list[NDArray[np.int64]] = []
        self._segments: list[Segment] = []
        self._length = 0

    def text(self, text: str, *, loss: bool) -> None:
        """Raises Unrenderable for text that can't be encoded; an empty one adds nothing."""
        try:
            local = self._tokenizer.encode(text)
        except VocabularyError as error:
            raise Unrenderable("corrupt_text", str(error)) from error
        self._append("text", self._vocabulary.to_ids("text", local), 1, loss, NO_OPENER)

    def special(self, token: str, *, loss: bool) -> None:
        """One special token."""
        self._append("special", np.array([self._vocabulary.special_id(token)]), 1, loss, NO_OPENER)

    def image(self, local: ArrayLike, start: str, end: str, *, loss: bool) -> None:
        """An image with the specials around it: one unit, which no cut parts."""
        ids = self._media("image", local)
        whole = np.concatenate([[self._vocabulary.special_id(start)], ids, [self._vocabulary.special_id(end)]])
        self._append("image", whole, len(whole), loss, NO_OPENER)

    def units(self, modality: str, local: NDArray[np.int64], opener: str, *, loss: bool) -> None:
        """Audio or video [units, ids of a unit]; `opener` begins the rest wherever it is cut."""
        ids = self._media(modality, local)
        self._append(modality, ids, local.shape[1], loss, self._vocabulary.special_id(opener))

    def cameras(self, local_NTU: NDArray[np.int64], tokens: tuple[str, ...], opener: str, *, loss: bool) -> None:
        """N cameras of T steps of U ids, time-major: of each step, each camera's special and then its ids."""
        cameras, steps, unit = local_NTU.shape
        ids_NTU = self._media("video", local_NTU).reshape(local_NTU.shape)
        marks_N = np.array([self._vocabulary.special_id(token) for token in tokens])
        marks_N1T = np.broadcast_to(marks_N[:, None, None], (cameras, steps, 1))
        rows_TN = np.concatenate([marks_N1T, ids_NTU], axis=2).transpose(1, 0, 2)
        self._append("video", rows_TN.reshape(-1), unit + 1, loss, self._vocabulary.special_id(opener))

    def close(self) -> Document:
        """The document, with its end, which always carries loss."""
        self._append("special", np.array([self._vocabulary.eod_id]), 1, True, NO_OPENER)
        return Document(np.concatenate(self._ids).astype(np.int64), tuple(self._segments))

    def _media(self, modality: str, local: ArrayLike) -> NDArray[np.int64]:
        try:
            ids = self._vocabulary.to_ids(modality, local).reshape(-1)
        except VocabularyError as error:
            raise Unrenderable("bad_codes", str(error)) from error
        if not len(ids):
            raise Unrenderable(f"no_{modality}", f"the {modality} has no ids")
        return ids

    def _append(self, modality: str, ids: NDArray[np.int64], unit: int, loss: bool, opener: int) -> None:
        if len(ids):
            self._ids.append(ids)
            self._segments.append(Segment(modality, self._length, len(ids), unit, loss, opener))
            self._length += len(ids)
