"""The `loader` group: how the bytes of the shards come into the trainer, and what happens where they don't."""

from typing import Annotated, Literal

from pydantic import Field

from mmhydra.config.base import Count, Folder, Name, PositiveCount, PositiveFloat, Section

Waiting = Annotated[float, Field(ge=0)]  # seconds


class Store(Section):
    """Shards behind an fsspec URL, with a cache on a disk of the node. Manifests and pack indexes stay local."""

    url: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9+.-]*://.")]  # the folder that holds the dataset versions
    cache_dir: Folder  # a local disk; processes of one node share it
    cache_gb: PositiveFloat  # what was used longest ago makes room
    options: dict[str, str | int | float | bool]  # of the fsspec file system; keys and tokens stay in the environment


class Loader(Section):
    """Which samples are read is the data's; nothing here changes them, but for chunks that are skipped and told."""

    name: Name
    workers: Count  # threads that read ahead; 0 reads when the trainer asks
    prefetch: PositiveCount  # batches ready at most
    memory_mb: PositiveFloat  # verified chunks that a process keeps
    on_bad_chunk: Literal["fail", "retry", "skip"]  # fail: at once; retry: then fail; skip: after the retries
    retries: Count
    retry_wait_s: Waiting  # before the first retry; doubles with each
    timeout_s: PositiveFloat  # a read that takes longer has failed
    store: Store | None  # null: the shards lie below paths.data


# Runs that were frozen before there was this section go on with these values, which change no number.
LEGACY_LOADER = {
    "name": "default",
    "workers": 1,
    "prefetch": 4,
    "memory_mb": 1024.0,
    "on_bad_chunk": "retry",
    "retries": 3,
    "retry_wait_s": 1.0,
    "timeout_s": 60.0,
    "store": None,
}
