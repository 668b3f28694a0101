"""torchtitan's Validator, at the steps that the config names and at the end."""

from dataclasses import dataclass

from torchtitan.components.validate import Validator


class HeldoutValidator(Validator):
    """Validates every `freq` steps and after the last one, so that a finished run has a final figure."""

    @dataclass(kw_only=True, slots=True)
    class Config(Validator.Config):
        """`last_step` is the number of steps of the run."""

        last_step: int = 0

    def should_validate(self, step: int) -> bool:
        """Whether this step ends with a validation."""
        assert isinstance(self.config, HeldoutValidator.Config)
        return step % self.config.freq == 0 or step == self.config.last_step
