"""A launcher that composes and starts nothing by itself: the application gets the points, checks them and runs them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import CompactHydraException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

# `launch_points` of the task function: from points to an exit code 0 for each, or what the failure of it raises.
LaunchPoints = Callable[[Sequence[Sequence[str]]], Sequence[int | Exception]]


@dataclass
class MmhydraLauncherConf:
    """Settings by the names of hydra-submitit-launcher; null is what the cluster says.

    They are here for --cfg and completion. With -m the application reads each as the key of the cluster that it
    stands for (mmhydra/compose/launcher_keys.py), before Hydra sees it, so all are null by the time of a launch.
    """

    _target_: str = "hydra_plugins.mmhydra_launcher.launcher.MmhydraLauncher"
    partition: Any = None
    timeout_min: Any = None
    nodes: Any = None
    gpus_per_node: Any = None
    cpus_per_task: Any = None
    mem_gb: Any = None
    account: Any = None
    qos: Any = None
    constraint: Any = None
    comment: Any = None
    dependency: Any = None
    exclude: Any = None
    nodelist: Any = None
    signal_delay_s: Any = None
    setup: Any = None
    srun_args: Any = None
    gres: Any = None
    additional_parameters: Any = None
    array_parallelism: Any = None


ConfigStore.instance().store("mmhydra", MmhydraLauncherConf, group="hydra/launcher", provider="mmhydra")


class _Point(JobReturn):
    """Raises what a failed point left, as Hydra's own does, but prints nothing: the run has said how it ended."""

    @property  # type: ignore[misc]  # nobody sets it
    def return_value(self) -> Any:
        """The exit code 0, or the exception of the point."""
        if self.status is JobStatus.FAILED:
            raise self._return_value
        return self._return_value


class MmhydraLauncher(Launcher):
    """Hands the points of a sweep to mmhydra."""

    def __init__(self, **settings: Any) -> None:
        self.settings = {name: value for name, value in settings.items() if value is not None}
        self.config = DictConfig({})
        self.launch_points: LaunchPoints | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Raises CompactHydraException, which Hydra prints without a traceback, in an application that is not ours."""
        self.launch_points = getattr(task_function, "launch_points", None)
        self.config = config
        if self.launch_points is None:
            raise CompactHydraException(
                "hydra/launcher=mmhydra starts runs of mmhydra alone, and this is another application; "
                "type python -m mmhydra.train -m ..., or hydra/launcher=basic here"
            )
        if self.settings:
            raise CompactHydraException(
                f"hydra.launcher.{next(iter(self.settings))} is set by a file; set the key of the cluster there, "
                "or type it on the command line"
            )

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Runs or submits the points, in order; a point that failed stops none of the others."""
        assert self.launch_points is not None
        outcomes = self.launch_points(job_overrides)
        return [
            _Point(
                overrides=overrides,
                task_name=self.config.hydra.job.name,
                status=JobStatus.FAILED if isinstance(outcome, Exception) else JobStatus.COMPLETED,
                _return_value=outcome,
            )
            for overrides, outcome in zip(job_overrides, outcomes, strict=True)
        ]
