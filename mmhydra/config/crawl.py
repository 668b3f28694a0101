"""The `crawl` group: options of yt-dlp, which is never run from here."""

from typing import Annotated

from pydantic import Field

from mmhydra.config.base import Count, Folder, Section


class Crawl(Section):
    """Options of yt-dlp, by its own names."""

    ignore_errors: bool
    download_archive: Folder | None  # ids that were fetched, so that they are not again
    write_sub: bool
    write_auto_sub: bool
    sub_langs: list[Annotated[str, Field(pattern=r"^-?[A-Za-z0-9.*-]+$")]]
    extract_audio: bool
    keep_video: bool  # without it extract_audio leaves no video
    audio_format: str = Field(pattern="^(best|aac|alac|flac|m4a|mp3|opus|vorbis|wav)$")
    audio_quality: Annotated[Count, Field(le=10)]  # 0 is best
    format: Annotated[str, Field(min_length=1)]
    output: Annotated[Folder, Field(min_length=1)]  # a template: %(id)s, %(ext)s
    write_info_json: bool
