import contextlib
import os
import pickle

import numpy as np
import pytest
import soundfile
from PIL import Image

from mmhydra.config.filters import MediaLimits
from mmhydra.data.demo import testset_media as media
from mmhydra.data.demo.testset import TESTSET_LIMITS
from mmhydra.data.records.load import load
from mmhydra.data.records.reasons import BadRecord
from mmhydra.data.records.record import Record

LIMITS = MediaLimits.model_validate(TESTSET_LIMITS)


def record(modality, paths, **metadata):
    key = {"image": "image", "audio": "audio", "video": "video", "text": "text"}[modality]
    fields = {"unique_id": "a", "source": "s", "modalities": [modality], "data_paths": {key: paths}}
    return Record.model_validate({**fields, "metadata": metadata})


def loaded(tmp_path, modality, content, limits=LIMITS, **metadata):
    (tmp_path / "file").write_bytes(content)
    return load(record(modality, "file", **metadata), tmp_path, limits)


def reason(tmp_path, *arguments, **metadata):
    with pytest.raises(BadRecord) as caught:
        loaded(tmp_path, *arguments, **metadata)
    assert str(tmp_path) not in caught.value.detail  # a reject file is the same wherever the data lies
    return caught.value.reason


IMAGES = {
    **{format: media.image_file(media.picture(3), format) for format in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")},
}
SOUNDS = {
    name: media.sound_file(media.tone(3, 0.5, channels=2), format=format, subtype=subtype)
    for name, format, subtype in [
        ("WAV", "WAV", None),
        ("FLAC", "FLAC", None),
        ("VORBIS", "OGG", "VORBIS"),
        ("OPUS", "OGG", "OPUS"),
        ("MP3", "MP3", None),
    ]
}
CLIP = media.frames(3, 16)
VIDEOS = {
    "mp4": media.video_file(CLIP, 8),
    "h264": media.video_file(CLIP, 8, "mp4", "libx264"),
    "mkv": media.video_file(CLIP, 8, "matroska"),
    "webm": media.video_file(CLIP, 8, "webm", "libvpx-vp9"),
    "gif": media.animation_file(CLIP, "GIF", 120),
    "webp": media.animation_file(CLIP, "WEBP", 125),
    "apng": media.animation_file(CLIP, "PNG", 125),
}
FILES = [
    *(("image", name, content) for name, content in IMAGES.items()),
    *(("audio", name, content) for name, content in SOUNDS.items()),
    *(("video", name, content) for name, content in VIDEOS.items()),
]


@pytest.mark.parametrize("name", IMAGES)
def test_images(tmp_path, name):
    (picture,) = loaded(tmp_path, "image", IMAGES[name]).images
    assert picture.dtype == np.uint8
    assert picture.shape == (32, 48, 3)
    error = np.abs(picture.astype(int) - media.picture(3)).mean()
    assert error == 0 if name in ("PNG", "BMP", "TIFF") else error < 40


@pytest.mark.parametrize("name", SOUNDS)
def test_sounds(tmp_path, name):
    (sound,) = loaded(tmp_path, "audio", SOUNDS[name], sample_rate_hz=16_000, duration_seconds=0.5).sounds
    assert sound.samples.dtype == np.float32
    assert sound.samples.shape == (2, 8000)
    middle = slice(2000, 6000)
    assert np.abs(sound.samples.T - media.tone(3, 0.5, channels=2))[middle].mean() < 0.02


@pytest.mark.parametrize("name", VIDEOS)
def test_videos(tmp_path, name):
    clip = loaded(tmp_path, "video", VIDEOS[name], duration_seconds=2.0).clips["video"]
    assert clip.frames.shape == (16, 32, 48, 3)
    assert clip.frame_rate == pytest.approx(8, rel=0.05)
    assert np.abs(clip.frames.astype(int) - CLIP).mean() < 40


@pytest.mark.parametrize(("modality", "name", "content"), FILES)
def test_a_file_that_is_cut_off_anywhere_is_corrupt(tmp_path, modality, name, content):
    lengths = [len(content) * tenth // 10 for tenth in range(1, 10)]
    assert {length: reason(tmp_path, modality, content[:length]) for length in lengths} == dict.fromkeys(
        lengths, f"corrupt_{modality}"
    )


@pytest.mark.parametrize(("modality", "name", "content"), [file for file in FILES if file[1] != "MP3"])
def test_damaged_bytes_are_loaded_or_refused_and_nothing_else(tmp_path, modality, name, content):
    # MP3 is left out: libmpg123 prints what it skips.
    draw = np.random.default_rng(5)
    for _ in range(20):
        damaged = bytearray(content)
        for place in draw.integers(len(damaged), size=5):
            damaged[place] = draw.integers(256)
        with contextlib.suppress(BadRecord):
            loaded(tmp_path, modality, bytes(damaged))


@pytest.mark.parametrize("modality", ["image", "audio", "video"])
def test_noise_and_nothing(tmp_path, modality):
    draw = np.random.default_rng(7)
    assert reason(tmp_path, modality, b"") == "empty_file"
    for size in (1, 2, 9, 17, 300, 5000):
        assert reason(tmp_path, modality, draw.bytes(size)) == f"corrupt_{modality}"


def test_files_that_are_none(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "circle").symlink_to("circle")
    for path in ("nowhere.png", "pipe", "folder", "/dev/zero", "a" * 300, "circle"):
        with pytest.raises(BadRecord, match=r"^missing_file: "):
            load(record("image", path), tmp_path, LIMITS.model_copy(update={"roots": ["/dev"]}))


@pytest.mark.parametrize("path", ["link.txt", "linked/private.txt", "/etc/hostname", "{outside}/private.txt"])
def test_paths_that_lead_out_of_the_folder(tmp_path, path):
    folder, outside = tmp_path / "records", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    (outside / "private.txt").write_text("private")
    (folder / "link.txt").symlink_to(outside / "private.txt")
    (folder / "linked").symlink_to(outside)
    asked = record("text", path.format(outside=outside))
    with pytest.raises(BadRecord, match=r"^bad_path: .* is outside of the folder of its records and of limits\.roots"):
        load(asked, folder, LIMITS)
    for root in (str(outside), "../outside"):
        allowed = LIMITS.model_copy(update={"roots": [root]})
        if "hostname" not in path:
            assert load(asked, folder, allowed).text == "private"


def test_a_folder_of_records_may_be_a_link_itself(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_text("text")
    (tmp_path / "records").symlink_to("real")
    assert load(record("text", "file"), tmp_path / "records", LIMITS).text == "text"
    assert load(record("text", str(tmp_path / "real" / "file")), tmp_path / "records", LIMITS).text == "text"


@pytest.mark.parametrize(
    "content",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nclip.mp4\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile clip.mp4\n",
    ],
)
@pytest.mark.parametrize("name", ["list.m3u8", "list.mp4"])
def test_lists_of_other_videos_are_not_followed(tmp_path, name, content):
    (tmp_path / "clip.mp4").write_bytes(VIDEOS["mp4"])
    (tmp_path / name).write_text(content)
    with pytest.raises(BadRecord, match=r"^corrupt_video: "):
        load(record("video", name), tmp_path, LIMITS)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "LAB", "F", "I", "I;16"])
def test_any_mode_becomes_rgb(tmp_path, mode):
    size = (48, 32)
    Image.new(mode, size).save(tmp_path / "file", "TIFF")
    (picture,) = load(record("image", "file"), tmp_path, LIMITS).images
    assert picture.shape == (32, 48, 3)
    assert picture.dtype == np.uint8


def test_sixteen_bits_keep_their_brightness(tmp_path):
    Image.fromarray(np.full((32, 48), 0x8080, np.uint16)).save(tmp_path / "file", "PNG")
    (picture,) = load(record("image", "file"), tmp_path, LIMITS).images
    assert (picture == 0x80).all()


def test_transparency_is_white_and_exif_turns(tmp_path):
    image = Image.new("RGBA", (48, 32), (0, 0, 0, 0))
    image.save(tmp_path / "file", "PNG")
    assert (load(record("image", "file"), tmp_path, LIMITS).images[0] == 255).all()
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.new("RGB", (48, 32)).save(tmp_path / "file", "JPEG", exif=exif)
    assert load(record("image", "file"), tmp_path, LIMITS).images[0].shape == (48, 32, 3)


def test_the_first_frame_of_an_animation_is_the_image(tmp_path):
    (picture,) = loaded(tmp_path, "image", VIDEOS["apng"]).images
    assert (picture == CLIP[0]).all()


def test_uneven_timing_becomes_a_constant_rate(tmp_path):
    images = [Image.new("RGB", (48, 32), colour) for colour in ("red", "lime", "blue")]
    images[0].save(tmp_path / "file", "GIF", save_all=True, append_images=images[1:], duration=[100, 400, 200])
    clip = load(record("video", "file"), tmp_path, LIMITS).clips["video"]
    assert clip.frame_rate == pytest.approx(10)
    assert ["RGB"[frame[0, 0].argmax()] for frame in clip.frames] == list("RGGGGBB")


def test_bombs_are_refused_before_they_are_decoded(tmp_path):
    for width, height in ((2001, 2000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)):
        assert reason(tmp_path, "image", media.huge_png(width, height)) == "too_many_pixels"


@pytest.mark.parametrize(
    ("rate_hz", "stated_hz", "expected"),
    [(4000, None, "sample_rate_too_low"), (16_000, 24_000, "sample_rate_mismatch"), (44_100, 44_100, None)],
)
def test_sample_rates(tmp_path, rate_hz, stated_hz, expected):
    content = media.sound_file(media.tone(1, 0.5, rate_hz), rate_hz)
    stated = {} if stated_hz is None else {"sample_rate_hz": stated_hz}
    if expected:
        assert reason(tmp_path, "audio", content, **stated) == expected
    else:
        assert loaded(tmp_path, "audio", content, **stated).sounds[0].rate_hz == rate_hz


@pytest.mark.parametrize(
    ("stated_s", "is_fine"), [(0.5, True), (0.59, True), (0.61, False), (0.39, False), (0.0, False)]
)
def test_durations_within_the_tolerance(tmp_path, stated_s, is_fine):
    if is_fine:
        assert loaded(tmp_path, "audio", SOUNDS["WAV"], duration_seconds=stated_s)
    else:
        assert reason(tmp_path, "audio", SOUNDS["WAV"], duration_seconds=stated_s) == "duration_mismatch"


def test_sound_that_is_too_long_is_not_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda *_, **__: pytest.fail("decoded"))
    content = media.sound_file(media.tone(1, 11.0), format="FLAC")
    assert reason(tmp_path, "audio", content) == "too_long"


def test_the_limit_of_one_record_counts_all_of_its_media(tmp_path):
    (tmp_path / "a.png").write_bytes(media.image_file(np.zeros((1000, 1000, 3), np.uint8)))
    assert len(load(record("image", ["a.png"] * 2), tmp_path, LIMITS).images) == 2
    with pytest.raises(BadRecord, match="media_too_large: decodes to more than max_decoded_mb = 8"):
        load(record("image", ["a.png"] * 3), tmp_path, LIMITS)


def test_text_of_a_file(tmp_path):
    assert loaded(tmp_path, "text", "\ufeffStraße\r\n".encode()).text == "Straße\r\n"
    assert reason(tmp_path, "text", "Straße".encode("utf-16")) == "corrupt_text"
    assert reason(tmp_path, "text", b"x" * 20_001) == "text_too_large"


def test_a_bad_record_survives_pickling():
    error = pickle.loads(pickle.dumps(BadRecord("empty_file", "a.png")))
    assert (error.reason, error.detail) == ("empty_file", "a.png")


def test_a_sound_named_raw_is_read_by_its_content(tmp_path):
    """libsndfile's wrapper takes such a name for samples without a header, and raises TypeError."""
    (tmp_path / "a.raw").write_bytes(b"\x00\x01" * 4000)
    with pytest.raises(BadRecord) as caught:
        load(record("audio", "a.raw"), tmp_path, LIMITS)
    assert caught.value.reason == "corrupt_audio"


def test_samples_that_are_no_sound(tmp_path):
    loud = np.full((1, 24000), 3e38, np.float32)
    soundfile.write(tmp_path / "a.wav", loud.T, 24000, subtype="FLOAT")
    with pytest.raises(BadRecord, match="samples of 3e\\+38, full scale is 1"):
        load(record("audio", "a.wav"), tmp_path, LIMITS)


def test_images_whose_readers_start_other_programs_are_refused(tmp_path):
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n%%EOF\n"
    with pytest.raises(BadRecord) as caught:
        loaded(tmp_path, "image", eps)
    assert caught.value.reason == "corrupt_image"
    assert "host" not in caught.value.detail  # Ghostscript was not even looked for


@pytest.mark.parametrize("changes", [{"language": "x" * 300}, {"license": "(" * 300}])
def test_what_is_counted_by_value_stays_short(changes):
    with pytest.raises(ValueError, match="at most 200 characters"):
        record("text", "a.txt", **changes)


def test_a_caption_at_no_time_that_there_is(tmp_path):
    captions = [{"start_s": 1e308, "end_s": 1.7e308, "text": "late"}]
    with pytest.raises(ValueError, match="less than or equal to 10000000"):
        Record.model_validate(
            {"unique_id": "a", "source": "s", "modalities": ["text"], "metadata": {"captions": captions}}
        )
