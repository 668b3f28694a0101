"""A crawl by yt-dlp (options of source 004, B.2.1): its command, for a person to run.

Nothing here opens a connection or starts a process.
"""

import re
import shlex
from collections.abc import Sequence
from urllib.parse import urlsplit

from mmhydra.config.crawl import Crawl
from mmhydra.errors import UserError

_VIDEO_ID = re.compile(r"[A-Za-z0-9_-]{11}", re.ASCII)
_WATCH = "https://www.youtube.com/watch?v="
_PRINTABLE_ASCII = re.compile(r"[!-~]+")


class CrawlError(UserError):
    """What to crawl is neither an id nor an address, or its options contradict each other."""


def render(crawl: Crawl, what: Sequence[str]) -> str:
    """The shell command for video ids or addresses, an option a line. Raises CrawlError.

    All values are quoted for POSIX shells, and everything to fetch stands after `--`, so none is taken for an option.
    """
    if not what:
        raise CrawlError("nothing to crawl; type video ids or addresses")
    if crawl.extract_audio and not crawl.keep_video and "video" in crawl.format:
        # yt-dlp deletes the video when the sound is out of it: a crawl of both would end without pictures.
        note = "# extract_audio without keep_video: the sound stays, the video is deleted\n"
    else:
        note = ""
    lines = ["yt-dlp", *(_option(*option) for option in _options(crawl)), "--"]
    lines += [shlex.quote(address_of(item)) for item in what]
    return note + " \\\n  ".join(lines) + "\n"


def _option(name: str, value: str | None = None) -> str:
    # As one word: a value that begins with a dash stays a value.
    return name if value is None else f"{name}={shlex.quote(value)}"


def _options(crawl: Crawl) -> list[tuple[str] | tuple[str, str]]:
    options: list[tuple[str] | tuple[str, str]] = []
    for is_on, name in (
        (crawl.ignore_errors, "--ignore-errors"),
        (crawl.write_sub, "--write-sub"),
        (crawl.write_auto_sub, "--write-auto-sub"),
        (crawl.extract_audio, "--extract-audio"),
        (crawl.extract_audio and crawl.keep_video, "--keep-video"),
        (crawl.write_info_json, "--write-info-json"),
    ):
        if is_on:
            options.append((name,))
    if crawl.download_archive is not None:
        options.append(("--download-archive", crawl.download_archive))
    if crawl.sub_langs:
        options.append(("--sub-langs", ",".join(crawl.sub_langs)))
    if crawl.extract_audio:
        options += [("--audio-format", crawl.audio_format), ("--audio-quality", str(crawl.audio_quality))]
    return [*options, ("--format", crawl.format), ("--output", crawl.output)]


def address_of(item: str) -> str:
    """An http(s) address as it is; a video id (11 characters) as YouTube's address of it. Raises CrawlError."""
    if _VIDEO_ID.fullmatch(item):
        return _WATCH + item
    problem = f"cannot crawl {item!r}: neither a video id (11 letters, digits, - or _) nor an http(s) address"
    if not _PRINTABLE_ASCII.fullmatch(item):
        raise CrawlError(f"{problem}; addresses have no spaces and no characters beyond ASCII: percent-encode them")
    try:
        parts = urlsplit(item)
        host = parts.hostname
        _ = parts.port
    except ValueError as error:
        raise CrawlError(f"{problem} ({error})") from error
    if parts.scheme not in ("http", "https") or not host:
        raise CrawlError(problem)
    if parts.username is not None or parts.password is not None:
        raise CrawlError(f"{problem}; an address with a name and password would stand in the shell's history")
    return item
