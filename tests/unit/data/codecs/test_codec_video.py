"""Videos: which frames are taken, whole tubelets, chunks, residual codebooks, and the library's own ids."""

import numpy as np
import pytest
import torch

from mmhydra.data.codecs import CodecError, build_codec
from mmhydra.data.codecs.pictures import square, to_network
from mmhydra.data.codecs.video import sampled
from mmhydra.data.records.media import Clip

EVERYTHING = [[10**6, 10**6]]  # the library crops video ids on the wrong axes otherwise


@pytest.mark.parametrize(
    ("num_frames", "rate", "target", "expected"),
    [
        (8, 4.0, 4.0, [0, 1, 2, 3, 4, 5, 6, 7]),
        (24, 24.0, 6.0, [0, 4, 8, 12, 16, 20]),  # every fourth frame
        (30, 30.0, 4.0, [0, 7, 15, 22]),
        (60, 29.97, 4.0, [0, 7, 14, 22, 29, 37, 44, 52, 59, 59]),
        (3, 2.0, 4.0, [0, 0, 1, 1, 2, 2]),  # slower than the codec: frames stay
        (5, 4.0, 4.0, [0, 1, 2, 3, 4, 4]),  # the last frame fills the last tubelet
        (1, 30.0, 4.0, [0, 0]),
    ],
)
def test_frames_are_taken_by_time(num_frames, rate, target, expected) -> None:
    assert sampled(num_frames, rate, target, 2) == expected


def frames_of(clip: Clip) -> torch.Tensor:
    return to_network(np.stack([square(frame, 64, "bicubic") for frame in clip.frames]))[None]


def test_ids_and_frames_are_those_of_the_library(demo_codec, make_clip) -> None:
    codec = demo_codec("video")
    clip = make_clip(1, num_frames=8, frame_rate=4.0)
    with torch.no_grad():
        tokens = codec.model.encode(frames_of(clip), image_sizes=EVERYTHING).image_tokens[0]
        output = codec.model.decode(tokens[None])[0].permute(0, 2, 3, 1)
    ids = codec.encode(clip)
    assert tokens.shape == (4, 4, 4)
    np.testing.assert_array_equal(ids, tokens.flatten().numpy())
    decoded = codec.decode(ids)
    assert decoded.frame_rate == 4.0
    np.testing.assert_array_equal(decoded.frames, ((output + 1) * 127.5).round().clamp(0, 255).byte().numpy())


def test_one_residual_codebook_decodes_as_the_library_does(demo_codec, make_section, make_clip) -> None:
    """The halves of encode and decode that are ours for several codebooks, held against the library's for one."""
    several = build_codec(make_section("video_demo", num_codebooks=2))
    plain = demo_codec("video")
    clip = make_clip(2, num_frames=4, frame_rate=4.0)
    tables = [layer.codebook.embed for layer in several.model.quantize.layers]
    with torch.no_grad():
        several.model.load_state_dict(plain.model.state_dict(), strict=False)
        tables[0].copy_(plain.model.quantize.embedding.weight)
        tables[1].zero_()
    pairs = several.encode(clip).reshape(-1, 2)
    np.testing.assert_array_equal(pairs[:, 0], plain.encode(clip))
    np.testing.assert_array_equal(several.decode(pairs.reshape(-1)).frames, plain.decode(pairs[:, 0]).frames)


@pytest.mark.parametrize("num_codebooks", [2, 4])
def test_residual_codebooks_come_nearer_to_the_frames_step_by_step(num_codebooks, make_section, make_clip) -> None:
    codec = build_codec(make_section("video_demo", num_codebooks=num_codebooks))
    clip = make_clip(3, num_frames=8, frame_rate=4.0)
    ids = codec.encode(clip)
    assert len(ids) == 4 * codec.unit
    assert codec.unit == 16 * num_codebooks
    with torch.no_grad():
        latents = codec.model.quant_conv(codec.model.encoder(frames_of(clip)).permute(0, 2, 1, 3, 4)).flatten(2)
        codes = torch.from_numpy(ids.reshape(-1, num_codebooks) % codec.codebook_size).T[:, None]
        away = [
            float((latents - codec.model.quantize.decode(codes[:stages])).square().mean())
            for stages in range(1, num_codebooks + 1)
        ]
    assert away == sorted(away, reverse=True)
    assert away[-1] < 0.9 * away[0]
    assert codec.decode(ids).frames.shape == (8, 64, 64, 3)


def test_each_chunk_is_encoded_by_itself(demo_codec, make_clip) -> None:
    codec = demo_codec("video")
    clip = make_clip(4, num_frames=20, frame_rate=4.0)  # 10 steps in chunks of 4
    pieces = [codec.encode(Clip(clip.frames[start : start + 8], 4.0)) for start in (0, 8, 16)]
    np.testing.assert_array_equal(codec.encode(clip), np.concatenate(pieces))
    decoded = [codec.decode(piece).frames for piece in pieces]
    np.testing.assert_array_equal(codec.decode(np.concatenate(pieces)).frames, np.concatenate(decoded))


def test_a_cut_between_steps_leaves_the_earlier_ids_as_they_are(demo_codec, make_clip) -> None:
    codec = demo_codec("video")
    clip = make_clip(5, num_frames=8, frame_rate=4.0)
    shorter = codec.encode(Clip(clip.frames[:4], 4.0))
    np.testing.assert_array_equal(codec.encode(clip)[: len(shorter)], shorter)  # no step sees what comes later


def test_tokens_per_second_is_what_comes_out(demo_codec, make_clip) -> None:
    codec = demo_codec("video")
    assert len(codec.encode(make_clip(6, num_frames=48, frame_rate=16.0))) == 3 * codec.tokens_per_second == 96
    assert codec.step_s == 0.5


@pytest.mark.parametrize(("num_frames", "rate"), [(0, 8.0), (3, 0.0), (3, float("nan")), (3, float("inf"))])
def test_what_is_no_clip_is_refused(num_frames, rate, demo_codec) -> None:
    with pytest.raises(CodecError, match="a clip has frames and a frame rate"):
        demo_codec("video").encode(Clip(np.zeros((num_frames, 8, 8, 3), np.uint8), rate))
