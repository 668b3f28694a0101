"""Pictures: the square that is cut, the library's own ids, the lengths of codes."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

from mmhydra.data.codecs import CodecError
from mmhydra.data.codecs.pictures import from_network, square, to_network


@pytest.mark.parametrize(("height", "width"), [(120, 160), (160, 120), (64, 64), (1, 500), (3, 2)])
def test_ids_are_those_of_the_library_for_the_centred_square(height, width, demo_codec, make_picture) -> None:
    codec = demo_codec("image")
    picture = make_picture(1, height, width)
    side = min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)
    fitted = Image.fromarray(picture).resize((64, 64), Image.Resampling.BICUBIC, box=box)
    pixels = torch.from_numpy(np.asarray(fitted).copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        expected = codec.model.encode(pixels).image_tokens.numpy()
    np.testing.assert_array_equal(codec.encode(picture), expected)
    assert len(expected) == codec.tokens_per_image == codec.unit == 64


def test_decoding_is_the_library_s(demo_codec, make_picture) -> None:
    codec = demo_codec("image")
    ids = codec.encode(make_picture(2))
    with torch.no_grad():
        output = codec.model.decode(torch.from_numpy(ids)[None])[0].permute(1, 2, 0)
    decoded = codec.decode(ids)
    assert decoded.shape == (64, 64, 3)
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, ((output + 1) * 127.5).round().clamp(0, 255).numpy().astype(np.uint8))
    assert (decoded != codec.decode(codec.encode(make_picture(3)))).any()


def test_codes_are_nearest_by_direction_as_in_llamagen(demo_codec, make_picture) -> None:
    codec = demo_codec("image")
    pixels = to_network(square(make_picture(4), 64, "bicubic")[None])
    with torch.no_grad():
        latents = codec.model.quant_conv(codec.model.encoder(pixels))[0].flatten(1).T
        directions = normalize(latents, dim=-1) @ normalize(codec.model.quantize.embedding.weight, dim=-1).T
    np.testing.assert_array_equal(codec.encode(make_picture(4)), directions.argmax(dim=-1).numpy())


def test_bytes_come_back_from_the_network_s_range() -> None:
    pixels = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    values = to_network(pixels)
    assert values.min() == -1
    assert values.max() == 1
    np.testing.assert_array_equal(from_network(values), pixels)
    assert from_network(torch.tensor([-3.0, 3.0, 0.0]).reshape(1, 3, 1, 1)).tolist() == [[[[0, 255, 128]]]]


@pytest.mark.parametrize("shape", [(0, 5, 3), (4, 4), (4, 4, 4)])
def test_what_is_no_picture_is_refused(shape, demo_codec) -> None:
    with pytest.raises(CodecError, match="a picture is uint8"):
        demo_codec("image").encode(np.zeros(shape, np.uint8))


def test_two_pictures_are_not_one(demo_codec, make_picture) -> None:
    ids = demo_codec("image").encode(make_picture(5))
    with pytest.raises(CodecError, match="128 ids are more than one picture of 64"):
        demo_codec("image").decode(np.concatenate([ids, ids]))
