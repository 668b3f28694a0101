"""The `track` group: who else hears of the metrics. metrics.jsonl is always written."""

from typing import Annotated

from pydantic import Field

from mmhydra.config.base import PositiveCount, Section


class Aim(Section):
    """A local Aim repository. A shared file system corrupts it (aim issues 2109, 2279)."""

    repo: str


class Prometheus(Section):
    """An exporter on the rank that writes the metrics."""

    host: str
    port: Annotated[int, Field(ge=0, le=65535)]


class TensorBoard(Section):
    """Event files."""

    logdir: str


class Track(Section):
    """Sinks that follow metrics.jsonl; null is off. They may fail without harming the run."""

    log_interval: PositiveCount  # steps between two records
    aim: Aim | None
    prometheus: Prometheus | None
    tensorboard: TensorBoard | None
