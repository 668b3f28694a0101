"""The record: one item of data with its origin, its licence and the places of its media (source 004, B.2.2)."""

from datetime import date, datetime
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, model_validator
from pydantic_core import PydanticCustomError

from mmhydra.config.forms import CAMERA_PARTS, IMAGE_PLACEHOLDER

MODALITIES = ("text", "image", "audio", "video")
CLIPS = ("video", *CAMERA_PARTS)  # keys of data_paths that hold a video, or the images that are its frames


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


def _modality(value: Any) -> Any:
    if isinstance(value, str) and value not in MODALITIES:
        raise PydanticCustomError("unknown_modality", "{value} is none of {legal}", _named(value, MODALITIES))
    return value


def _named(value: str, legal: tuple[str, ...]) -> dict[str, Any]:
    return {"value": repr(value), "legal": ", ".join(legal)}


def _path(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if not value or "://" in value or ".." in PurePosixPath(value).parts:
        raise PydanticCustomError("bad_path", "{value}: {legal}", _named(value, ("a path without '..', fetched",)))
    return value


def _paths(value: Any) -> Any:
    """One path is a list of one: the two mean the same."""
    return _tuple([value] if isinstance(value, str) else value)


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _iso_date(value: Any) -> Any:
    """ISO 8601 from what crawlers and Parquet give: 20231013, 2023-10-13, a full time, a datetime."""
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    if isinstance(value, str):
        try:
            return (
                datetime.fromisoformat(value).isoformat() if len(value) > 10 else date.fromisoformat(value).isoformat()
            )
        except ValueError as error:
            raise PydanticCustomError("schema", "{value} is no ISO 8601 date", {"value": repr(value)}) from error
    return value


Path = Annotated[str, BeforeValidator(_path)]
Paths = Annotated[tuple[Path, ...], BeforeValidator(_paths), Field(min_length=1)]
Modality = Annotated[Literal["text", "image", "audio", "video"], BeforeValidator(_modality)]
IsoDate = Annotated[str, BeforeValidator(_iso_date)]
Seconds = Annotated[float, Field(ge=0, le=1e7)]  # 115 days: beyond it a time is a slip
Tag = Annotated[str, Field(max_length=200)]  # counted by value, so it has to stay short
Label = Annotated[str, Field(min_length=1, max_length=512)]


class Caption(_Part):
    """Text that belongs to a stretch of a sound or a video."""

    start_s: Seconds
    end_s: Seconds
    text: str

    @model_validator(mode="after")
    def _forwards(self) -> Self:
        if self.end_s < self.start_s:
            raise PydanticCustomError("corrupt_captions", "a caption ends before it starts")
        return self


class Resolution(_Part):
    """Pixels."""

    width: Annotated[int, Field(gt=0)]
    height: Annotated[int, Field(gt=0)]


class Metadata(_Part):
    """What is stated about an item; keys beyond these are kept as they are."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, JsonValue] = Field(init=False)

    title: str | None = None
    description: str | None = None
    license: Tag | None = None  # SPDX, or what `mmhydra.data.filters.license` knows by another name
    upload_date: IsoDate | None = None
    duration_seconds: Seconds | None = None
    resolution: Resolution | None = None  # of the image or video
    sample_rate_hz: Annotated[int, Field(gt=0)] | None = None
    language: Tag | None = None  # ISO 639-1, or what the source calls it
    frame_rate: Annotated[float, Field(gt=0, le=1000)] | None = None  # frames/s; for a video given as images
    captions: Annotated[tuple[Caption, ...], BeforeValidator(_tuple)] | None = None
    split_group: str | None = None  # records of one group go to the same split


class Step(_Part):
    """One stage that the item went through; keys beyond these are kept."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, JsonValue] = Field(init=False)

    stage: Label
    timestamp: IsoDate | None = None
    status: str | None = None


class DataPaths(_Part):
    """Files, relative to the folder of the record's file or absolute; a video may be its frames, as images."""

    text: Paths | None = None
    image: Paths | None = None
    audio: Paths | None = None
    video: Paths | None = None
    camera_front: Paths | None = None
    camera_front_left: Paths | None = None
    camera_front_right: Paths | None = None
    camera_back: Paths | None = None
    camera_back_left: Paths | None = None
    camera_back_right: Paths | None = None
    captions: Paths | None = None  # .vtt or .srt

    def get(self, key: str) -> tuple[str, ...]:
        """The paths under one key; none if the record has no such data."""
        paths: tuple[str, ...] | None = getattr(self, key)
        return paths or ()


class Record(_Part):
    """One item. Its text stands in `text` or in the file `data_paths.text`, never in both.

    Raises pydantic's ValidationError; the error's type is the reason where it is one of REASONS, else `schema`.
    """

    unique_id: Label
    source: Label
    source_uri: str = ""
    modalities: Annotated[tuple[Modality, ...], BeforeValidator(_tuple), Field(min_length=1)]
    data_paths: DataPaths = DataPaths()
    text: str | None = None
    metadata: Metadata = Metadata()
    quality_scores: dict[str, float] = {}
    processing_log: Annotated[tuple[Step, ...], BeforeValidator(_tuple)] = ()
    data_card_info: dict[str, JsonValue] = {}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        paths = self.data_paths
        if self.text is not None and paths.text:
            raise PydanticCustomError("schema", "text and data_paths.text are both there")
        if len(paths.get("text")) > 1 or len(paths.get("captions")) > 1:
            raise PydanticCustomError("schema", "text and captions are one file each")
        if self.metadata.captions is not None and paths.captions:
            raise PydanticCustomError("schema", "metadata.captions and data_paths.captions are both there")
        there = self._modalities_there()
        if set(self.modalities) != there or len(self.modalities) != len(there):
            raise PydanticCustomError(
                "modality_mismatch",
                "modalities says {said}, the data is {there}",
                {"said": ", ".join(self.modalities), "there": ", ".join(sorted(there)) or "nothing"},
            )
        if self.text is not None:
            check_placeholders(self.text, len(paths.get("image")))
        return self

    def _modalities_there(self) -> set[str]:
        paths = self.data_paths
        has_captions = self.metadata.captions is not None or bool(paths.captions)
        there = {
            "text": self.text is not None or bool(paths.text) or has_captions,
            "image": bool(paths.image),
            "audio": bool(paths.audio),
            "video": any(paths.get(key) for key in CLIPS),
        }
        return {modality for modality, is_there in there.items() if is_there}


def check_placeholders(text: str, num_images: int) -> None:
    """Refuses text whose placeholders are not as many as the images. One image may go without a placeholder."""
    found = text.count(IMAGE_PLACEHOLDER)
    if found != num_images and (found or num_images > 1):
        raise PydanticCustomError(
            "placeholder_mismatch",
            "{found} {name} in the text, {num_images} images",
            {"found": found, "name": IMAGE_PLACEHOLDER, "num_images": num_images},
        )
