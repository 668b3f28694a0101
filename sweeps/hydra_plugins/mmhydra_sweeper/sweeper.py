"""A sweeper that starts nothing by itself: it says which points Hydra makes of a command line, and of which study."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import CompactHydraException
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

STUDY = "sweep"
# `launch_sweep` of the task function: from a study's name and points to the exit code of each point of the sweep.
LaunchSweep = Callable[[str | None, Sequence[Sequence[str]]], Sequence[int]]


@dataclass
class MmhydraSweeperConf:
    """As of Hydra's own sweeper, but that `params` may be added to on the command line.

    All points are checked before the first starts, so batches have no meaning.
    """

    _target_: str = "hydra_plugins.mmhydra_sweeper.sweeper.MmhydraSweeper"
    max_batch_size: int | None = None
    params: dict[str, str] = field(default_factory=dict)


ConfigStore.instance().store("mmhydra", MmhydraSweeperConf, group="hydra/sweeper", provider="mmhydra")


class MmhydraSweeper(BasicSweeper):
    """The points are those of Hydra's own sweeper, in its order; mmhydra runs them."""

    launch_sweep: LaunchSweep

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Raises CompactHydraException, which Hydra prints without a traceback, in an application that is not ours."""
        launch_sweep = getattr(task_function, "launch_sweep", None)
        if launch_sweep is None:
            raise CompactHydraException(
                "hydra/sweeper=mmhydra runs sweeps of mmhydra alone, and this is another application; "
                "type python -m mmhydra.train -m ..., or hydra/sweeper=basic here"
            )
        self.launch_sweep = launch_sweep
        self.hydra_context = hydra_context
        self.config = config

    def sweep(self, arguments: list[str]) -> Any:
        """Runs or submits all points. `sweep=NAME` among the arguments names a study, whose points they go into.

        Raises CompactHydraException if it names anything else than one study.
        """
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        named = [override for override in overrides if override.key_or_group == STUDY]
        study: str | None = None
        for override in named:
            value = override.value()
            if isinstance(value, int | float):  # true, 12 and 1e3 are names too
                value = (override.input_line or "").partition("=")[2].strip()
            if override.is_sweep_override() or override.is_delete() or not isinstance(value, str | None):
                raise CompactHydraException(
                    f"{override.input_line}: a sweep is made of one study; type sweep=NAME of a file in sweeps/, "
                    "and -m again for another one"
                )
            study = value
        rest = [override for override in overrides if override.key_or_group != STUDY]
        (points,) = self.split_arguments(rest, None)
        return self.launch_sweep(study, points)
