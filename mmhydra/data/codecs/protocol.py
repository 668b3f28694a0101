"""What a codec is: a signal becomes local ids, ids become a signal."""

from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from mmhydra.data.records.media import Clip, Picture, Sound
from mmhydra.errors import UserError

Modality = Literal["image", "audio", "video"]
Signal: TypeAlias = Picture | Sound | Clip
Ids: TypeAlias = NDArray[np.int64]


class CodecError(UserError):
    """A codec's weights, a signal or ids are not what the codec's settings say."""


class Codec(Protocol):
    """One modality's codec. Equal digests mean equal ids, in any process with as many torch threads.

    A signal is a Picture (uint8 [H, W, 3]), a Sound or a Clip. Local ids are 1-D int64 from 0 to
    `num_codebooks * codebook_size` - 1: code c of codebook k is k * codebook_size + c. `encode` and `decode` raise
    CodecError for what they can't take.
    """

    modality: Modality
    num_codebooks: int
    codebook_size: int
    unit: int  # ids that stand for something only together: a picture, an audio frame, a step of a video
    step_s: float  # seconds of signal in one unit; 0 for a picture
    settings: dict[str, JsonValue]  # the section of the config: with the weights, enough to build the codec again
    digest: str  # sha256 over settings and weights, in hex
    trained: bool
    note: str  # config.codecs.UNTRAINED, or where the weights came from

    # A codec takes one kind of signal and returns that kind; which one, `modality` says.
    def encode(self, signal: Any) -> Ids:
        """Local ids of one signal; as many as a whole number of units."""

    def decode(self, ids: Ids) -> Any:
        """The signal that local ids stand for."""
