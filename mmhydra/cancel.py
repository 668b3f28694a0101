"""`python -m mmhydra.cancel RUN|SWEEP`: ends a run's job, or all jobs of a sweep; checkpoints stay.

For what runs without SLURM it says what to type.
"""

import argparse
import sys
from collections.abc import Sequence

from mmhydra import startup  # noqa: F401  (first: it makes the imports below cheaper)
from mmhydra.errors import ExitCode, UserError, refuse
from mmhydra.monitor import ending as of_run
from mmhydra.monitor.pipe import ends_quietly
from mmhydra.run.directory import RunDirectory
from mmhydra.sweep import ending as of_sweep
from mmhydra.sweep.find import find_any


@ends_quietly
def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0, also if there was nothing to cancel; 2 if there is no such run or sweep, or SLURM refuses."""
    parser = argparse.ArgumentParser(prog="python -m mmhydra.cancel", description=__doc__)
    parser.add_argument(
        "run",
        metavar="RUN|SWEEP",
        help="any path in a run or a sweep, a run id or its beginning, the name of a sweep, or a SLURM job id",
    )
    options = parser.parse_args(arguments)
    try:
        found = find_any(options.run)
        unprinted: OSError | None = None
        for line in of_run.cancel(found) if isinstance(found, RunDirectory) else of_sweep.cancel(found):
            try:
                print(line, flush=True)
            except OSError as error:  # the jobs are ended all the same
                unprinted = error
        if unprinted is not None:
            raise unprinted
    except UserError as error:
        return refuse(error)
    return ExitCode.DONE


if __name__ == "__main__":
    sys.exit(main())
