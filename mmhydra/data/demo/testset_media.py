"""Media of the test set as bytes, each made by a stated recipe."""

import io
import zlib
from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np
import soundfile
from numpy.typing import NDArray
from PIL import Image

Frames = NDArray[np.uint8]  # [T, H, W, 3]
_RATE_HZ = 16_000


def _crc_row(byte: int) -> int:
    crc = byte << 24
    for _ in range(8):
        crc = (crc << 1) ^ (0x04C11DB7 if crc & 0x80000000 else 0)
    return crc & 0xFFFFFFFF


_CRC_TABLE = tuple(_crc_row(byte) for byte in range(256))


def picture(number: int, width: int = 48, height: int = 32) -> NDArray[np.uint8]:
    """A gradient whose colours and direction come from `number`, with a square on it: no two are equal."""
    y, x = np.mgrid[0:height, 0:width]
    channels = [(x * (1 + number % 5) + y * (1 + number // 5 % 7) + 40 * number * (c + 1)) % 256 for c in range(3)]
    made = np.stack(channels, axis=-1).astype(np.uint8)
    left = number * 3 % max(1, width - 8)
    made[height // 4 : height // 2, left : left + 8] = (number * 37 % 256, 255 - number % 256, number * 11 % 256)
    return made


def frames(number: int, num_frames: int, width: int = 48, height: int = 32) -> Frames:
    """A square that moves over `picture`."""
    made = np.repeat(picture(number, width, height)[None], num_frames, axis=0)
    for index in range(num_frames):
        left = (index * 4 + number) % (width - 8)
        made[index, height // 2 : height // 2 + 8, left : left + 8] = 255
    return made


def image_file(pixels: NDArray[np.uint8], format: str = "PNG") -> bytes:
    """As PNG, JPEG, WEBP or GIF."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format)
    return buffer.getvalue()


def animation_file(pixels: Frames, format: str, duration_ms: int) -> bytes:
    """As animated GIF, WEBP or PNG."""
    buffer = io.BytesIO()
    first, *others = [Image.fromarray(frame) for frame in pixels]
    first.save(buffer, format, save_all=True, append_images=others, duration=duration_ms, loop=0)
    return buffer.getvalue()


def huge_png(width: int, height: int) -> bytes:
    """A few bytes that claim to be an image of any size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(64))) + chunk(b"IEND", b"")
    )


def tone(number: int, seconds: float, rate_hz: int = _RATE_HZ, channels: int = 1) -> NDArray[np.float32]:
    """Sine waves, float32 [n, channels]; the pitch comes from `number`."""
    at_s = np.arange(round(seconds * rate_hz)) / rate_hz
    waves = [0.4 * np.sin(2 * np.pi * (200 + 25 * number + 3 * channel) * at_s) for channel in range(channels)]
    return np.stack(waves, axis=1).astype(np.float32)


def sound_file(
    samples: NDArray[np.float32], rate_hz: int = _RATE_HZ, format: str = "WAV", subtype: str | None = None
) -> bytes:
    """As WAV, FLAC, OGG (VORBIS or OPUS) or MP3."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate_hz, format=format, subtype=subtype)
    return _without_serial(buffer.getvalue()) if format == "OGG" else buffer.getvalue()


def _without_serial(content: bytes) -> bytes:
    """An Ogg stream with the serial number 0 in place of a random one, its pages' checksums with it (RFC 3533)."""
    made = bytearray(content)
    place = 0
    while place < len(made):
        segments = made[place + 26]
        stop = place + 27 + segments + sum(made[place + 27 : place + 27 + segments])
        made[place + 14 : place + 18] = bytes(4)
        made[place + 22 : place + 26] = bytes(4)
        made[place + 22 : place + 26] = _ogg_crc(made[place:stop]).to_bytes(4, "little")
        place = stop
    return bytes(made)


def _ogg_crc(page: bytes | bytearray) -> int:
    crc = 0
    for byte in page:
        crc = (crc << 8) & 0xFFFFFFFF ^ _CRC_TABLE[crc >> 24 ^ byte]
    return crc


def video_file(pixels: Frames, frame_rate: int, format: str = "mp4", codec: str = "mpeg4") -> bytes:
    """As mp4, matroska or webm, by one thread: the same bytes each time."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=format, options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream(codec, rate=Fraction(frame_rate))
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = pixels.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        stream.codec_context.flags |= av.codec.context.Flags.bitexact
        for frame in pixels:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def captions_file(captions: Sequence[tuple[float, float, str]]) -> bytes:
    """As WebVTT."""
    cues = [f"00:{start:06.3f} --> 00:{end:06.3f}\n{text}\n" for start, end, text in captions]
    return "\n".join(["WEBVTT\n", *cues]).encode()
