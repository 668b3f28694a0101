"""Signals as files that a person can look at and listen to."""

from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from mmhydra.data.codecs.protocol import Modality, Signal
from mmhydra.data.records.media import Clip, Sound

_STRIP_FRAMES = 16  # a strip shows at most so many frames, evenly spaced


def save_signal(path_stem: Path, modality: Modality, signal: Signal) -> list[Path]:
    """Writes a picture as .png, a sound as .wav (16 bits), a clip as .gif and a strip of its frames as .png.

    `path_stem` is the path without its ending; its folder exists. Returns the files. Raises OSError.
    """
    if modality == "audio":
        assert isinstance(signal, Sound)
        return [_save_sound(path_stem, signal)]
    if modality == "video":
        assert isinstance(signal, Clip)
        return _save_clip(path_stem, signal)
    assert isinstance(signal, np.ndarray)
    return [_save_picture(_with_ending(path_stem, ".png"), Image.fromarray(signal))]


def _save_sound(path_stem: Path, sound: Sound) -> Path:
    path = _with_ending(path_stem, ".wav")
    soundfile.write(path, np.clip(sound.samples, -1, 1).T, sound.rate_hz, subtype="PCM_16")
    return path


def _save_clip(path_stem: Path, clip: Clip) -> list[Path]:
    first, *others = [Image.fromarray(frame) for frame in clip.frames]
    moving = _with_ending(path_stem, ".gif")
    first.save(moving, save_all=True, append_images=others, duration=round(1000 / clip.frame_rate), loop=0)
    places = np.linspace(0, len(clip.frames) - 1, min(_STRIP_FRAMES, len(clip.frames))).round().astype(int)
    strip = np.concatenate([clip.frames[place] for place in places], axis=1)
    return [moving, _save_picture(_with_ending(path_stem, "_frames.png"), Image.fromarray(strip))]


def _save_picture(path: Path, picture: Image.Image) -> Path:
    picture.save(path)
    return path


def _with_ending(path_stem: Path, ending: str) -> Path:
    return path_stem.with_name(path_stem.name + ending)  # with_suffix would cut what follows a dot in a key
