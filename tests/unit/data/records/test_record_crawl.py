import json
import os
import shlex
import subprocess

import pytest
from pydantic import ValidationError

from mmhydra.data.records.crawl import Crawl, render
from mmhydra.data.records.info_json import record_of_info_json
from mmhydra.errors import UserError

SETTINGS = {
    "ignore_errors": True,
    "download_archive": "./downloaded_archive.txt",
    "write_sub": True,
    "write_auto_sub": True,
    "sub_langs": ["en", "zh-Hans", "zh-Hant"],
    "extract_audio": True,
    "keep_video": True,
    "audio_format": "wav",
    "audio_quality": 0,
    "format": "bestvideo[height<=720]+bestaudio/best[height<=720]",
    "output": "/raw/youtube/%(id)s/%(id)s.%(ext)s",
    "write_info_json": True,
}


def crawl(**changes):
    return Crawl.model_validate({**SETTINGS, **changes})


def words_of(text):
    return shlex.split(text.replace("\\\n", ""))  # shlex does not join continued lines


def test_the_command_of_the_source():
    assert words_of(render(crawl(), ["dQw4w9WgXcQ"])) == [
        "yt-dlp",
        "--ignore-errors",
        "--write-sub",
        "--write-auto-sub",
        "--extract-audio",
        "--keep-video",
        "--write-info-json",
        "--download-archive=./downloaded_archive.txt",
        "--sub-langs=en,zh-Hans,zh-Hant",
        "--audio-format=wav",
        "--audio-quality=0",
        "--format=bestvideo[height<=720]+bestaudio/best[height<=720]",
        "--output=/raw/youtube/%(id)s/%(id)s.%(ext)s",
        "--",
        "https://www.youtube.com/watch?v=dQw4w9WgXcQ",
    ]


def test_options_that_are_off_are_not_there():
    off = crawl(
        ignore_errors=False,
        download_archive=None,
        write_sub=False,
        write_auto_sub=False,
        sub_langs=[],
        extract_audio=False,
        write_info_json=False,
    )
    words = words_of(render(off, ["dQw4w9WgXcQ"]))
    assert [word.split("=")[0] for word in words[1:-2]] == ["--format", "--output"]


def test_sound_alone_of_a_video_is_said():
    text = render(crawl(keep_video=False), ["dQw4w9WgXcQ"])
    assert text.startswith("# extract_audio without keep_video: the sound stays, the video is deleted\nyt-dlp")


def test_a_shell_runs_nothing_but_the_command(tmp_path):
    # A real shell, with a yt-dlp that writes down its arguments.
    tool = tmp_path / "yt-dlp"
    tool.write_text('#!/bin/sh\nprintf "%s\\n" "$@" > arguments\n')
    tool.chmod(0o755)
    nasty = "https://example.org/?a=$(touch${IFS}owned)&b=`touch owned`;touch owned|x'\"\\".replace(" ", "%20")
    output = "/raw/$(touch owned)/it's %(id)s; touch owned"
    text = render(crawl(output=output), [nasty, "-abcdefghij"])
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run(["sh", "-c", text], cwd=tmp_path, env=environment, check=True)
    assert not (tmp_path / "owned").exists()
    arguments = (tmp_path / "arguments").read_text().splitlines()
    assert f"--output={output}" in arguments
    assert arguments[-3:] == ["--", nasty, "https://www.youtube.com/watch?v=-abcdefghij"]


@pytest.mark.parametrize(
    "item",
    [
        "--exec=rm",
        "-x",
        "",
        "dQw4w9WgXc",
        "file:///etc/passwd",
        "http://",
        "https://a b",
        "https://a\nb",
        "https://[",
        "https://user:" + "p@example.org/",
        "https://exämple.org/",
        "ytsearch10:cats",
    ],
)
def test_what_is_neither_id_nor_address_is_refused(item):
    with pytest.raises(UserError, match="cannot crawl"):
        render(crawl(), [item])


def test_nothing_to_crawl_is_refused():
    with pytest.raises(UserError, match="nothing to crawl"):
        render(crawl(), [])


@pytest.mark.parametrize("changes", [{"sub_langs": ["en;rm"]}, {"audio_format": "exe"}, {"output": ""}, {"x": 1}])
def test_wrong_options_are_refused(changes):
    with pytest.raises(ValidationError):
        crawl(**changes)


INFO = {
    "id": "dQw4w9WgXcQ",
    "extractor_key": "Youtube",
    "webpage_url": "https://www.youtube.com/watch?v=dQw4w9WgXcQ",
    "title": "A title",
    "upload_date": "20091025",
    "duration": 212,
    "width": 1280,
    "height": 720,
    "license": "Creative Commons Attribution license (reuse allowed)",
    "language": "en",
    "_version": {"version": "2023.10.13"},
}


def test_an_info_json_is_a_record(tmp_path):
    for name in ("a.mp4", "a.f137.mp4", "a.wav", "a.de.vtt", "a.en.vtt", "b.mp4"):
        (tmp_path / name).touch()
    (tmp_path / "a.info.json").write_text(json.dumps(INFO))
    record = record_of_info_json(tmp_path / "a.info.json")
    assert record.unique_id == "youtube_dQw4w9WgXcQ"
    assert record.modalities == ("text", "audio", "video")
    paths = record.data_paths.model_dump(exclude_none=True)
    assert paths == {"audio": ("a.wav",), "video": ("a.mp4",), "captions": ("a.en.vtt",)}
    assert record.metadata.upload_date == "2009-10-25"
    assert record.data_card_info == {"collection_process": "yt-dlp 2023.10.13"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "no info.json of yt-dlp"),
        ("{", "cannot read it"),
        (json.dumps(INFO), "no sound or video beside it"),
        (json.dumps({**INFO, "upload_date": "then"}), "no sound or video"),
    ],
)
def test_an_info_json_that_is_none(tmp_path, content, message):
    (tmp_path / "a.info.json").write_text(content)
    with pytest.raises(UserError, match=message):
        record_of_info_json(tmp_path / "a.info.json")
