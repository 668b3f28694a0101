"""Writes the demo's records: seven JSONL files and the media that they name."""

import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmhydra.data.demo.clips import captioned_clips
from mmhydra.data.demo.pictures import captioned_pictures, illustrated_texts
from mmhydra.data.demo.record_file import MADE_AT, write_lines
from mmhydra.data.demo.road import road_scenes
from mmhydra.data.demo.sounds import described_sounds
from mmhydra.data.demo.stdlib import Module, choose_modules

CODE, DOCS = "stdlib_code", "stdlib_docs"
LIBRARY_LICENSE = "PSF-2.0"


@dataclass(frozen=True)
class DemoSettings:
    """How much to make.

    `corpus_mb` is in 10^6 bytes of the standard library's text. `media` is the number of captioned pictures; there
    are half as many sounds, a quarter as many clips and illustrated texts, and a sixteenth as many scenes of six
    cameras, at least two.
    """

    corpus_mb: float
    media: int


def write_records(folder: Path, settings: DemoSettings, on_progress: Callable[[str], None]) -> None:
    """Writes the records and their media into `folder`, which is empty or does not exist.

    What is synthesized depends on the settings alone: the same JSON everywhere, and on one machine the same bytes of
    media. The text depends on the Python version too. `on_progress` gets one line at each stage. Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    on_progress(f"reading {settings.corpus_mb:g} MB of the standard library of Python {platform.python_version()}")
    modules = choose_modules(int(settings.corpus_mb * 1e6))
    write_lines(folder / "text_code.jsonl", (_text(CODE, module, module.code, "python") for module in modules))
    write_lines(
        folder / "text_docs.jsonl", (_text(DOCS, module, module.docs, "en") for module in modules if module.docs)
    )

    media = settings.media
    kinds: tuple[tuple[str, int, Callable[[Path, int], Iterable[Mapping[str, Any]]]], ...] = (
        ("pictures", media, captioned_pictures),
        ("sounds", media // 2, described_sounds),
        ("clips", media // 4, captioned_clips),
        ("interleaved", media // 4, illustrated_texts),
        ("cameras", max(2, media // 16), road_scenes),
    )
    for name, count, make in kinds:
        on_progress(f"making {count} records of {name}")
        write_lines(folder / f"{name}.jsonl", make(folder, count))


def _text(source: str, module: Module, text: str, language: str) -> dict[str, Any]:
    """A module's code or docstrings as a record. Both are of one split group, so that none gives the other away."""
    return {
        "unique_id": f"{source}-{module.path.replace('/', '.')}",
        "source": source,
        "source_uri": f"https://github.com/python/cpython/blob/v{platform.python_version()}/Lib/{module.path}",
        "modalities": ["text"],
        "data_paths": {},
        "text": text,
        "metadata": {
            "title": module.path,
            "license": LIBRARY_LICENSE,
            "language": language,
            "split_group": module.path,
        },
        "quality_scores": {},
        "processing_log": [{"stage": "read", "timestamp": MADE_AT, "status": "success"}],
        "data_card_info": {
            "collection_process": f"read from the standard library of Python {platform.python_version()}"
        },
    }
