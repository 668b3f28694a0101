"""`python -m mmhydra.launch.search.local ATTEMPT`: runs a trial that was frozen for this machine, to its end."""

import sys
from pathlib import Path

from rich.console import Console

from mmhydra.errors import ExitCode, UserError, refuse
from mmhydra.launch.local import run_local
from mmhydra.launch.progress import Progress
from mmhydra.run.directory import Attempt
from mmhydra.run.lease import hold


def main() -> int:
    """Returns the exit code of the run; 2 if it may not start."""
    if len(sys.argv) != 2:
        print(
            "usage: python -m mmhydra.launch.search.local ATTEMPT  (python -m mmhydra.drive starts it)", file=sys.stderr
        )
        return ExitCode.CONFIG
    attempt = Attempt(Path(sys.argv[1]).absolute())
    try:
        config = attempt.read_frozen()[0]
        with hold(attempt.run) as lease:
            if not _is_untouched(attempt):
                print(f"{attempt.path} was started by another process")  # of a driver that was killed
                return ExitCode.DONE
            lease.started(attempt.number)
            with Progress(Console(highlight=False, soft_wrap=True), config.training.num_steps) as progress:
                return run_local(attempt, config, progress)
    except UserError as error:
        return refuse(error)
    except KeyboardInterrupt:
        return ExitCode.FAILED


def _is_untouched(attempt: Attempt) -> bool:
    is_newest = attempt.run.attempts[-1].number == attempt.number
    return is_newest and not any(path.exists() for path in (attempt.status, attempt.outcome, attempt.metrics))


if __name__ == "__main__":
    sys.exit(main())
