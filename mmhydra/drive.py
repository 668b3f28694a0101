"""`python -m mmhydra.drive SWEEP`: goes on with a search, or with stages that wait for the best of those before.

It may be killed at any moment and started again; runs that are under way go on without it.
"""

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from datetime import datetime

from mmhydra import startup  # first: it makes the imports below cheaper
from mmhydra.errors import ExitCode, UserError, refuse
from mmhydra.launch.search.driving import drive_search
from mmhydra.launch.search.setting import use_frozen_code
from mmhydra.launch.sweeps.driving import drive_stages
from mmhydra.launch.sweeps.freezing import kept_origin
from mmhydra.monitor.pipe import ends_quietly
from mmhydra.paths import short
from mmhydra.sweep.find import find_sweep
from mmhydra.sweep.record import SweepDirectory


class TimeIsUp(BaseException):
    """SLURM says that the allocation is about to end."""

    # No Exception: it comes out of whatever runs when the signal arrives, and code that guards itself against a trial
    # that can't be composed would swallow it. The job would then not be started again.


@ends_quietly
def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 at the end of the sweep, 1 if no trial came to its end or it was interrupted, 2 if it can't be driven.

    1 too where a file can't be read or written, as on a full disk. In a SLURM job 75 when its time is up: the job is to
    be started again.
    """
    parser = argparse.ArgumentParser(prog="python -m mmhydra.drive", description=__doc__)
    parser.add_argument("sweep", metavar="SWEEP", help="the name of a sweep, or any path in one")
    options = parser.parse_args(arguments)
    try:
        sweep = find_sweep(options.sweep)
        _heed_signals()
        use_frozen_code(sweep, kept_origin(sweep), [str(sweep.path)])
        startup.finished()
        return drive_search(sweep, say) if sweep.is_search else _drive_stages(sweep)
    except UserError as error:
        return refuse(error)
    except TimeIsUp:
        say("the time of this job is up; runs that are under way go on, and so does the next driver")
        return ExitCode.PREEMPTED
    except KeyboardInterrupt:
        place = shlex.quote(options.sweep)
        print(
            "interrupted; runs that are under way go on. To go on with the sweep type\n"
            f"  python -m mmhydra.drive {place}\nto end its runs\n  python -m mmhydra.cancel {place}",
            file=sys.stderr,
        )
        return ExitCode.FAILED
    except BrokenPipeError:
        raise
    except OSError as error:
        # Fails again where it was a line that standard output did not take: `ends_quietly` tells that.
        say("this driver ends; runs that are under way go on")
        print(
            f"error: {error}\nonce that is mended, go on with the sweep: type\n"
            f"  python -m mmhydra.drive {shlex.quote(options.sweep)}",
            file=sys.stderr,
        )
        return ExitCode.FAILED


def say(text: str) -> None:
    """A line for people, with the time."""
    print(f"{datetime.now().astimezone():%H:%M:%S} {text}", flush=True)


def _drive_stages(sweep: SweepDirectory) -> int:
    """Submits later stages as soon as their parents have ended."""
    drive_stages(sweep, say)
    say(f"nothing is left to wait for; python -m mmhydra.status {shlex.quote(short(sweep.path))} shows the table")
    return ExitCode.DONE


def _heed_signals() -> None:
    """SIGTERM ends us as Ctrl-C does. SLURM says by SIGUSR2 that a job's time is up."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    def time_is_up(number: int, frame: object) -> None:
        raise TimeIsUp

    signal.signal(signal.SIGTERM, interrupt)
    if "SLURM_JOB_ID" in os.environ:
        signal.signal(signal.SIGUSR2, time_is_up)


if __name__ == "__main__":
    sys.exit(main())
