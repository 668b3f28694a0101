"""`python -m mmhydra.status RUN|SWEEP`: how a run or a sweep is, how it came here, and what to type next."""

import argparse
import sys
from collections.abc import Sequence

from mmhydra import startup  # noqa: F401  (first: it makes the imports below cheaper)
from mmhydra.errors import UserError, refuse
from mmhydra.monitor import watch as of_run
from mmhydra.monitor.pipe import ends_quietly
from mmhydra.run.directory import RunDirectory
from mmhydra.sweep.find import find_any
from mmhydra.sweep.show import watch as of_sweep
from mmhydra.sweep.show.overview import FAILED
from mmhydra.sweep.state.states import STATES


@ends_quietly
def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 if the run or sweep could be read, however it is; 2 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m mmhydra.status", description=__doc__)
    parser.add_argument(
        "run",
        metavar="RUN|SWEEP",
        help="any path in a run or a sweep, a run id or its beginning, the name of a sweep, or a SLURM job id",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--watch", action="store_true", help="until all has ended; Ctrl-C ends only the watching")
    how.add_argument("--json", action="store_true", help="the same facts as one JSON object")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--failed", action="store_true", help=f"of a sweep the points that are {', '.join(FAILED)}")
    which.add_argument("--state", action="append", choices=STATES, help="of a sweep these points; may be repeated")
    options = parser.parse_args(arguments)
    try:
        found = find_any(options.run)
        wanted = FAILED if options.failed else options.state
        if isinstance(found, RunDirectory):
            if wanted:
                raise UserError(f"{options.run} is one run; --failed and --state choose among the points of a sweep")
            return of_run.watch(found) if options.watch else of_run.show(found, as_json=options.json)
        if options.watch:
            return of_sweep.watch(found, wanted or STATES)
        return of_sweep.show(found, wanted or STATES, as_json=options.json)
    except UserError as error:
        return refuse(error)


if __name__ == "__main__":
    sys.exit(main())
