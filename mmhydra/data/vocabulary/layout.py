"""The unified vocabulary: local ids of a modality to ids of the model, and back."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import JsonValue, ValidationError

from mmhydra.config.token_rules import token_faults, too_small
from mmhydra.config.tokens import END_OF_DOCUMENT, MODALITIES, Span, Tokens
from mmhydra.data.vocabulary.errors import VocabularyError

UNUSED = "unused"  # ids between two ranges


class Vocabulary:
    """Ids 0 to `size` - 1, each of one modality; `padded_size` rows of the embedding.

    A local id counts from 0 inside its modality: the id of a text tokenizer, the place in the list of special tokens,
    or for a codec `codebook * codebook_size + code`.
    """

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._spans: dict[str, list[Span]] = {}
        for span in tokens.spans:
            self._spans.setdefault(span.modality, []).append(span)
        self._special_ids = {
            token: int(self.to_ids("special", place)[()]) for place, token in enumerate(tokens.special)
        }
        self._special_tokens = {token_id: token for token, token_id in self._special_ids.items()}
        self.size = tokens.used_size
        self.padded_size = tokens.vocab_size
        self.layout_digest = tokens.layout_digest
        edges = _edges(tokens.spans)
        present = tuple(name for name in (*MODALITIES, UNUSED) if any(name == modality for _, modality in edges))
        self.modalities: tuple[str, ...] = present
        # For np.searchsorted(edges, ids, side="right") - 1, or torch.bucketize(ids, edges, right=True) - 1.
        self.edges: tuple[int, ...] = tuple(start for start, _ in edges)
        self.edge_modalities: tuple[int, ...] = tuple(present.index(modality) for _, modality in edges)
        self._codes = np.array(self.edge_modalities, dtype=np.int8)

    @classmethod
    def of(cls, tokens: Tokens) -> Self:
        """The vocabulary of a config. Raises VocabularyError that lists everything that is wrong with the layout."""
        if faults := token_faults(tokens):
            lines = [f"  {', '.join(fault.keys)}: {fault.text}" for fault in faults]
            raise VocabularyError("\n".join([f"tokens={tokens.name} is no vocabulary:", *lines]))
        return cls(tokens)

    @classmethod
    def of_layout(cls, layout: Mapping[str, Any]) -> Self:
        """The vocabulary of a manifest (`manifest.vocabulary.layout`). Raises VocabularyError for what is none."""
        try:
            tokens = Tokens.model_validate(dict(layout))
        except ValidationError as error:
            lines = [f"  {'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
            raise VocabularyError("\n".join(["not the layout of a vocabulary:", *lines])) from error
        return cls.of(tokens)

    @property
    def layout(self) -> dict[str, JsonValue]:
        """The layout as JSON, for the manifest."""
        return self._tokens.layout

    @property
    def special(self) -> tuple[str, ...]:
        """The special tokens in the order of their ids."""
        return tuple(self._special_ids)

    @property
    def eod_id(self) -> int:
        """The id that ends every document."""
        return self._special_ids[END_OF_DOCUMENT]

    def special_id(self, token: str) -> int:
        """The id of a special token. Raises VocabularyError for one that is not declared."""
        if token not in self._special_ids:
            raise VocabularyError(f"{token} is no special token; tokens.special has {', '.join(self._special_ids)}")
        return self._special_ids[token]

    def special_token(self, token_id: int) -> str:
        """How a special token is spelt; one without a name, `<|special 37|>`, is in the range but not in the list."""
        return self._special_tokens.get(token_id) or f"<|special {int(self.to_local('special', token_id)[()])}|>"

    def room(self, modality: str) -> int:
        """Local ids that a modality has; 0 for one without a range."""
        return sum(span.size for span in self._spans.get(modality, []))

    def check_fits(self, num_ids: int, what: str = "the text tokenizer") -> None:
        """Raises VocabularyError where a text tokenizer has more ids than the text range."""
        if num_ids > self.room("text"):
            raise VocabularyError(too_small(self._tokens, what, num_ids))

    def to_ids(self, modality: str, local: ArrayLike) -> NDArray[np.int64]:
        """Ids of local ones, in the same shape. Raises VocabularyError for one outside the modality's ranges."""
        return self._move(modality, local, to_local=False)

    def to_local(self, modality: str, ids: ArrayLike) -> NDArray[np.int64]:
        """The inverse of `to_ids`. Raises VocabularyError for an id of another modality."""
        return self._move(modality, ids, to_local=True)

    def _move(self, modality: str, values: ArrayLike, *, to_local: bool) -> NDArray[np.int64]:
        before = np.asarray(values, dtype=np.int64)
        after = np.empty_like(before)
        found = np.zeros(before.shape, dtype=np.bool_)
        passed = 0  # local ids in the ranges before
        for span in self._spans.get(modality, []):
            low, shift = (span.start, passed - span.start) if to_local else (passed, span.start - passed)
            inside = (before >= low) & (before < low + span.size)
            found |= inside
            after = np.where(inside, before + shift, after)
            passed += span.size
        if not found.all():
            wrong = int(before[~found].flat[0])
            legal = self._legal(modality, to_local)
            raise VocabularyError(f"{'id' if to_local else 'local id'} {wrong} is no {modality}; legal: {legal}")
        return after

    def _legal(self, modality: str, of_ids: bool) -> str:
        spans = self._spans.get(modality, [])
        if not spans:
            return f"none, tokens={self._tokens.name} has no {modality} range"
        return ", ".join(f"{s.start} to {s.stop - 1}" for s in spans) if of_ids else f"0 to {self.room(modality) - 1}"

    def modality_of(self, ids: ArrayLike) -> NDArray[np.int8]:
        """Which of `modalities` each id is, as its index. Raises VocabularyError for an id outside 0 to `size` - 1."""
        array = np.asarray(ids, dtype=np.int64)
        if array.size and (int(array.min()) < 0 or int(array.max()) >= self.size):
            wrong = next(value for value in (int(array.min()), int(array.max())) if not 0 <= value < self.size)
            raise VocabularyError(f"id {wrong} is not in the vocabulary; legal: 0 to {self.size - 1}")
        return self._codes[np.searchsorted(self.edges, array, side="right") - 1]


def _edges(spans: list[Span]) -> list[tuple[int, str]]:
    """Where each range and each gap between two begins, from 0 on."""
    edges: list[tuple[int, str]] = []
    stop = 0
    for span in spans:
        if span.start > stop:
            edges.append((stop, UNUSED))
        edges.append((span.start, span.modality))
        stop = span.stop
    return edges
