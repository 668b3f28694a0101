"""A record with its files read, decoded and held against what it says about them."""

import stat
from collections.abc import Sequence
from pathlib import Path

from pydantic_core import PydanticCustomError

from mmhydra.config.filters import MediaLimits
from mmhydra.data.records.captions import parse_captions
from mmhydra.data.records.images import load_picture
from mmhydra.data.records.media import Budget, Clip, LoadedRecord, Picture, Sound
from mmhydra.data.records.reasons import BadRecord
from mmhydra.data.records.record import CLIPS, Caption, DataPaths, Record, check_placeholders
from mmhydra.data.records.sounds import load_sound
from mmhydra.data.records.videos import load_clip


def load(record: Record, folder: Path, limits: MediaLimits) -> LoadedRecord:
    """Reads what a record names, relative to `folder` (that of the record's file). Raises BadRecord.

    Nothing beyond the limits is decoded, so a process holds `limits.max_decoded_mb` a few times over at most. No file
    outside of `folder` and `limits.roots` is looked at, whichever links lead there.
    """
    _require_inside(record, folder, limits)
    paths = record.data_paths
    budget = Budget(limits.max_decoded_mb)
    text = _text(record, folder, limits)
    captions = _captions(record, folder, limits)
    images = tuple(load_picture(path, limits, budget) for path in _files(paths.get("image"), folder))
    sounds = tuple(load_sound(path, limits, budget) for path in _files(paths.get("audio"), folder))
    clips = {
        key: load_clip(_files(paths.get(key), folder), record.metadata.frame_rate, limits, budget)
        for key in CLIPS
        if paths.get(key)
    }
    _check_stated(record, images, sounds, clips, limits)
    return LoadedRecord(record, text, captions, images, sounds, clips)


def _require_inside(record: Record, folder: Path, limits: MediaLimits) -> None:
    roots = [(folder / root).resolve() for root in ("", *limits.roots)]
    for key in DataPaths.model_fields:
        for name in record.data_paths.get(key):
            try:
                real = (folder / name).resolve()
            except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: links in a circle, before Python 3.13
                raise BadRecord("missing_file", f"{name}: links that lead nowhere") from error
            if not any(real.is_relative_to(root) for root in roots):
                raise BadRecord("bad_path", f"{name} is outside of the folder of its records and of limits.roots")


def _files(paths: Sequence[str], folder: Path) -> list[Path]:
    """Files that are there and hold something."""
    found = []
    for name in paths:
        path = folder / name
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for, a device has no end
                raise BadRecord("missing_file", f"{name}: no regular file")
            open(path, "rb").close()
        except (OSError, ValueError) as error:
            raise BadRecord("missing_file", f"{name}: {getattr(error, 'strerror', None) or error}") from error
        if not status.st_size:
            raise BadRecord("empty_file", name)
        found.append(path)
    return found


def _text(record: Record, folder: Path, limits: MediaLimits) -> str | None:
    text = record.text
    if text is not None and len(text.encode()) > limits.max_text_bytes:
        raise BadRecord("text_too_large", f"{len(text.encode())} bytes, max_text_bytes is {limits.max_text_bytes}")
    for path in _files(record.data_paths.get("text"), folder):
        text = _read_text(path, limits, "corrupt_text")
        try:
            check_placeholders(text, len(record.data_paths.get("image")))
        except PydanticCustomError as error:
            raise BadRecord("placeholder_mismatch", error.message()) from error
    if text is not None and not text.strip():
        raise BadRecord("empty_text", "the text is white space alone")
    return text


def _captions(record: Record, folder: Path, limits: MediaLimits) -> tuple[Caption, ...]:
    for path in _files(record.data_paths.get("captions"), folder):
        return parse_captions(_read_text(path, limits, "corrupt_captions"), path.name)
    return tuple(sorted(record.metadata.captions or (), key=lambda caption: caption.start_s))


def _read_text(path: Path, limits: MediaLimits, reason: str) -> str:
    size = path.stat().st_size
    if size > limits.max_text_bytes:
        raise BadRecord("text_too_large", f"{path.name}: {size} bytes, max_text_bytes is {limits.max_text_bytes}")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadRecord(reason, f"{path.name}: byte {error.start}: {error.reason}") from error
    if "\0" in text:
        raise BadRecord(reason, f"{path.name}: a NUL in it")
    return text


def _check_stated(
    record: Record, images: Sequence[Picture], sounds: Sequence[Sound], clips: dict[str, Clip], limits: MediaLimits
) -> None:
    metadata = record.metadata
    seconds = [sound.seconds for sound in sounds] + [clip.seconds for clip in clips.values()]
    stated_s = metadata.duration_seconds
    for real_s in seconds if stated_s is not None else ():
        assert stated_s is not None
        if abs(real_s - stated_s) > limits.duration_tolerance_s:
            raise BadRecord("duration_mismatch", f"{real_s:.3f} s, metadata says {stated_s:g}")
    stated_hz = metadata.sample_rate_hz
    for sound in sounds if stated_hz is not None else ():
        assert stated_hz is not None
        if abs(sound.rate_hz - stated_hz) > limits.sample_rate_tolerance_hz:
            raise BadRecord("sample_rate_mismatch", f"{sound.rate_hz} Hz, metadata says {stated_hz}")
    if metadata.resolution is not None:
        stated = (metadata.resolution.height, metadata.resolution.width)
        shapes = [clip.frames.shape[1:3] for clip in clips.values()] or [picture.shape[:2] for picture in images]
        if any(shape != stated for shape in shapes):
            sizes = ", ".join(f"{shape[1]} x {shape[0]}" for shape in shapes)
            raise BadRecord("resolution_mismatch", f"{sizes}, metadata says {stated[1]} x {stated[0]}")
