"""torchtitan's Validator, at the steps that the config names and at the end."""

import time
from dataclasses import dataclass

from torch import nn
from torchtitan.components.validate import Validator

from mmhydra.titan.metrics import JsonlMetrics


class HeldoutValidator(Validator):
    """Validates every `freq` steps and after the last one, so that a finished run has a final figure."""

    @dataclass(kw_only=True, slots=True)
    class Config(Validator.Config):
        """`last_step` is the number of steps of the run."""

        last_step: int = 0

    def validate(self, model_parts: list[nn.Module], step: int) -> None:
        """Validates, outside of the step time."""
        began = time.perf_counter()
        assert isinstance(self.metrics_processor, JsonlMetrics)
        self.metrics_processor.tally.reset()
        super().validate(model_parts, step)
        self.metrics_processor.exclude(time.perf_counter() - began)

    def should_validate(self, step: int) -> bool:
        """Whether this step ends with a validation."""
        assert isinstance(self.config, HeldoutValidator.Config)
        return step % self.config.freq == 0 or step == self.config.last_step
