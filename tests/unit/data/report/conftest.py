"""A rich manifest, decoded examples, and a browser: without one its tests are skipped, loudly; under CI they fail."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from report_data import manifest_document, moving_gif, png, wav

from mmhydra.data.report.examples import Example, MediaExample
from mmhydra.data.shards.manifest import Manifest

NO_BROWSER_KEY = pytest.StashKey[str]()
_NO_BROWSER = "no chromium on the PATH: apt-get install --no-install-recommends chromium"


def pytest_configure(config: pytest.Config) -> None:
    config.stash[NO_BROWSER_KEY] = ""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if why := config.stash.get(NO_BROWSER_KEY, ""):
        terminalreporter.section("BROWSER TESTS DID NOT RUN", sep="!", red=True, bold=True)
        terminalreporter.write_line(f"BROWSER TESTS DID NOT RUN: {why}", red=True, bold=True)


@pytest.fixture(scope="session")
def chromium(request: pytest.FixtureRequest) -> str:
    """The path of the browser."""
    found = shutil.which("chromium")
    if found is None:
        request.config.stash[NO_BROWSER_KEY] = _NO_BROWSER
        if os.environ.get("CI"):
            pytest.fail(_NO_BROWSER)
        pytest.skip(_NO_BROWSER)
    return found


@pytest.fixture
def document() -> dict[str, Any]:
    """A manifest as JSON that a test may change."""
    return manifest_document()


@pytest.fixture
def manifest(document: dict[str, Any]) -> Manifest:
    """The manifest, read strictly as from a file."""
    return Manifest.model_validate_json(json.dumps(document))


@pytest.fixture
def examples(tmp_path: Path) -> list[Example]:
    """One of each kind of medium, as bytes and as files."""
    picture = tmp_path / "examples" / "picture.png"
    picture.parent.mkdir()
    picture.write_bytes(png((200, 60, 40)))
    shown = "<|image_start|>[image, 256 ids]<|image_end|>A red square, and nothing else.<|endoftext|>"
    return [
        Example("stdlib_docs", "text", "# json\n\nJSON (JavaScript Object Notation)\n```\nfences\n```\n<|endoftext|>"),
        Example("pictures", "image_then_text", shown, [MediaExample("image", picture, "decoded from 256 ids")]),
        Example("sounds", "audio_then_text", "<|audio_start|>…", [MediaExample("audio", wav(), "0.5 s")]),
        Example("clips", "video_captions", "[00:00.0] 红色圆形", [MediaExample("video", moving_gif(), "5 frames")]),
        Example("clips", "six_cameras", "…", [MediaExample("video", b"no file of any kind", "camera_front")]),
    ]
