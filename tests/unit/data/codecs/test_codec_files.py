"""Signals as files, read back by other libraries."""

import numpy as np
import pytest
import soundfile
from PIL import Image

from mmhydra.data.codecs import save_signal
from mmhydra.data.records.media import Clip, Sound


def test_a_picture_is_a_png(tmp_path, make_picture) -> None:
    picture = make_picture(1)
    (path,) = save_signal(tmp_path / "a.b", "image", picture)
    assert path == tmp_path / "a.b.png"
    with Image.open(path) as read:
        np.testing.assert_array_equal(np.asarray(read), picture)


@pytest.mark.parametrize("channels", [1, 2])
def test_a_sound_is_a_wav(channels, tmp_path, make_sound) -> None:
    sound = make_sound(1, channels=channels)
    loud = Sound(sound.samples * 3, sound.rate_hz)  # beyond full scale: clipped, not wrapped
    (path,) = save_signal(tmp_path / "s", "audio", loud)
    assert path == tmp_path / "s.wav"
    read, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    assert rate_hz == 16000
    np.testing.assert_allclose(read.T, loud.samples.clip(-1, 1), atol=1e-4)


@pytest.mark.parametrize("num_frames", [1, 5, 40])
def test_a_clip_is_a_gif_and_a_strip(num_frames, tmp_path) -> None:
    shades = np.linspace(0, 255, num_frames).astype(np.uint8)
    clip = Clip(np.broadcast_to(shades[:, None, None, None], (num_frames, 8, 6, 3)).copy(), 4.0)
    moving, strip = save_signal(tmp_path / "c", "video", clip)
    assert [moving.name, strip.name] == ["c.gif", "c_frames.png"]
    with Image.open(moving) as read:
        assert getattr(read, "n_frames", 1) == num_frames
        assert num_frames == 1 or read.info["duration"] == 250
    with Image.open(strip) as read:
        row = np.asarray(read)[0, ::6, 0]
    shown = min(num_frames, 16)
    assert len(row) == shown
    assert row[0] == shades[0]
    assert row[-1] == shades[-1] or shown == 1
