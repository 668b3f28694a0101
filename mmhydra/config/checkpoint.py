"""The `checkpoint` group: when to save, what to keep, where copies go."""

from typing import Annotated, Literal

from mmhydra.config.base import Count, Legacy, Name, NotIdentity, PositiveCount, PositiveFloat, Section

_WHEN = "saving changes no number of the run"
_PATH = "a path; identity.yaml holds the hash of its stamp"


class Remote(Section):
    """A second place for checkpoints (fsspec URL)."""

    url: str | None  # null until MMHYDRA_REMOTE is set
    every_hours: PositiveFloat


class Checkpoint(Section):
    """Checkpoints are torchtitan's DCP folders, each closed by a stamp."""

    name: Annotated[Name, NotIdentity(_WHEN)]
    enabled: Annotated[bool, NotIdentity(_WHEN)]
    interval: Annotated[PositiveCount, NotIdentity(_WHEN)]  # steps
    keep_latest: Annotated[Count, NotIdentity(_WHEN)]  # 0 keeps all, else at least 2
    keep_every_tokens: Annotated[PositiveCount | None, NotIdentity(_WHEN)]  # kept for ever, tagged
    async_mode: Annotated[Literal["disabled", "async", "async_with_pinned_mem"], NotIdentity(_WHEN)]
    on_corrupt: Annotated[Literal["previous", "refuse"], NotIdentity("decides on a resume, not on a number")]
    remote: Annotated[Remote | None, NotIdentity(_WHEN)]
    init_from: Annotated[str | None, NotIdentity(_PATH)]  # weights alone
    extend_from: Annotated[str | None, NotIdentity(_PATH), Legacy(None)]  # weights, optimizer, step and stream
