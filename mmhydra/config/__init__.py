"""The typed border: RunConfig, its rules, where its values come from, and its one text form."""

from mmhydra.config.facts import Facts
from mmhydra.config.frozen import FrozenConfigError, config_sha256, from_yaml, to_yaml
from mmhydra.config.problems import ConfigError, Problem
from mmhydra.config.rules import check
from mmhydra.config.schema import RunConfig

__all__ = [
    "ConfigError",
    "Facts",
    "FrozenConfigError",
    "Problem",
    "RunConfig",
    "check",
    "config_sha256",
    "from_yaml",
    "to_yaml",
]
