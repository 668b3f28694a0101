"""Sounds: rates, channels, chunks, patterns, and the library's own ids."""

import numpy as np
import pytest
import soxr
import torch

from mmhydra.data.codecs import CodecError, build_codec
from mmhydra.data.records.media import Sound


def of_library(codec, samples: np.ndarray) -> np.ndarray:
    """Codes [frames, K] of mono samples at the codec's rate."""
    with torch.no_grad():
        output = codec.model.encode(torch.from_numpy(samples)[None, None], bandwidth=None)
    return output.audio_codes[0, 0].T.numpy()


def test_ids_are_those_of_the_library_frame_by_frame(demo_codec, make_sound) -> None:
    codec = demo_codec("audio")
    sound = make_sound(1, seconds=3.01, rate_hz=8000)
    codes = of_library(codec, sound.samples[0])
    assert len(codes) == 76  # 75.25 frames
    np.testing.assert_array_equal(codec.encode(sound), (codes + np.array([0, 256])).reshape(-1))


def test_channels_are_mixed_and_rates_changed_by_soxr(demo_codec, make_sound) -> None:
    codec = demo_codec("audio")
    sound = make_sound(2, rate_hz=44100, channels=2)
    mono = soxr.resample(sound.samples.mean(axis=0), 44100, 8000)
    np.testing.assert_array_equal(codec.encode(sound), codec.encode(Sound(mono[None], 8000)))
    np.testing.assert_array_equal(codec.encode(sound), (of_library(codec, mono) + np.array([0, 256])).reshape(-1))


def test_each_chunk_is_encoded_by_itself(make_section, make_sound) -> None:
    codec = build_codec(make_section("audio_demo", chunk_s=1.0))
    sound = make_sound(3, seconds=2.5, rate_hz=8000)
    pieces = [codec.encode(Sound(sound.samples[:, start : start + 8000], 8000)) for start in (0, 8000, 16000)]
    np.testing.assert_array_equal(codec.encode(sound), np.concatenate(pieces))
    decoded = codec.decode(codec.encode(sound))
    np.testing.assert_array_equal(decoded.samples, np.concatenate([codec.decode(p).samples for p in pieces], axis=1))


def test_the_delay_pattern_decodes_to_the_same_sound(make_section, make_sound) -> None:
    flat, late = (build_codec(make_section("audio_demo", pattern=pattern)) for pattern in ("flat", "delay"))
    sound = make_sound(4, seconds=12.0)  # more than a chunk
    plain, delayed = flat.encode(sound), late.encode(sound)
    assert len(delayed) == len(plain) + late.unit  # K - 1 rows more
    assert late.unit == flat.unit == 2
    np.testing.assert_array_equal(delayed.reshape(-1, 2)[:-1, 0], plain.reshape(-1, 2)[:, 0])
    np.testing.assert_array_equal(delayed.reshape(-1, 2)[1:, 1], plain.reshape(-1, 2)[:, 1])
    np.testing.assert_array_equal(late.decode(delayed).samples, flat.decode(plain).samples)
    assert late.digest != flat.digest


@pytest.mark.parametrize("num_samples", [1, 2, 319, 320, 321, 80_000, 80_001])
def test_sounds_of_any_length_become_whole_frames(num_samples, demo_codec) -> None:
    codec = demo_codec("audio")
    samples = np.random.default_rng(0).normal(0, 0.1, (1, num_samples)).astype(np.float32)
    ids = codec.encode(Sound(samples, 8000))
    frames = -(-num_samples // 320)
    assert len(ids) == 2 * frames
    decoded = codec.decode(ids)
    assert decoded.samples.shape == (1, 320 * frames)
    assert decoded.samples.dtype == np.float32
    assert decoded.rate_hz == 8000


def test_tokens_per_second_is_what_comes_out(demo_codec, make_sound) -> None:
    codec = demo_codec("audio")
    assert len(codec.encode(make_sound(5, seconds=4.0))) == 4 * codec.tokens_per_second == 200
    assert codec.step_s * codec.tokens_per_second == codec.unit


@pytest.mark.parametrize(
    ("samples", "rate_hz", "told"),
    [
        (np.zeros((1, 0)), 8000, "samples"),
        (np.zeros(10), 8000, "samples"),
        (np.zeros((1, 10)), 0, "at 0 Hz"),
        (np.full((1, 10), np.nan), 8000, "no numbers"),
        (np.zeros((1, 1)), 96_000, "shorter than one"),
    ],
)
def test_what_is_no_sound_is_refused(samples, rate_hz, told, demo_codec) -> None:
    with pytest.raises(CodecError, match=told):
        demo_codec("audio").encode(Sound(samples.astype(np.float32), rate_hz))
