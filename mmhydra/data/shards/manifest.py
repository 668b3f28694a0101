"""The manifest of a dataset version: its shards, what is in them and how to tell that they are whole."""

import hashlib
import json
import shlex
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from mmhydra.data.shards.statistics import SourceStatistics
from mmhydra.errors import UserError
from mmhydra.files import write_atomic

MANIFEST_NAME = "manifest.json"


class ManifestError(UserError):
    """A manifest is missing, cannot be read or contradicts itself."""


def _inside(path: str) -> str:
    """Refuse a path that could lead out of the dataset's folder."""
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts or not path:
        raise ValueError("a path in a manifest is relative to the manifest's folder and has no '..'")
    return path


RelativePath = Annotated[str, AfterValidator(_inside)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]


class _Frozen(BaseModel):
    # Built when first used: a dry run without the data imports manifests and reads none.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Shard(_Frozen):
    """One WebDataset tar. What is derived from it lies beside it: see `mmhydra.data.shards.index`.

    `sidecars_xxh3` is the hash of those files end to end; `chunk_bytes` the size of the chunks that they hash.
    """

    path: RelativePath
    source: str
    split: str
    sha256: Sha256
    size_bytes: Count
    num_documents: Count
    num_tokens: Count
    chunk_bytes: Annotated[int, Field(ge=1)]
    sidecars_xxh3: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]


class Source(_Frozen):
    """Where documents come from, and what became of its records.

    `largest_unit` is the longest run of ids that no cut may part (an image with its start and end): a sequence has
    to be at least that long.
    """

    name: str
    description: str
    modality: str
    largest_unit: Annotated[int, Field(ge=1)] = 1
    statistics: SourceStatistics = SourceStatistics()


class Vocabulary(_Frozen):
    """The ids of the shards: 0 to `size` - 1, as `layout` (the `tokens` section of the config) says.

    `digest` covers layout and text tokenizer; `layout_digest` the layout alone, which a run's config must share.
    """

    size: Annotated[int, Field(gt=0)]
    digest: Sha256
    layout_digest: Sha256
    layout: dict[str, JsonValue]
    eod_id: Count
    tokenizer_file: RelativePath
    tokenizer_sha256: Sha256


class CodecInfo(_Frozen):
    """How ids of a modality were made: with the weights, enough to decode them."""

    settings: dict[str, JsonValue]  # the section of the config; of the weights' path the name alone
    digest: Sha256  # over settings and weights
    trained: bool
    note: str  # "untrained: plumbing only", or where the weights came from


class Manifest(_Frozen):
    """One dataset version. Equal digests mean equal shards, vocabulary and recipe."""

    schema_version: Literal[2] = 2
    dataset: str
    builder: dict[str, JsonValue]  # the recipe, its version, and the versions of what decodes and encodes
    vocabulary: Vocabulary
    sources: tuple[Source, ...]
    shards: tuple[Shard, ...]
    unigram_entropy_nats: Annotated[float, Field(ge=0, allow_inf_nan=False)]  # of the train split's labels
    codecs: dict[str, CodecInfo]

    @cached_property
    def digest(self) -> str:
        """sha256 (64 hexadecimal digits) of the canonical JSON: sorted keys, no white space, ASCII.

        Kept, as each point of a sweep asks for it, and a manifest of ten thousand shards takes a while.
        """
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode("ascii")).hexdigest()

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy, which has a digest of its own."""
        copied = super().model_copy(update=update, deep=deep)
        copied.__dict__.pop("digest", None)
        return copied

    def shards_of(self, source: str, split: str) -> tuple[Shard, ...]:
        """The shards of one source and split, in reading order. Raises ManifestError when there are none."""
        found = tuple(s for s in self.shards if s.source == source and s.split == split)
        if not found:
            there = sorted({f"{s.source}/{s.split}" for s in self.shards})
            raise ManifestError(
                f"dataset {self.dataset} has no source/split {source}/{split}; it has {', '.join(there) or 'no shards'}"
            )
        return found

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for what, values in (
            ("source", [s.name for s in self.sources]),
            ("shard", [s.path for s in self.shards]),
        ):
            if twice := [value for value, count in Counter(values).items() if count > 1]:
                raise ValueError(f"{what} {', '.join(twice)} is listed twice")
        if unknown := {s.source for s in self.shards} - {s.name for s in self.sources}:
            raise ValueError(f"shards name sources that are not listed: {', '.join(sorted(unknown))}")
        if self.vocabulary.eod_id >= self.vocabulary.size:
            raise ValueError(f"eod_id {self.vocabulary.eod_id} is not below the vocabulary's {self.vocabulary.size}")
        return self


def load_manifest(folder: Path) -> Manifest:
    """Read `folder`/manifest.json. Raises ManifestError, with each wrong field, unless it is valid."""
    path = folder / MANIFEST_NAME
    cure = "Give the folder of a dataset, which holds manifest.json and shards/"
    if (folder / "shards").is_dir():
        cure = f"Give another data folder, or remove this one and build it again: rm -r {shlex.quote(str(folder))}"
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ManifestError(
            f"no dataset in {folder}: cannot read {MANIFEST_NAME} ({error.strerror}). {cure}"
        ) from error
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, e['loc'])) or MANIFEST_NAME}: {e['msg']}" for e in error.errors()]
        raise ManifestError("\n".join([f"{path} is not a manifest of schema version 2:", *lines, cure])) from error


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `folder`/manifest.json whole or not at all. Raises OSError."""
    text = json.dumps(manifest.model_dump(mode="json"), sort_keys=True, indent=1, allow_nan=False) + "\n"
    write_atomic(folder / MANIFEST_NAME, text.encode("ascii"))
