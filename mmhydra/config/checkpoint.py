"""The `checkpoint` group: when to save, what to keep, where copies go."""

import re
from pathlib import PurePath
from typing import Annotated, Literal, NamedTuple

from mmhydra.config.base import Count, Legacy, Name, NotIdentity, PositiveCount, PositiveFloat, Section

_WHEN = "saving changes no number of the run"
_PATH = "a path; identity.yaml holds the hash of its stamp, or the run and step that are awaited"
_AWAITED = re.compile(r"(?P<run_id>[0-9a-f]{12})/checkpoints/step-(?P<step>\d{8,})")


class Remote(Section):
    """A second place for checkpoints (fsspec URL)."""

    url: str | None  # null until MMHYDRA_REMOTE is set
    every_hours: PositiveFloat


class Awaited(NamedTuple):
    """A checkpoint that another run is still to save: the run's name and id, and the step."""

    name: str
    run_id: str
    step: int


def awaited(path: str) -> Awaited | None:
    """What a path `<outputs>/<name>/<run id>/checkpoints/step-NNNNNNNN` names; None for any other path."""
    parts = PurePath(path).parts
    match = _AWAITED.fullmatch("/".join(parts[-3:]))
    if match is None or len(parts) < 5:  # the root, and the name
        return None
    step = int(match["step"])
    return Awaited(parts[-4], match["run_id"], step) if parts[-1] == f"step-{step:08d}" else None


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
    # Whether another run is still to save what init_from or extend_from names.
    awaits: Annotated[bool, NotIdentity("identity.yaml holds the run and the step"), Legacy(False)]
