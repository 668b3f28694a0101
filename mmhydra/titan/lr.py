"""The learning rate: torchtitan's warmup and decay, times the factor of the stage that a step is in."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torchtitan.components.optimizer import LRSchedulersContainer, OptimizersContainer

from mmhydra.config.stages import StageSpan, lr_factor


class StagedLRSchedulers(LRSchedulersContainer):
    """torchtitan's schedulers with stages. The rate follows from the step alone, so a resume needs no more than it."""

    @dataclass(kw_only=True, slots=True)
    class Config(LRSchedulersContainer.Config):
        """Warmup and decay as torchtitan has them, and the stages of the run."""

        spans: tuple[StageSpan, ...] = field(default_factory=tuple)

        def build(self, *, optimizers: OptimizersContainer, training_steps: int) -> LRSchedulersContainer:
            """The schedulers of a run's optimizers."""
            base = LRSchedulersContainer.Config.build(self, optimizers=optimizers, training_steps=training_steps)
            (shape,) = {scheduler.lr_lambdas[0] for scheduler in base.schedulers}  # type: ignore[attr-defined]
            return StagedLRSchedulers(optimizers, _times_stage(shape, self.spans))

    def apply(self) -> None:
        """Gives the optimizers the rate of the step at hand, once a checkpoint is loaded.

        The checkpoint brings the rate that its own run would have gone on with. A run that goes on from it with another
        rate or other stages would otherwise take its first step with that one.
        """
        for scheduler in self.schedulers:
            for group, rate in zip(scheduler.optimizer.param_groups, scheduler.get_last_lr(), strict=True):
                if isinstance(group["lr"], torch.Tensor):
                    group["lr"].fill_(rate)
                else:
                    group["lr"] = rate


def _times_stage(shape: Callable[[int], float], spans: tuple[StageSpan, ...]) -> Callable[[int], float]:
    def factor(epoch: int) -> float:
        """torch counts the steps that are done, so the step at hand is one more."""
        return shape(epoch) * lr_factor(spans, epoch + 1)

    return factor
