"""Images by Pillow: one picture, or the frames of an animation."""

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from mmhydra.config.filters import MediaLimits
from mmhydra.data.records.containers import cut_off
from mmhydra.data.records.media import Budget, Clip, Picture
from mmhydra.data.records.reasons import BadRecord, said_by

# What the broken files of a fuzz test made Pillow's readers raise; it promises no narrower set.
_FAULTS = (
    *(OSError, ValueError, TypeError, SyntaxError, LookupError, EOFError, ArithmeticError, RuntimeError),
    *(AttributeError, MemoryError, struct.error, zlib.error),
)
_SIXTEEN_BIT = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_DEFAULT_FRAME_S = 0.1  # a GIF that says 0 is shown like this by browsers
_MAX_FRAME_RATE = 100.0  # GIF counts in hundredths of a second


def load_picture(path: Path, limits: MediaLimits, budget: Budget) -> Picture:
    """One image as RGB [H, W, 3]: the first frame of an animation, upright by its EXIF orientation, on white.

    Raises BadRecord.
    """
    with _opened(path, limits, "corrupt_image") as image:
        check_pixels(path, image.width, image.height, limits)
        budget.take(image.width * image.height * 3)
        image.load()
        return to_rgb(ImageOps.exif_transpose(image))


def load_animation(path: Path, limits: MediaLimits, budget: Budget) -> Clip:
    """An animated GIF, WebP or PNG as frames at a constant rate; each stands as long as the file says.

    Raises BadRecord.
    """
    with _opened(path, limits, "corrupt_video") as image:
        check_pixels(path, image.width, image.height, limits)
        num_frames = getattr(image, "n_frames", 1)
        if num_frames > limits.max_frames:
            raise BadRecord("too_many_frames", f"{path.name}: {num_frames}, max_frames is {limits.max_frames}")
        budget.take(image.width * image.height * 3 * num_frames)
        frames, times, now_s = [], [], 0.0
        for index in range(num_frames):
            image.seek(index)
            image.load()
            frames.append(to_rgb(image))
            if frames[-1].shape != frames[0].shape:
                raise BadRecord("corrupt_video", f"{path.name}: frame {index + 1} is of another size")
            times.append(now_s)
            now_s += image.info.get("duration", 0) / 1000 or _DEFAULT_FRAME_S
            if now_s > limits.max_seconds:
                raise BadRecord("too_long", f"{path.name}: more than max_seconds = {limits.max_seconds:g}")
    return constant_rate(path, np.stack(frames), np.array(times), now_s, limits, budget)


def constant_rate(
    path: Path,
    frames: Picture,
    times_s: "np.ndarray[tuple[int], np.dtype[np.float64]]",
    end_s: float,
    limits: MediaLimits,
    budget: Budget,
) -> Clip:
    """Frames [T, H, W, 3] shown from `times_s` [T] on, as a clip with as many frames at equal distances.

    At even timing all frames stay as they are; at uneven timing each moment shows the frame that stood then.
    """
    lasting = np.diff(times_s, append=end_s)
    if len(frames) == 1 or np.ptp(lasting) <= 0.002 * max(1.0, float(lasting.max()) * 10):
        return Clip(frames, len(frames) / end_s)
    rate = min(_MAX_FRAME_RATE, 1 / float(max(np.min(lasting), 1 / _MAX_FRAME_RATE)))
    num_frames = max(1, round(end_s * rate))
    if num_frames > limits.max_frames:  # a rate that the limits allow; the shortest frames may get lost
        num_frames = limits.max_frames
    budget.take(int(frames[0].nbytes) * num_frames)
    shown = np.searchsorted(times_s, np.arange(num_frames) * end_s / num_frames + 1e-6, side="right") - 1
    return Clip(frames[np.maximum(shown, 0)], num_frames / end_s)


def to_rgb(image: Image.Image) -> Picture:
    """Any mode as RGB: transparency on white, 16 bits scaled to 8."""
    if image.mode in _SIXTEEN_BIT:
        values = np.asarray(image).astype(np.int64)
        grey = np.clip(values // 257, 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode == "F":
        return np.repeat(np.clip(np.asarray(image), 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return np.array(image.convert("RGB"), dtype=np.uint8)


def check_pixels(path: Path, width: int, height: int, limits: MediaLimits) -> None:
    """Refuses images and frames outside the limits, before they are decoded."""
    if width * height < limits.min_pixels:
        raise BadRecord("too_few_pixels", f"{path.name}: {width} x {height}, min_pixels is {limits.min_pixels}")
    if width * height > limits.max_pixels:
        raise BadRecord("too_many_pixels", f"{path.name}: {width} x {height}, max_pixels is {limits.max_pixels}")


# Pillow has readers that start other programs (EPS: Ghostscript); records are not trusted.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "AVIF", "TIFF", "BMP", "JPEG2000")


@contextmanager
def _opened(path: Path, limits: MediaLimits, reason: str) -> Iterator[Image.Image]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd EXIF and palettes; what is wrong for us raises
        try:
            if cut := cut_off(path):
                raise BadRecord(reason, f"{path.name}: cut off: {cut}")
            with Image.open(path, formats=_FORMATS) as image:
                yield image
        except Image.DecompressionBombError as error:
            # Pillow's own limit comes before anyone can look at the size.
            raise BadRecord("too_many_pixels", said_by(error, path)) from error
        except _FAULTS as error:
            raise BadRecord(reason, said_by(error, path)) from error
