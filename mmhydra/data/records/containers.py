"""Whether a media file is whole, by the sizes that its own container states.

Decoders take a file that was cut off for a shorter one: libsndfile does so with WAV and Ogg, FFmpeg with Matroska.
Sources: RIFF (Multimedia Programming Interface, 1991) and AIFF, RFC 3533 (Ogg), RFC 2083 (PNG), ISO/IEC 14496-12
(MP4), RFC 8794 (EBML), the Xing header as LAME writes it.
"""

import os
from pathlib import Path
from typing import IO

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_OGG_LAST_PAGE = 0x04
_OGG_LARGEST_PAGE = 65_307  # bytes
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp", b"moof", b"sidx")
_MP4_INDEX = {b"moov", b"moof", b"meta"}  # meta: of an image (AVIF)
_PNG = b"\x89PNG\r\n\x1a\n"
_XING_AT_MOST = 64  # bytes into the first frame


def cut_off(path: Path) -> str | None:
    """How a file is shorter than it says; None if it is whole, or of a kind that does not say. Raises OSError."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(16)
        if head[:4] in (b"RIFF", b"RIFX") and len(head) >= 12:
            padding = 1 if head[8:12] == b"WAVE" else 0  # which some writers count and leave out
            return _shorter(size + padding, 8 + int.from_bytes(head[4:8], "little" if head[:4] == b"RIFF" else "big"))
        if head[:4] == b"FORM" and len(head) >= 12:
            return _shorter(size + 1, 8 + int.from_bytes(head[4:8], "big"))
        if head[:4] == b"OggS":
            return _ogg(file, size)
        if head[4:8] in _MP4_BOXES:
            return _mp4(file, size)
        if head[:4] == _EBML:
            return _matroska(file, size)
        if head[:3] == b"ID3" or (head[:1] == b"\xff" and len(head) > 1 and head[1] >= 0xE0):
            return _mp3(file, size)
        if head[:8] == _PNG:
            return _png(file)
        if head[:4] == b"GIF8":
            file.seek(-1, os.SEEK_END)
            return None if file.read(1) == b";" else "a GIF without its end"
    return None


def _shorter(size: int, stated: int) -> str | None:
    # 0 and all ones: written to a pipe, length not known.
    return f"{size} of {stated} bytes" if size < stated and stated < 8 + 0xFFFFFFFF else None


def _ogg(file: IO[bytes], size: int) -> str | None:
    file.seek(max(0, size - _OGG_LARGEST_PAGE))
    tail = file.read()
    at = tail.rfind(b"OggS")
    if at < 0 or len(tail) < at + 27:
        return "an Ogg stream cut off in a page"
    num_segments = tail[at + 26]
    page = 27 + num_segments + sum(tail[at + 27 : at + 27 + num_segments])
    if len(tail) < at + page or len(tail) < at + 27 + num_segments:
        return "an Ogg stream cut off in a page"
    return None if tail[at + 5] & _OGG_LAST_PAGE else "an Ogg stream without its last page"


def _mp4(file: IO[bytes], size: int) -> str | None:
    place, kinds = 0, set()
    while place < size:
        file.seek(place)
        head = file.read(16)
        if len(head) < 8:
            return "an MP4 cut off in a box"
        length = int.from_bytes(head[:4], "big")
        kinds.add(head[4:8])
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length == 0:  # up to the end of the file
            break
        if length < 8:
            return "an MP4 with a box of no size"
        place += length
    if place > size:
        return f"{size} of {place} bytes"
    return None if kinds & _MP4_INDEX else "an MP4 without its index (moov)"


def _png(file: IO[bytes]) -> str | None:
    file.seek(len(_PNG))
    while len(head := file.read(8)) == 8:
        if head[4:] == b"IEND":
            return None if len(file.read(4)) == 4 else "a PNG without its end"
        file.seek(int.from_bytes(head[:4], "big") + 4, os.SEEK_CUR)
    return "a PNG without its end"


def _varint(file: IO[bytes]) -> int | None:
    """EBML's number; None for `unknown`."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    extra = 8 - first[0].bit_length()
    value = int.from_bytes(bytes([first[0] & (0x7F >> extra)]) + file.read(extra), "big")
    return None if value == (1 << (7 * (extra + 1))) - 1 else value


def _matroska(file: IO[bytes], size: int) -> str | None:
    file.seek(4)
    header = _varint(file)
    if header is None:
        return "a Matroska file without a header"
    file.seek(header, os.SEEK_CUR)
    if file.read(4) != _SEGMENT:
        return "a Matroska file without a segment"
    length = _varint(file)
    return None if length is None else _shorter(size, file.tell() + length)


def _mp3(file: IO[bytes], size: int) -> str | None:
    file.seek(0)
    head = file.read(10)
    start = 0
    if head[:3] == b"ID3" and len(head) == 10:  # its size has seven bits a byte
        start = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
    file.seek(start)
    frame = file.read(_XING_AT_MOST + 16)
    at = max(frame.find(b"Xing"), frame.find(b"Info"))
    if at < 0 or len(frame) < at + 16:
        return None
    flags = int.from_bytes(frame[at + 4 : at + 8], "big")
    if not flags & 2:  # does not state its bytes
        return None
    place = at + 8 + (4 if flags & 1 else 0)
    return _shorter(size, start + int.from_bytes(frame[place : place + 4], "big"))
