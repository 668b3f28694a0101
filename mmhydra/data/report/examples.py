"""One decoded document of each template, for a person to look at and listen to."""

import base64
from dataclasses import dataclass, field
from pathlib import Path

MAX_EMBEDDED_BYTES = 2_000_000  # of one medium: the page stays one that a browser opens at once
_MAGIC: tuple[tuple[int, bytes, str], ...] = (  # place in the file, what stands there, media type
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF8", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (8, b"WAVE", "audio/wav"),
    (0, b"fLaC", "audio/flac"),
    (0, b"OggS", "audio/ogg"),
    (0, b"ID3", "audio/mpeg"),
    (4, b"ftyp", "video/mp4"),
    (0, b"\x1a\x45\xdf\xa3", "video/webm"),
)


@dataclass(frozen=True)
class MediaExample:
    """A picture, sound or clip decoded from ids: a file, or its bytes.

    A browser shows PNG, JPEG, GIF, WebP, WAV, FLAC, Ogg, MP3, and the MP4 and WebM whose codecs it has: an animated
    GIF, PNG or WebP is the sure way for a clip.
    """

    modality: str
    content: Path | bytes
    note: str = ""

    def read(self) -> bytes:
        """The bytes. Raises OSError."""
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()


@dataclass(frozen=True)
class Example:
    """A document of `source` made by `template`, with its text decoded and its specials spelled out."""

    source: str
    template: str
    text: str
    media: list[MediaExample] = field(default_factory=list)


def media_type(content: bytes) -> str | None:
    """The media type that the first bytes tell, or None."""
    return next((kind for place, magic, kind in _MAGIC if content[place : place + len(magic)] == magic), None)


def data_uri(content: bytes, kind: str) -> str:
    """The content inside an address, so that the page needs no second file."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
