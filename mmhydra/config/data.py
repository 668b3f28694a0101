"""The `data` group: dataset versions, their shares, and how the demo is built."""

from typing import Annotated, Literal

from pydantic import Field

from mmhydra.config.base import (
    LABEL,
    Count,
    Element,
    Fraction,
    Legacy,
    Name,
    NotIdentity,
    PositiveCount,
    PositiveFloat,
    Section,
)

_GUARD = "a guard; it changes no number"


class Source(Element):
    """One source of one dataset version, a folder below `paths.data` that holds manifest.json."""

    name: Name
    dataset: Name
    modality: Literal["text", "image", "audio", "video", "image_text", "audio_text", "video_text"]
    weight: PositiveFloat  # share of tokens in any unit: only the proportion counts
    # How often it may be read; null is as often as `data.max_epochs` says.
    max_epochs: Annotated[PositiveFloat | None, NotIdentity(_GUARD), Legacy(None)]


class Stage(Element):
    """A stretch of training with its own shares; values change linearly from the first to the second.

    Exactly one of `steps`, `tokens` and `fraction` says how long it is.
    """

    name: Name
    steps: Annotated[PositiveCount | None, Legacy(None)]
    tokens: Annotated[PositiveCount | None, Legacy(None)]  # rounded up to whole steps, as `training.tokens` is
    fraction: Annotated[Fraction | None, Legacy(None)]  # of the steps that stages of fixed length leave
    shares: dict[str, Annotated[list[Fraction], Field(min_length=2, max_length=2)]]
    lr_multiplier: Annotated[list[PositiveFloat], Field(min_length=2, max_length=2)]


class DemoBuilder(Section):
    """Settings of the dataset that is built on the spot, if it is not there."""

    recipe: Annotated[Name, Legacy("demo-v1")]  # of the `dataset` group
    corpus_mb: PositiveFloat
    media: Annotated[Count, Legacy(0)]  # captioned pictures; other media follow from it
    heldout_fraction: Annotated[float, Field(gt=0, lt=1)]
    shard_mb: PositiveFloat

    @property
    def recipe_values(self) -> dict[str, float]:
        """What it decides of the recipe, by key below `dataset`."""
        return {
            "generate.corpus_mb": self.corpus_mb,
            "generate.media": self.media,
            "heldout_fraction": self.heldout_fraction,
            "shard_mb": self.shard_mb,
        }


class Data(Section):
    """What the model is fed."""

    name: Annotated[Name, NotIdentity(LABEL)]
    sources: Annotated[list[Source], Field(min_length=1)]
    planned_tokens: Annotated[Count | None, NotIdentity("a plan; the manifests say what there is")]
    # How often a source may be read. Up to four times is nearly as good as fresh data (arXiv 2305.16264).
    max_epochs: Annotated[PositiveFloat | None, NotIdentity(_GUARD), Legacy(None)]
    schedule: list[Stage]
    shuffle: bool
    # Chunks of a source among which samples are mixed at a time: more mix better, and need more memory.
    window_chunks: Annotated[PositiveCount, Legacy(8)]
    builder: DemoBuilder | None

    @property
    def datasets(self) -> list[str]:
        """Names of the dataset versions, each once, in order of appearance."""
        return list(dict.fromkeys(source.dataset for source in self.sources))
