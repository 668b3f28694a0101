"""The typed border: RunConfig, its rules, and its one text form."""

from mmhydra.config.frozen import FrozenConfigError, config_sha256, from_yaml, to_yaml
from mmhydra.config.rules import Problem, check
from mmhydra.config.schema import RunConfig

__all__ = ["FrozenConfigError", "Problem", "RunConfig", "check", "config_sha256", "from_yaml", "to_yaml"]
