"""The `tokens` group: one vocabulary for all modalities, and where each of its ranges lies."""

import hashlib
import json
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, JsonValue

from mmhydra.config.base import LABEL, Count, Folder, Legacy, Name, NotIdentity, PositiveCount, Section

Modality = Literal["text", "image", "audio", "video", "special"]
# In a shard a modality is its place here: never reorder them.
MODALITIES: tuple[Modality, ...] = ("text", "special", "image", "audio", "video")
END_OF_DOCUMENT = "<|endoftext|>"


_SINGLE = {"image": 1, "audio": 1, "video": 1}


class Codebooks(Section):
    """How many a range of a modality holds, all of one size."""

    image: PositiveCount
    audio: PositiveCount
    video: PositiveCount


class TextTokenizerSettings(Section):
    """How text becomes ids.

    train_bpe: a byte-level BPE of the size of the text range, trained on the dataset's own text. hf: the tokenizer.json
    of `folder`. qwen: Qwen's 151,643 ids, which come with the package dashscope.
    """

    kind: Literal["train_bpe", "hf", "qwen"]
    folder: Folder | None  # of hf alone
    exact: bool  # true: a tokenizer that does not give every text back as it was is refused


class TokenRange(Section):
    """A run of ids. One without a start follows the range that is declared before it."""

    name: Name
    modality: Modality
    size: PositiveCount
    start: Annotated[Count | None, Legacy(None)]


class Span(NamedTuple):
    """A range with its place: ids `start` to `stop` - 1, those of codebook 0 first, then those of codebook 1 ..."""

    name: str
    modality: Modality
    start: int
    size: int
    codebooks: int

    @property
    def stop(self) -> int:
        """The first id behind it."""
        return self.start + self.size


class Tokens(Section):
    """The declared layout. Its padded size is the size of the model's embedding."""

    name: Annotated[Name, NotIdentity(LABEL)]
    ranges: Annotated[list[TokenRange], Field(min_length=1)]
    special: list[str]
    codebooks: Annotated[Codebooks, NotIdentity("they move no id; the manifests carry them"), Legacy(_SINGLE)]
    pad_multiple: PositiveCount  # the padded size divides by it, so that TP shards stay equal
    text: Annotated[TextTokenizerSettings | None, NotIdentity("the manifests carry its digest"), Legacy(None)]

    @property
    def declared(self) -> list[Span]:
        """The ranges in the order in which they are declared, each with its place."""
        spans: list[Span] = []
        for entry in self.ranges:
            start = entry.start if entry.start is not None else spans[-1].stop if spans else 0
            spans.append(
                Span(entry.name, entry.modality, start, entry.size, getattr(self.codebooks, entry.modality, 1))
            )
        return spans

    @property
    def spans(self) -> list[Span]:
        """The ranges by their place.

        Where no range is declared for the special tokens, they are the first ids of the first text range, as in a
        tokenizer that was trained with them.
        """
        spans = self.declared
        at = next((index for index, span in enumerate(spans) if span.modality == "text"), None)
        if self.special and at is not None and not any(span.modality == "special" for span in spans):
            text, taken = spans[at], len(self.special)
            spans[at] = text._replace(start=text.start + taken, size=text.size - taken)
            spans.append(Span("special", "special", text.start, taken, 1))
        return sorted(spans, key=lambda span: span.start)

    def room(self, modality: Modality) -> int:
        """Ids that a modality has, all its ranges together."""
        return sum(span.size for span in self.spans if span.modality == modality)

    @property
    def used_size(self) -> int:
        """One more than the highest id that means something."""
        return max(span.stop for span in self.declared)

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding: `used_size` rounded up to `pad_multiple`."""
        return -(-self.used_size // self.pad_multiple) * self.pad_multiple

    @property
    def layout(self) -> dict[str, JsonValue]:
        """What a manifest keeps: this section, but not where a text tokenizer was read from."""
        return self.model_dump(mode="json", exclude={"text"}) | {"text": None}

    @property
    def layout_digest(self) -> str:
        """SHA-256, in hex, over what every id means: places, codebooks, special tokens. Names and padding are left out:
        a model may pad its embedding as its parallelism needs, over the same data.
        """
        places = [[span.modality, span.start, span.size, span.codebooks] for span in self.spans]
        document = {"ranges": places, "special": self.special}
        text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()
