"""What a codec says about itself: settings, digest, whether it was trained."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from pydantic import JsonValue

from mmhydra.config.codecs import UNTRAINED, AudioCodec, ImageCodec, VideoCodec

CodecSettings = ImageCodec | AudioCodec | VideoCodec

# Where weights lie makes no id, their bytes do; and trained weights leave nothing to the seed.
_NOT_IN_DIGEST = {"weights"}
_ONLY_UNTRAINED = {"seed"}


def as_json(settings: CodecSettings) -> dict[str, JsonValue]:
    """The section as a manifest keeps it; `mmhydra.data.codecs.codec_from_info` reads it.

    Of the weights' path only the name: where they lie is different on each machine.
    """
    document: dict[str, JsonValue] = settings.model_dump(mode="json")
    if settings.weights is not None:
        document["weights"] = Path(settings.weights).name
    return document


def note_of(settings: CodecSettings) -> str:
    """UNTRAINED, or the name of the weights' file or folder."""
    return UNTRAINED if settings.weights is None else f"weights from {Path(settings.weights).name}"


def digest_of(settings: CodecSettings, tensors: Mapping[str, torch.Tensor]) -> str:
    """sha256 in hex over the settings and over name, type, shape and bytes of each tensor, by name."""
    left_out = _NOT_IN_DIGEST | (set() if settings.weights is None else _ONLY_UNTRAINED)
    stated = {key: value for key, value in as_json(settings).items() if key not in left_out}
    digest = hashlib.sha256(json.dumps(stated, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii"))
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"\n{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
