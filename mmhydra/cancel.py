"""`python -m mmhydra.cancel RUN`: ends the run's job; checkpoints stay. For a local run it says what to type."""

import argparse
import sys
from collections.abc import Sequence

from mmhydra import startup  # noqa: F401  (first: it makes the imports below cheaper)
from mmhydra.errors import ExitCode, UserError, refuse
from mmhydra.monitor.ending import cancel
from mmhydra.monitor.find import find
from mmhydra.monitor.pipe import ends_quietly


@ends_quietly
def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0, also if there was nothing to cancel; 2 if there is no such run or SLURM refuses."""
    parser = argparse.ArgumentParser(prog="python -m mmhydra.cancel", description=__doc__)
    parser.add_argument("run", metavar="RUN", help="any path in a run, a run id or its beginning, or a SLURM job id")
    options = parser.parse_args(arguments)
    try:
        for line in cancel(find(options.run)):
            print(line, flush=True)
    except UserError as error:
        return refuse(error)
    return ExitCode.DONE


if __name__ == "__main__":
    sys.exit(main())
