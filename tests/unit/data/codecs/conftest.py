"""Signals that differ from each other, and the shipped codecs."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from mmhydra.config.codecs import AudioCodec, ImageCodec, VideoCodec
from mmhydra.data.codecs import Codec, build_codec
from mmhydra.data.records.media import Clip, Picture, Sound

CONF = Path(__file__).resolve().parents[4] / "conf" / "codec"
SECTIONS = {"JanusVQVAE": ImageCodec, "EncodecModel": AudioCodec, "Emu3VQVAE": VideoCodec}


def fields(name: str, **changes: Any) -> dict[str, Any]:
    return yaml.safe_load((CONF / f"{name}.yaml").read_text()) | changes


def section(name: str, **changes: Any) -> ImageCodec | AudioCodec | VideoCodec:
    values = fields(name, **changes)
    return SECTIONS[values["network"]].model_validate(values)


def picture(number: int, height: int = 120, width: int = 160) -> Picture:
    draw = np.random.default_rng(number)
    down, across = np.mgrid[0:height, 0:width]
    slope_down, slope_across, phase = draw.uniform(0.01, 0.3, (3, 3))
    waves = np.sin(down[..., None] * slope_down + across[..., None] * slope_across + 20 * phase)
    pixels = (127 + 120 * waves).astype(np.uint8)
    pixels[height // 4 : height // 2, number % 50 : number % 50 + width // 3] = draw.integers(0, 255, 3)
    return pixels


def sound(number: int, seconds: float = 2.0, rate_hz: int = 16000, channels: int = 1) -> Sound:
    draw = np.random.default_rng(number)
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    tones = [draw.uniform(0, 0.4) * np.sin(2 * np.pi * draw.uniform(80, 3000) * time) for _ in range(4)]
    samples = sum(tones) * np.exp(-time * draw.uniform(0, 2)) + draw.normal(0, 0.02, (channels, len(time)))
    return Sound(samples.astype(np.float32), rate_hz)


def clip(number: int, num_frames: int = 16, frame_rate: float = 8.0) -> Clip:
    first = picture(number, 72, 96)
    return Clip(np.stack([np.roll(first, 3 * step, axis=1) for step in range(num_frames)]), frame_rate)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """As in a build; the figures below do not depend on the machine's cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def demo_codec() -> Callable[[str], Codec]:
    """The shipped demo codec of a modality."""
    made: dict[str, Codec] = {}

    def get(modality: str) -> Codec:
        if modality not in made:
            made[modality] = build_codec(section(f"{modality}_demo"))
        return made[modality]

    return get


@pytest.fixture(scope="session")
def signal() -> Callable[[str, int], Any]:
    makers: dict[str, Callable[[int], Any]] = {"image": picture, "audio": sound, "video": clip}
    return lambda modality, number: makers[modality](number)


@pytest.fixture
def make_section() -> Callable[..., Any]:
    return section


@pytest.fixture
def make_sound() -> Callable[..., Sound]:
    return sound


@pytest.fixture
def make_clip() -> Callable[..., Clip]:
    return clip


@pytest.fixture
def make_picture() -> Callable[..., Picture]:
    return picture
