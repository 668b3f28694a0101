"""Forms that are refused when a config is read, each with the legal values; and those that are fine."""

import pytest

from mmhydra.config.templates import modalities, takes, template_problems
from mmhydra.config.tokens import Tokens

CAMERA_MAJOR = "<|video_start|><|camera_front|>{camera_front}<|camera_back|>{camera_back}<|video_end|>{text}"
RIGHT = [
    ("{text}", "all"),
    ("{text}", ["text"]),
    ("<|image_start|>{image}<|image_end|>{text}", ["text", "image"]),
    ("{text}<|image_start|>{image}<|image_end|>", ["image"]),
    ("{interleaved}", ["image"]),
    ("<|audio_start|>{captioned_audio}<|audio_end|>", ["audio"]),
    ("<|video_start|>{captioned_video}<|video_end|>{text}", ["text"]),
    ("<|video_start|>{cameras}<|video_end|>", ["video"]),
    (CAMERA_MAJOR, ["text"]),
    ("<|im_start|>{text}\n<|im_end|>", ["text"]),
    ("a < b | c > {text} <tag>", ["text"]),
]


@pytest.mark.parametrize(("form", "loss"), RIGHT)
def test_forms_that_are_right(make_template, tokens, form, loss):
    assert template_problems(make_template(form, loss), tokens) == []


WRONG = [
    (
        "<|image_strat|>{text}",
        "all",
        "is no special token of tokens=demo; did you mean <|image_start|>?",
    ),
    ("<|xyz|>{text}", "all", "legal: <|endoftext|>, <|im_start|>, "),
    ("{txt}", "all", "{txt} is no field; did you mean {text}? legal: {text}, {captions}, {interleaved}, {image}, "),
    ("{}", "all", "{} is no field; legal: {text}"),
    ("{text", "all", "a { without its other half"),
    ("text}{text}", "all", "a } without its other half"),
    ("{{text}}", "all", "a { without its other half"),
    ("words <|im_start|><|im_end|>", "all", "the form holds no field; legal: {text}"),
    ("{text}<|endoftext|>", "all", "<|endoftext|> is added to the end of every document; leave it out"),
    ("{text}{text}", "all", "{text} and {text} take the same part of a record, its text"),
    ("{text}{interleaved}", "all", "{text} and {interleaved} take the same part of a record, its text"),
    ("{image}<|image_end|>", "all", "{image} has to follow a special token that begins it"),
    ("<|image_start|> {image}<|image_end|>", "all", "with nothing between: <|image_start|>{image}<|image_end|>"),
    ("<|image_start|>{image}{text}", "all", "{image} has to be followed by the special token that ends it"),
    ("<|image_start|>{image}<|audio_start|>{audio}<|audio_end|>", "all", "{image} has to be followed by"),
    ("<|video_start|>{camera_front}<|video_end|>{camera_back}", "all", "between: <|camera_back|>{camera_back}"),
    ("<|audio_start|>{image}<|audio_end|>", "all", "<|audio_start|> begins another modality than {image}"),
    ("<|image_start|>{text}", "all", "<|image_start|> is never closed; write <|image_end|> behind"),
    ("{text}<|im_end|>", "all", "<|im_end|> closes nothing; write <|im_start|> before what it ends"),
    ("<|im_end|>{text}<|im_start|>", "all", "<|im_end|> closes nothing"),
    ("<|im_start|><|video_start|>{text}<|im_end|><|video_end|>", "all", "comes before <|video_start|> is closed"),
    ("{text}", ["image"], "loss names image, which the form does not hold; legal: all, or a list of text"),
    ("{text}", ["text", "text"], "loss names text twice"),
    ("{interleaved}", [], "loss is empty, so that nothing is learnt; legal: all, or a list of text, image"),
]


@pytest.mark.parametrize(("form", "loss", "told"), WRONG, ids=[f"{w[0]} {w[1]}" for w in WRONG])
def test_forms_that_are_refused(make_template, tokens, form, loss, told):
    problems = template_problems(make_template(form, loss, name="mine"), tokens)
    assert any(told in problem for problem in problems), problems
    assert all(problem.startswith("template mine: ") for problem in problems)


def test_all_problems_come_at_once(make_template, tokens):
    problems = template_problems(make_template("<|x|>{y}{image}", ["audio"]), tokens)
    assert len(problems) == 4


def test_a_form_needs_ranges_and_specials_that_are_declared(make_template, tokens):
    tree = tokens.model_dump()
    tree["ranges"] = [entry for entry in tree["ranges"] if entry["modality"] in ("text", "special")]
    tree["special"] = ["<|endoftext|>", "<|image_start|>", "<|video_start|>", "<|video_end|>"]
    small = Tokens.model_validate(tree)
    [special, ranges] = template_problems(make_template("{interleaved}"), small)
    assert "{interleaved} needs <|image|>, <|image_end|>, which tokens.special lacks" in special
    assert "{interleaved} is image, and tokens=demo has ranges for text, special; add a range" in ranges
    problems = template_problems(make_template("<|video_start|>{cameras}<|video_end|>"), small)
    assert any("needs <|camera_front|>, <|camera_front_left|>, " in problem for problem in problems)


def test_specials_may_be_spelt_in_any_way(make_template, tokens):
    tree = tokens.model_dump() | {"special": ["<|endoftext|>", "<i>", "<i_end>", "<i_start>"]}
    other = Tokens.model_validate(tree)
    assert template_problems(make_template("<i_start>{image}<i_end>{text}"), other) == []
    [problem] = template_problems(make_template("<i>{image}<i_end>{text}"), other)
    assert "<i_end> closes nothing; write <i_start> before what it ends" in problem


def test_what_a_form_needs_of_a_record(make_template):
    template = make_template("<|video_start|>{captioned_video}<|video_end|>{interleaved}")
    assert modalities(template) == ("video", "text", "image")
    assert takes(template) == ("video", "captions", "interleaved", "image")
    assert takes(make_template("<|video_start|>{cameras}<|video_end|>"))[0] == "camera_front"
