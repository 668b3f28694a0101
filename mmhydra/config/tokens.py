"""The `tokens` group: one vocabulary for all modalities."""

from typing import Annotated, Literal

from pydantic import Field

from mmhydra.config.base import LABEL, Name, NotIdentity, PositiveCount, Section

Modality = Literal["text", "image", "audio", "video", "special"]


class TokenRange(Section):
    """A run of ids; ranges follow each other in the order in which they are declared."""

    name: Name
    modality: Modality
    size: PositiveCount


class Tokens(Section):
    """The declared layout. Its padded size is the size of the model's embedding."""

    name: Annotated[Name, NotIdentity(LABEL)]
    ranges: Annotated[list[TokenRange], Field(min_length=1)]
    special: list[str]
    pad_multiple: PositiveCount  # the padded size divides by it, so that TP shards stay equal

    @property
    def used_size(self) -> int:
        """Ids that mean something."""
        return sum(entry.size for entry in self.ranges)

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding: `used_size` rounded up to `pad_multiple`."""
        return -(-self.used_size // self.pad_multiple) * self.pad_multiple
