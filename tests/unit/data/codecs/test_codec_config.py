"""The shipped codecs hold the numbers of the design; wrong combinations say what to type."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from mmhydra.config.codecs import Codecs, codec_problems
from mmhydra.config.tokens import Tokens

CONF = Path(__file__).resolve().parents[4] / "conf"


def tokens(name: str) -> Tokens:
    return Tokens.model_validate(yaml.safe_load((CONF / "tokens" / f"{name}.yaml").read_text()))


def codecs(make_section, image=None, audio=None, video=None) -> Codecs:
    names = {"image": image, "audio": audio, "video": video}
    return Codecs.model_validate({key: name and make_section(name) for key, name in names.items()})


def test_full_size_numbers(make_section) -> None:
    image, audio, video = (make_section(name) for name in ("vqgan_f16_16384", "encodec_24khz", "video_vq_4096"))
    assert (image.tokens_per_image, image.codebook_size) == (256, 16384)
    assert (audio.frames_per_second, audio.num_codebooks, audio.codebook_size) == (75, 8, 1024)
    assert audio.bandwidth_kbps == 6.0
    assert audio.chunk_frames == 750
    assert (video.tubelet, video.codebook_size, video.num_codebooks) == ([2, 16, 16], 4096, 4)
    assert (video.tokens_per_step, video.tokens_per_second) == (1024, 3072.0)


def test_demo_numbers(make_section) -> None:
    image, audio, video = (make_section(f"{modality}_demo") for modality in ("image", "audio", "video"))
    assert (image.tokens_per_image, image.codebook_size) == (64, 512)
    assert (audio.tokens_per_second, audio.codebook_size) == (50.0, 256)
    assert (video.tokens_per_step, video.step_s) == (16, 0.5)


def test_every_shipped_codec_is_a_section(make_section) -> None:
    shipped = sorted(path.stem for path in (CONF / "codec").glob("*.yaml"))
    assert len(shipped) >= 6
    for name in shipped:
        assert make_section(name).weights is None


def test_full_codecs_fit_into_the_full_vocabulary(make_section) -> None:
    full = codecs(make_section, "vqgan_f16_16384", "encodec_24khz", "video_vq_4096")
    assert codec_problems(full, tokens("qwen_full")) == []
    small = codecs(make_section, "image_demo", "audio_demo", "video_demo")
    assert codec_problems(small, tokens("demo")) == []


def test_codebooks_of_another_size_would_mean_other_codes(make_section) -> None:
    small = codecs(make_section, "image_demo", "audio_demo", "video_demo")
    (audio,) = codec_problems(small, tokens("qwen_full"))
    assert "2 codebooks of 256, the vocabulary qwen_full 8 of 1024" in audio


def test_codes_that_do_not_fit_are_told_with_numbers(make_section) -> None:
    values = tokens("qwen_full").model_dump()
    sizes = {"image": 16000, "audio": 8192, "video": 0}
    values["ranges"] = [
        entry | {"size": sizes.get(entry["modality"], entry["size"])}
        for entry in values["ranges"]
        if sizes.get(entry["modality"], 1)
    ]
    full = codecs(make_section, "vqgan_f16_16384", "encodec_24khz", "video_vq_4096")
    image, video = codec_problems(full, Tokens.model_validate(values))
    assert image.startswith("the image codec has 1 x 16384 = 16384 ids, the vocabulary qwen_full only 16000 for image")
    assert "the video codec has 4 x 4096 = 16384 ids, the vocabulary qwen_full none for video" in video
    assert "{name: video, modality: video, size: 16384}" in video


@pytest.mark.parametrize(
    ("name", "changes", "told"),
    [
        ("image_demo", {"patch": 16}, "patch of 16 pixels, but 4 levels in channel_multiplier make 8"),
        ("image_demo", {"resolution": 60}, "resolution 60 is no multiple of patch 8"),
        ("image_demo", {"base_channels": 48}, "base_channels 48 is no multiple of 32"),
        ("image_demo", {"channel_multiplier": [1, 1, 1, 2]}, "num_res_blocks 0 leaves nothing"),
        ("image_demo", {"resample": "nearest"}, "'bilinear', 'bicubic' or 'lanczos'"),
        ("audio_demo", {"codebook_size": 1000}, "codebook_size 1000 is no power of two"),
        ("audio_demo", {"sample_rate_hz": 16001}, "sample_rate_hz 16001 is no multiple of 320"),
        ("audio_demo", {"chunk_s": 0.03}, "0.75 frames at 25 frames a second; type .* such as 0.04"),
        ("audio_demo", {"num_filters": 3}, "num_filters 3 is odd"),
        ("audio_demo", {"pattern": "late"}, "'flat' or 'delay'"),
        ("video_demo", {"tubelet": [3, 16, 16]}, "3 frames; the network halves time"),
        ("video_demo", {"tubelet": [1, 16, 16]}, "1 frames; the network halves time"),
        ("video_demo", {"tubelet": [2, 16, 8]}, "16 x 8 pixels; the network makes squares only"),
        ("video_demo", {"tubelet": [2, 8, 8]}, "tubelet of 8 pixels, but 5 levels"),
        ("video_demo", {"resolution": 72}, "resolution 72 is no multiple of the tubelet's 16 pixels"),
        ("video_demo", {"num_codebooks": 5}, "less than or equal to 4"),
        ("video_demo", {"attn_levels": [5]}, "level 5 is not as wide as the last"),
        ("video_vq_4096", {"attn_levels": [0]}, "level 0 is not as wide as the last"),
    ],
)
def test_impossible_settings_are_refused(name, changes, told, make_section) -> None:
    with pytest.raises(ValidationError, match=told):
        make_section(name, **changes)


def test_a_codec_in_the_place_of_another_is_refused(make_section) -> None:
    with pytest.raises(ValidationError, match=r"image.network\n  Input should be 'JanusVQVAE'"):
        Codecs.model_validate({"image": make_section("audio_demo").model_dump(), "audio": None, "video": None})


def test_the_sections_import_no_torch() -> None:
    code = (
        "import sys, mmhydra.config.codecs; print([m for m in ('torch', 'transformers', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
