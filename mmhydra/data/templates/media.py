"""What a renderer is given besides text: captions, and the ids that codecs made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from numpy.typing import ArrayLike

from mmhydra.errors import UserError


class Caption(Protocol):
    """Text that belongs to a stretch of a signal; times from its beginning, in seconds."""

    @property
    def start_s(self) -> float:
        """When it begins."""

    @property
    def end_s(self) -> float:
        """When it ends."""

    @property
    def text(self) -> str:
        """What is said or seen."""


@dataclass(frozen=True)
class EncodedMedia:
    """The signals of one record as local ids, each a flat array.

    `units` says for audio and video how many ids must not be parted, `step_s` how many seconds such a unit lasts. An
    image is one unit, however long.
    """

    image: Sequence[ArrayLike] = ()
    audio: Sequence[ArrayLike] = ()
    video: Mapping[str, ArrayLike] = field(default_factory=dict)  # video, or camera_front and so on
    units: Mapping[str, int] = field(default_factory=dict)  # ids, by modality
    step_s: Mapping[str, float] = field(default_factory=dict)  # by modality


class Unrenderable(UserError):
    """A record that its template can't hold. `reason` is a word to count, `detail` says what is there instead."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail
