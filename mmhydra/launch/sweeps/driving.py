"""Later stages of a sweep, submitted as soon as their parents have ended."""

import time
from collections.abc import Callable

from rich.console import Console

from mmhydra.launch.slurm import SubmissionError
from mmhydra.launch.sweeps.freezing import kept_origin
from mmhydra.launch.sweeps.holding import PATIENCE_S, holding
from mmhydra.launch.sweeps.replaying import points_of
from mmhydra.launch.sweeps.submitting import Work, in_study, tell_finished
from mmhydra.monitor.words import count
from mmhydra.run.lease import HeldError
from mmhydra.slurm import SchedulerError
from mmhydra.sweep.record import SweepDirectory
from mmhydra.sweep.state.stop import met, read_stop

POLL_S = 30.0
_REFUSALS = 3


def drive_stages(sweep: SweepDirectory, say: Callable[[str], None]) -> None:
    """Starts points of later stages until none is left to wait for; nothing that was started before.

    Holds the sweep all the while, so `cancel` tells of this process. What SLURM refuses is tried again, and so is a
    run that somebody has, for as long as anything of the sweep is at work. Raises UserError; so where the points are
    not composed as they were when the sweep was submitted.
    """
    console = Console(highlight=False, soft_wrap=True)
    with holding(sweep, PATIENCE_S, say):
        record = sweep.read()
        origin = kept_origin(sweep)
        stop = read_stop(sweep)
        work = Work(console, sweep, record, points_of(record, origin), origin, again=False)
        num_refusals = 0
        while True:
            try:
                tell_finished(console, sweep)
                states = work.states()
                if (why := met(stop, in_study(record), states)) is not None:
                    say(f"the study's stop rule is met ({why}): nothing more is submitted")
                    return
                done = work.all(states)
            except (HeldError, SubmissionError, SchedulerError) as error:
                num_refusals += 1
                if num_refusals > _REFUSALS and not any(state.is_active for state in work.states()):
                    raise
                say(f"tried again in {POLL_S:.0f} s: {error}")
            else:
                num_refusals = 0
                for cluster, found in done.arrays.items():
                    arrays = ", ".join(f"{job_id} ({count(size, 'point')})" for job_id, size in found)
                    say(f"submitted to {cluster}: {arrays}")
                if not done.later and not done.held:
                    return
            time.sleep(POLL_S)
