"""Each kind of template, id by id: order, segments, what carries loss, and what may not be cut."""

import numpy as np
import pytest

from mmhydra.config.forms import CAMERAS
from mmhydra.data.templates import EncodedMedia, Unrenderable, describe, signals

EOD = ("special", "<|endoftext|>", True)
IMAGES = EncodedMedia(image=([1, 2, 3, 4], [511, 0, 511, 0]))
SOUND = EncodedMedia(audio=([0, 256, 1, 257, 2, 258],), units={"audio": 2}, step_s={"audio": 0.5})
CLIP = EncodedMedia(video={"video": range(10)}, units={"video": 2}, step_s={"video": 0.5})
ROAD = EncodedMedia(video={f"camera_{n}": [10 * at, 10 * at + 1] for at, n in enumerate(CAMERAS)}, units={"video": 1})


def test_plain_text(renderer, shown, cut, vocabulary):
    name, document = renderer("{text}", ["text"]).render("id", text="hé")
    assert name == "t"
    assert shown(document) == [("text", "hé", True), EOD]
    assert cut(document) == [("text", 3, 1, True, ""), ("special", 1, 1, True, "")]
    assert document.ids.dtype == np.int64
    assert document.ids[-1] == vocabulary.eod_id == 2048


def test_image_then_text(renderer, shown, cut, vocabulary):
    form = "<|image_start|>{image}<|image_end|>{text}"
    _, document = renderer(form, ["text"]).render("id", EncodedMedia(image=([7, 8],)), "A dog")
    assert shown(document) == [
        ("special", "<|image_start|>", False),
        ("image", [7, 8], False),
        ("special", "<|image_end|>", False),
        ("text", "A dog", True),
        EOD,
    ]
    assert cut(document) == [("image", 4, 4, False, ""), ("text", 5, 1, True, ""), ("special", 1, 1, True, "")]
    first = int(vocabulary.to_ids("image", 0))
    assert document.ids[:4].tolist() == [2052, first + 7, first + 8, 2053]


def test_text_then_image(renderer, shown):
    form = "{text}<|image_start|>{image}<|image_end|>"
    _, document = renderer(form, ["image"]).render("id", EncodedMedia(image=([7, 8],)), "A dog")
    assert shown(document) == [
        ("text", "A dog", False),
        ("special", "<|image_start|>", True),
        ("image", [7, 8], True),
        ("special", "<|image_end|>", True),
        EOD,
    ]


def test_each_of_several_images_is_one_unit(renderer, cut):
    _, document = renderer("<|image_start|>{image}<|image_end|>{text}", ["text", "image"]).render("id", IMAGES, "x")
    assert cut(document)[:2] == [("image", 6, 6, True, "")] * 2


def test_audio_both_ways(renderer, shown, cut):
    _, document = renderer("<|audio_start|>{audio}<|audio_end|>{text}", ["text"]).render("id", SOUND, "hum")
    assert shown(document) == [
        ("special", "<|audio_start|>", False),
        ("audio", [0, 256, 1, 257, 2, 258], False),
        ("special", "<|audio_end|>", False),
        ("text", "hum", True),
        EOD,
    ]
    assert cut(document)[:3] == [
        ("special", 1, 1, False, ""),
        ("audio", 6, 2, False, "<|audio_start|>"),
        ("special", 1, 1, False, ""),
    ]
    _, document = renderer("{text}<|audio_start|>{audio}<|audio_end|>", ["audio"]).render("id", SOUND, "hum")
    assert [loss for _, _, loss in shown(document)] == [False, True, True, True, True]


def test_video_with_captions_at_their_times(renderer, shown, cut, said):
    captions = [said(1.6, "two"), said(0.0, "one"), said(1.5, "also"), said(99, "after")]
    form = "<|video_start|>{captioned_video}<|video_end|>"
    _, document = renderer(form, ["text"]).render("id", CLIP, captions=captions)
    start, end = ("special", "<|video_start|>", False), ("special", "<|video_end|>", False)
    assert shown(document) == [
        ("text", "[00:00.0] one", True),
        start,
        ("video", [0, 1, 2, 3, 4, 5], False),
        end,
        ("text", "[00:01.5] also\n[00:01.6] two", True),
        start,
        ("video", [6, 7, 8, 9], False),
        end,
        ("text", "[01:39.0] after", True),
        EOD,
    ]
    assert cut(document)[2] == ("video", 6, 2, False, "<|video_start|>")
    assert cut(document)[6] == ("video", 4, 2, False, "<|video_start|>")


def test_a_video_that_begins_before_its_first_caption(renderer, shown, said):
    form = "<|video_start|>{captioned_video}<|video_end|>"
    _, document = renderer(form, ["video"]).render("id", CLIP, captions=[said(0.5, "x")])
    assert [(what, text) for what, text, _ in shown(document)] == [
        ("special", "<|video_start|>"),
        ("video", [0, 1]),
        ("special", "<|video_end|>"),
        ("text", "[00:00.5] x"),
        ("special", "<|video_start|>"),
        ("video", [2, 3, 4, 5, 6, 7, 8, 9]),
        ("special", "<|video_end|>"),
        ("special", "<|endoftext|>"),
    ]
    assert [loss for _, _, loss in shown(document)] == [True] * 3 + [False] + [True] * 4


def test_a_sound_with_captions_and_captions_alone(renderer, shown, said):
    captions = [said(1.0, "b"), said(0.1, "a")]
    form = "<|audio_start|>{captioned_audio}<|audio_end|>"
    _, document = renderer(form, ["text", "audio"]).render("id", SOUND, captions=captions)
    assert [text for _, text, _ in shown(document)] == [
        "[00:00.1] a",
        "<|audio_start|>",
        [0, 256, 1, 257],
        "<|audio_end|>",
        "[00:01.0] b",
        "<|audio_start|>",
        [2, 258],
        "<|audio_end|>",
        "<|endoftext|>",
    ]
    _, document = renderer("<|audio_start|>{audio}<|audio_end|>{captions}").render("id", SOUND, captions=captions)
    assert shown(document)[3] == ("text", "[00:00.1] a\n[00:01.0] b", True)


def test_interleaved_text_and_images(renderer, shown, cut):
    text = "<|image|>First<|image|>"
    _, document = renderer("{interleaved}", ["text"]).render("id", IMAGES, text)
    start, end = ("special", "<|image_start|>", False), ("special", "<|image_end|>", False)
    assert shown(document) == [
        start,
        ("image", [1, 2, 3, 4], False),
        end,
        ("text", "First", True),
        start,
        ("image", [511, 0, 511, 0], False),
        end,
        EOD,
    ]
    assert [segment[:3] for segment in cut(document)] == [
        ("image", 6, 6),
        ("text", 5, 1),
        ("image", 6, 6),
        ("special", 1, 1),
    ]
    _, document = renderer("{interleaved}", ["text"]).render("id", EncodedMedia(), "no picture")
    assert shown(document) == [("text", "no picture", True), EOD]


def test_six_cameras_by_time(renderer, shown, cut, vocabulary, tokenizer):
    form = "<|video_start|>{cameras}<|video_end|>{text}"
    _, document = renderer(form, ["video"]).render("id", ROAD, "road")
    expected = [("special", "<|video_start|>", True)]
    for step in range(2):
        for at, name in enumerate(CAMERAS):
            expected += [("special", f"<|camera_{name}|>", True), ("video", [10 * at + step], True)]
    assert shown(document) == [*expected, ("special", "<|video_end|>", True), ("text", "road", False), EOD]
    # A cut comes before a camera's special at the nearest, and the rest begins with the start of the video.
    assert cut(document)[1] == ("video", 24, 2, True, "<|video_start|>")


def test_six_cameras_one_after_another(renderer, shown, cut):
    form = "<|video_start|>" + "".join(f"<|camera_{n}|>{{camera_{n}}}" for n in CAMERAS) + "<|video_end|>{text}"
    _, document = renderer(form, ["text"]).render("id", ROAD, "road")
    assert [text for _, text, _ in shown(document)][:5] == [
        "<|video_start|>",
        "<|camera_front|>",
        [0, 1],
        "<|camera_front_left|>",
        [10, 11],
    ]
    assert [loss for _, _, loss in shown(document)] == [False] * 14 + [True, True]
    assert cut(document)[2] == ("video", 2, 1, False, "<|camera_front|>")


def test_both_orders_of_cameras_hold_the_same_signals(renderer, vocabulary, tokenizer):
    from_forms = []
    by_camera = "".join(f"<|camera_{n}|>{{camera_{n}}}" for n in CAMERAS)
    for inside in ("{cameras}", by_camera):
        _, document = renderer(f"<|video_start|>{inside}<|video_end|>").render("id", ROAD)
        found = signals(describe(document, vocabulary, tokenizer))
        from_forms.append([(signal.modality, signal.name, signal.ids.tolist()) for signal in found])
    assert from_forms[0] == from_forms[1]
    assert from_forms[0][1] == ("video", "camera_front_left", [10, 11])


def test_specials_and_words_around_text(renderer, shown):
    form = "<|im_start|>Say it: {text}<|im_end|><|ipa_phoneme|><|audio_start|>{audio}<|audio_end|>"
    _, document = renderer(form, ["text"]).render("id", SOUND, "hum")
    assert [(text, loss) for _, text, loss in shown(document)] == [
        ("<|im_start|>", True),
        ("Say it: ", False),  # the same words in every document are not learnt
        ("hum", True),
        ("<|im_end|>", True),  # goes with what it ends
        ("<|ipa_phoneme|>", False),  # goes with what follows
        ("<|audio_start|>", False),
        ([0, 256, 1, 257, 2, 258], False),
        ("<|audio_end|>", False),
        ("<|endoftext|>", True),
    ]
    _, document = renderer(form, "all").render("id", SOUND, "hum")
    assert all(loss for _, _, loss in shown(document))


def test_what_is_spelt_like_a_special_in_a_text_is_text(renderer, shown, vocabulary):
    _, document = renderer("{text}").render("id", text="<|endoftext|><|image|>")
    assert shown(document)[0] == ("text", "<|endoftext|><|image|>", True)
    assert (document.ids == vocabulary.eod_id).sum() == 1


WRONG = [
    ("{text}", EncodedMedia(), None, "no_text"),
    ("{text}", EncodedMedia(), "", "no_text"),
    ("{text}", EncodedMedia(), "\ud800", "corrupt_text"),
    ("{interleaved}", EncodedMedia(), "", "no_text"),
    ("{interleaved}", IMAGES, "one <|image|>", "placeholder_mismatch"),
    ("{interleaved}", IMAGES, "", "placeholder_mismatch"),
    ("<|image_start|>{image}<|image_end|>", EncodedMedia(), None, "no_image"),
    ("<|image_start|>{image}<|image_end|>", EncodedMedia(image=([],)), None, "no_image"),
    ("<|image_start|>{image}<|image_end|>", EncodedMedia(image=([512],)), None, "bad_codes"),
    ("<|audio_start|>{audio}<|audio_end|>", EncodedMedia(), None, "no_audio"),
    ("<|audio_start|>{audio}<|audio_end|>", EncodedMedia(audio=([1],), units={"audio": 2}), None, "bad_codes"),
    ("<|audio_start|>{captioned_audio}<|audio_end|>", SOUND, None, "no_captions"),
    ("<|audio_start|>{audio}<|audio_end|>{captions}", SOUND, None, "no_captions"),
    ("<|video_start|>{video}<|video_end|>", SOUND, None, "no_video"),
    (
        "<|video_start|>{video}<|video_end|>",
        EncodedMedia(video={"video": []}, units={"video": 2}),
        None,
        "no_video",
    ),
    ("<|video_start|>{cameras}<|video_end|>", CLIP, None, "missing_camera"),
    (
        "<|video_start|>{cameras}<|video_end|>",
        EncodedMedia(video={**ROAD.video, "camera_back": [1]}, units={"video": 1}),
        None,
        "camera_mismatch",
    ),
]


@pytest.mark.parametrize(("form", "media", "text", "reason"), WRONG, ids=[f"{w[0]} {w[3]}" for w in WRONG])
def test_records_that_a_template_can_not_hold(renderer, form, media, text, reason):
    with pytest.raises(Unrenderable) as refusal:
        renderer(form).render("id", media, text)
    assert refusal.value.reason == reason
    assert refusal.value.detail


@pytest.mark.parametrize("time", [float("nan"), float("inf")])
def test_a_caption_at_no_time(renderer, said, time):
    with pytest.raises(Unrenderable) as refusal:
        renderer("<|video_start|>{captioned_video}<|video_end|>").render("id", CLIP, captions=[said(time, "x")])
    assert refusal.value.reason == "bad_caption_time"
