"""torchtitan's Trainer, which at each step boundary asks whether to go on."""

from collections.abc import Callable
from dataclasses import dataclass

from torchtitan.trainer import Trainer

from mmhydra.titan.checkpointer import StampedCheckpointManager
from mmhydra.titan.control import REASONS, Control, Order
from mmhydra.titan.dataloader import StreamDataLoader
from mmhydra.titan.losses import ModalityLoss
from mmhydra.titan.metrics import JsonlMetrics
from mmhydra.titan.nodes import NodeWatch

OpenControl = Callable[[Callable[[], float | None]], Control]  # given how long the longest save took


class ControlledTrainer(Trainer):
    """Ends early, after a save, when the ranks agree to."""

    @dataclass(kw_only=True, slots=True)
    class Config(Trainer.Config):
        """`open_control` is called when the process group is there, `on_order` on every rank for each order.

        `close_data` ends what the loaders read from.
        """

        open_control: OpenControl
        open_nodes: Callable[[Control], NodeWatch]
        close_data: Callable[[], None]
        on_order: Callable[[str, str], None]

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._tally_losses()
        self.ended_by: Order | None = None  # None for a run that reached its last step
        self.saved = "nothing is saved"  # at the last order, in words
        self._control = config.open_control(lambda: self.checkpointer.longest_save_s)
        self._nodes = config.open_nodes(self._control)
        self._on_order = config.on_order
        self._close_data = config.close_data

    def close(self) -> None:
        """Ends what this trainer opened."""
        self._nodes.close()
        super().close()
        self._close_data()  # first: threads that wait before they try a read again need not be waited for
        if isinstance(self.dataloader, StreamDataLoader):
            self.dataloader.close()

    def evaluate(self) -> None:
        """Measures the held-out loss of the weights that the checkpointer finds. Trains and saves nothing."""
        self.checkpointer.load()
        self.validator.validate(self.model_parts, self.step)

    def should_continue_training(self) -> bool:
        """Asked by torchtitan before each step, on every rank."""
        self._nodes.boundary(self.step)
        if not super().should_continue_training():
            return False
        order = self._control.agree()
        if order is Order.GO_ON:
            return True
        self._obey(order)
        return not order.ends

    def _tally_losses(self) -> None:
        assert isinstance(self.loss_fn, ModalityLoss)
        assert isinstance(self.metrics_processor, JsonlMetrics)
        self.metrics_processor.tally = self.loss_fn.tally
        if self.parallel_dims.pp_enabled:
            # torch keeps one stage or several of them, by the kind of schedule.
            for stage in getattr(self.pp_schedule, "_stages", None) or [self.pp_schedule._stage]:
                if stage.is_last:
                    stage.register_forward_context(self.loss_fn.tally.watch)

    def _obey(self, order: Order) -> None:
        checkpointer = self.checkpointer
        assert isinstance(checkpointer, StampedCheckpointManager)
        checkpointer.save_now(self.step)
        newest = checkpointer.newest_step
        self.saved = f"saved up to step {newest}" if checkpointer.enable else "nothing is saved, checkpoints are off"
        self._on_order(order.name.lower(), f"{REASONS[order]}; {self.saved}")
        self._control.answered()
        if order.ends:
            self.ended_by = order
