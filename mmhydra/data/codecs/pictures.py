"""Pixels of any size as the square tensors of a network, and back."""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from mmhydra.data.codecs.protocol import CodecError
from mmhydra.data.records.media import Picture

_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_HALF = 127.5  # from bytes to -1..1


def square(picture: Picture, resolution: int, resample: str) -> Picture:
    """The largest centred square of a picture [H, W, 3], resized to [R, R, 3]. Raises CodecError if it has none."""
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or 0 in picture.shape:
        raise CodecError(f"a picture is uint8 [H, W, 3], not {picture.dtype} {list(picture.shape)}")
    if picture.shape == (resolution, resolution, 3):
        return picture
    fitted = ImageOps.fit(Image.fromarray(picture), (resolution, resolution), method=_FILTERS[resample])
    return np.asarray(fitted)


def to_network(pictures: NDArray[np.uint8]) -> torch.Tensor:
    """uint8 [n, R, R, 3] as float32 [n, 3, R, R] from -1 to 1."""
    bytes_nhwc = torch.from_numpy(np.array(pictures, copy=True))
    return bytes_nhwc.permute(0, 3, 1, 2).to(torch.float32).div_(_HALF).sub_(1).contiguous()


def from_network(output: torch.Tensor) -> NDArray[np.uint8]:
    """The inverse of `to_network`; what lies beyond black or white is clipped."""
    scaled = output.to(torch.float32).add(1).mul(_HALF).round().clamp(0, 255).to(torch.uint8)
    pixels: NDArray[np.uint8] = scaled.permute(0, 2, 3, 1).contiguous().numpy()
    return pixels
