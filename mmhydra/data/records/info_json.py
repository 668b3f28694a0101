"""yt-dlp's NAME.info.json, and the files beside it, as a record."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mmhydra.data.records.record import Record
from mmhydra.errors import UserError

_SUFFIX = ".info.json"
_VIDEOS, _SOUNDS, _CAPTIONS = (".mp4", ".mkv", ".webm"), (".wav", ".flac", ".ogg", ".opus", ".mp3"), (".vtt", ".srt")


class InfoJsonError(UserError):
    """No info.json of yt-dlp, or nothing was fetched beside it."""


def record_of_info_json(path: Path) -> Record:
    """The record of one crawled item, its paths relative to the folder of `path`.

    Captions in the item's own language come first, then the first by name. What the file does not say is left out:
    a licence above all, without which the license filter refuses the record. Raises InfoJsonError.
    """
    if not path.name.endswith(_SUFFIX):
        raise InfoJsonError(f"{path}: yt-dlp's files are named NAME{_SUFFIX}")
    try:
        info = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InfoJsonError(f"{path}: cannot read it ({error})") from error
    if not isinstance(info, dict) or not isinstance(info.get("id"), str):
        raise InfoJsonError(f"{path}: no info.json of yt-dlp: it has no id")
    data_paths = _beside(path, info)
    modalities: list[str] = [name for name in ("audio", "video") if name in data_paths]
    if not modalities:
        raise InfoJsonError(f"{path}: no sound or video beside it ({', '.join((*_VIDEOS, *_SOUNDS))})")
    if "captions" in data_paths:
        modalities.insert(0, "text")
    extractor = str(info.get("extractor_key") or info.get("extractor") or "unknown").lower()
    fields = {
        "unique_id": f"{extractor}_{info['id']}",
        "source": extractor,
        "source_uri": _text(info, "webpage_url") or "",
        "modalities": modalities,
        "data_paths": data_paths,
        "metadata": _metadata(info, "video" in data_paths),
        "processing_log": [{"stage": "crawl", "status": "success"}],
        "data_card_info": {"collection_process": f"yt-dlp {_version(info)}"},
    }
    try:
        return Record.model_validate(fields)
    except ValidationError as error:
        fault = error.errors()[0]
        raise InfoJsonError(f"{path}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}") from error


def _beside(path: Path, info: Mapping[str, Any]) -> dict[str, str]:
    stem = path.name.removesuffix(_SUFFIX)
    names = sorted(other.name for other in path.parent.iterdir() if other.name.startswith(f"{stem}."))
    # NAME.f137.mp4 is half of a download, a stream that was not joined yet.
    found = {
        "video": [name for name in names if name in {stem + suffix for suffix in _VIDEOS}],
        "audio": [name for name in names if name in {stem + suffix for suffix in _SOUNDS}],
        "captions": _own_language_first([name for name in names if name.endswith(_CAPTIONS)], stem, info),
    }
    return {key: values[0] for key, values in found.items() if values}


def _own_language_first(names: Sequence[str], stem: str, info: Mapping[str, Any]) -> list[str]:
    language = _text(info, "language") or ""
    return sorted(names, key=lambda name: (not language or not name.startswith(f"{stem}.{language}"), name))


def _metadata(info: Mapping[str, Any], has_video: bool) -> dict[str, Any]:
    width, height, seconds = (info.get(key) for key in ("width", "height", "duration"))
    stated = {
        "title": _text(info, "title"),
        "description": _text(info, "description"),
        "license": _text(info, "license"),
        "upload_date": _text(info, "upload_date"),
        "language": _text(info, "language"),
        "duration_seconds": seconds if isinstance(seconds, (int, float)) and not isinstance(seconds, bool) else None,
        "resolution": {"width": width, "height": height} if has_video and width and height else None,
    }
    return {key: value for key, value in stated.items() if value is not None}


def _text(info: Mapping[str, Any], key: str) -> str | None:
    value = info.get(key)
    return value if isinstance(value, str) else None


def _version(info: Mapping[str, Any]) -> str:
    version = info.get("_version")
    return str(version.get("version", "")) if isinstance(version, dict) else ""
