"""One process at a time submits the points of a sweep."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from mmhydra.errors import UserError
from mmhydra.run.lease import STALE_S, HeldError, hold
from mmhydra.sweep.record import SweepDirectory

PATIENCE_S = STALE_S + 10.0  # whoever has it ends in a while, or died and is silent for so long
_RETRY_S = 5.0


@contextmanager
def holding(
    sweep: SweepDirectory, patience_s: float = 0.0, say: Callable[[str], None] = lambda text: None
) -> Iterator[None]:
    """Holds the lease of a sweep. Raises HeldError that names the other process, which may take `patience_s` to end.

    `say` is told that it is waited for. Raises UserError where the folder can't be written.
    """
    try:
        sweep.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"the sweep can't be written to {sweep.path}: {error}; point paths.outputs (or MMHYDRA_OUTPUTS) elsewhere"
        ) from error
    deadline = time.monotonic() + patience_s
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(hold(sweep, f"the sweep {sweep.name} is being submitted or driven"))
                break
            except HeldError as error:
                if time.monotonic() >= deadline:
                    raise
                say(f"waits: {error}")
                time.sleep(_RETRY_S)
        yield
