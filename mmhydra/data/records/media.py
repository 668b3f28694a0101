"""Media as arrays, and a record with all of its media."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mmhydra.config.forms import IMAGE_PLACEHOLDER
from mmhydra.data.records.reasons import BadRecord
from mmhydra.data.records.record import Caption, Record

__all__ = ["Budget", "Caption", "Clip", "LoadedRecord", "Picture", "Sound"]

Picture = NDArray[np.uint8]  # [H, W, 3], RGB


@dataclass(frozen=True)
class Sound:
    """`samples` float32 [channels, n], mostly within -1 to 1."""

    samples: NDArray[np.float32]
    rate_hz: int

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return int(self.samples.shape[1]) / self.rate_hz


@dataclass(frozen=True)
class Clip:
    """`frames` uint8 [T, H, W, 3], RGB, at equal distances in time."""

    frames: NDArray[np.uint8]
    frame_rate: float  # frames/s

    @property
    def seconds(self) -> float:
        """How long it lasts, the last frame included."""
        return len(self.frames) / self.frame_rate


@dataclass(frozen=True)
class LoadedRecord:
    """A record, its text and its decoded media. Keys of `clips`: `video`, or the names of cameras."""

    record: Record
    text: str | None = None
    captions: tuple[Caption, ...] = ()
    images: tuple[Picture, ...] = ()
    sounds: tuple[Sound, ...] = ()
    clips: dict[str, Clip] = field(default_factory=dict)

    @property
    def full_text(self) -> str:
        """All that a model would read of it: the text, then the captions, a line each."""
        return "\n".join([*([self.text] if self.text is not None else []), *(entry.text for entry in self.captions)])

    @property
    def is_interleaved(self) -> bool:
        """Whether the text has placeholders, so that it fits only where its images are put in their places."""
        return self.text is not None and IMAGE_PLACEHOLDER in self.text

    @property
    def has_media(self) -> bool:
        """Whether there is more than text."""
        return bool(self.images or self.sounds or self.clips)


class Budget:
    """What is left of the bytes that one record may decode to."""

    def __init__(self, max_mb: float) -> None:
        self._max_mb = max_mb
        self._left = int(max_mb * 1e6)

    def take(self, num_bytes: int) -> None:
        """Before decoding. Raises BadRecord where it would be too much."""
        self._left -= num_bytes
        if self._left < 0:
            raise BadRecord("media_too_large", f"decodes to more than max_decoded_mb = {self._max_mb:g}")
