"""What the rules may know beside the config: the clusters there are, and what the data at hand holds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from mmhydra.config.cluster import Cluster


class TokenCount(NamedTuple):
    """Tokens of one source of one dataset version; `largest_unit` of them no cut may part."""

    train: int
    heldout: int
    largest_unit: int = 1


@dataclass(frozen=True)
class Facts:
    """`clusters` are the choices of the group, so that a message can name those that fit.

    `tokens` counts each (dataset, source) that is at hand; rules about tokens keep silent on others.
    """

    clusters: Mapping[str, Cluster] = field(default_factory=dict)
    tokens: Mapping[tuple[str, str], TokenCount] = field(default_factory=dict)
