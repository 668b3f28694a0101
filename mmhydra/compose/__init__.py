"""From a command line to a typed config: the only package that knows Hydra and OmegaConf, beside hydra_app."""

from mmhydra.compose.composing import compose, compose_tree, require_legal
from mmhydra.compose.loader import CONFIG_NAME, VERSION_BASE, known_clusters, known_groups, register_resolvers
from mmhydra.compose.messages import named
from mmhydra.compose.origins import provenance
from mmhydra.compose.request import DryRun, Request

__all__ = [
    "CONFIG_NAME",
    "VERSION_BASE",
    "DryRun",
    "Request",
    "compose",
    "compose_tree",
    "known_clusters",
    "known_groups",
    "named",
    "provenance",
    "register_resolvers",
    "require_legal",
]
