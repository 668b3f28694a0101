"""The `dataset` group: the recipe of one dataset version, from records to shards. It is no part of a run's config:
a run names the version, and its manifest carries the recipe."""

from typing import Annotated, Literal

from pydantic import Field

from mmhydra.config.base import Count, Folder, Name, PositiveCount, PositiveFloat, Section
from mmhydra.config.codecs import Codecs
from mmhydra.config.filters import DecontaminationFilter, Filter, MediaLimits, ToxicityFilter
from mmhydra.config.templates import Template
from mmhydra.config.tokens import Tokens


class RecordSource(Section):
    """Records of one kind, which become documents by the same templates."""

    name: Name
    description: str
    modality: Literal["text", "image", "audio", "video", "image_text", "audio_text", "video_text"]
    records: Annotated[list[str], Field(min_length=1)]  # JSONL or Parquet: paths or globs below records_dir
    templates: Annotated[list[Template], Field(min_length=1)]


class DemoRecords(Section):
    """Records that are written on the spot: text of Python's standard library, drawn pictures, synthesized sounds."""

    kind: Literal["demo"]
    corpus_mb: PositiveFloat  # 10^6 bytes of text
    media: Count  # captioned pictures; the number of other media follows from it


class TestRecords(Section):
    """A few hundred records that exercise every reason for a reject."""

    __test__ = False  # no test class, whatever its name

    kind: Literal["testset"]


class Recipe(Section):
    """How one dataset version is made. Equal recipes, records and versions make equal shards."""

    name: Name  # the folder below paths.data
    sources: Annotated[list[RecordSource], Field(min_length=1)]
    records_dir: Folder | None  # null: where `generate` writes
    generate: DemoRecords | TestRecords | None
    limits: MediaLimits
    filters: list[Filter]
    codecs: Codecs
    heldout_fraction: Annotated[float, Field(ge=0, lt=1)]  # of the records, by the hash of their group or id
    shard_mb: PositiveFloat  # 10^6 bytes; 100 to 500 is usual
    chunk_mb: PositiveFloat  # 10^6 bytes that one hash covers; 4 to 64 is usual
    seq_lens: list[PositiveCount]  # for which the pack index is made along with the shards; others when first used
    seed: Count  # which template a record gets

    @property
    def filter_files(self) -> list[str]:
        """The files that filters read, relative to the folder of the records or absolute."""
        found: list[str | None] = []
        for entry in self.filters:
            if isinstance(entry, DecontaminationFilter):
                found += entry.files
            elif isinstance(entry, ToxicityFilter):
                found.append(entry.words_file)
        return [name for name in found if name is not None]


class Building(Section):
    """How a build is carried out; nothing here changes a byte of it."""

    processes: PositiveCount | Literal["auto"]  # auto: as many as this process may use cores


class BuildPaths(Section):
    """Folders."""

    data: Folder


class BuildConfig(Section):
    """Everything that one build is."""

    dataset: Recipe
    tokens: Tokens
    build: Building
    paths: BuildPaths
