"""The machines of a frozen run, as cheaply as a sweep of thousands needs it: one section of its config.yaml."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import yaml

from mmhydra.run.directory import FROZEN_CONFIG, Attempt


@dataclass(frozen=True)
class Machines:
    """Of the `cluster` section. None where it does not say."""

    kind: str | None = None
    num_gpus: int | None = None
    usd_per_gpu_hour: float = 0.0
    slurm_conf: str | None = None


def read_machines(attempt: Attempt) -> Machines:
    """The machines of an attempt; nothing is known of one whose config can't be read."""
    try:
        text = (attempt.path / FROZEN_CONFIG).read_bytes()
    except OSError:
        return Machines()
    begin = text.find(b"\ncluster:\n") + 1
    if not begin:
        return Machines()
    # It ends before the next line that is not indented; points of a sweep share few of them, so each is parsed once.
    end = begin + len(b"cluster:\n")
    while end < len(text) and text[end : end + 1] in (b" ", b"\n", b"-"):
        end = text.find(b"\n", end) + 1 or len(text)
    return _parsed(text[begin:end])


@lru_cache(maxsize=256)
def _parsed(section: bytes) -> Machines:
    try:
        cluster: Any = yaml.load(section, Loader=yaml.CSafeLoader)["cluster"]
        nodes, gpus = cluster.get("nodes"), cluster.get("gpus_per_node")
        slurm = cluster.get("slurm") or {}
        return Machines(
            kind=cluster.get("kind"),
            num_gpus=nodes * gpus if isinstance(nodes, int) and isinstance(gpus, int) else None,
            usd_per_gpu_hour=float(cluster.get("usd_per_gpu_hour") or 0.0),
            slurm_conf=slurm.get("slurm_conf"),
        )
    except (yaml.YAMLError, AttributeError, TypeError, ValueError, KeyError):
        return Machines()
