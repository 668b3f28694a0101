"""`python -m mmhydra.status RUN`: how a run is, how it came here, and what to type next."""

import argparse
import sys
from collections.abc import Sequence

from mmhydra import startup  # noqa: F401  (first: it makes the imports below cheaper)
from mmhydra.errors import UserError, refuse
from mmhydra.monitor.find import find
from mmhydra.monitor.pipe import ends_quietly
from mmhydra.monitor.watch import show, watch


@ends_quietly
def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 if the run could be read, however it is; 2 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m mmhydra.status", description=__doc__)
    parser.add_argument("run", metavar="RUN", help="any path in a run, a run id or its beginning, or a SLURM job id")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--watch", action="store_true", help="until the run ends; Ctrl-C ends only the watching")
    how.add_argument("--json", action="store_true", help="the same facts as one JSON object")
    options = parser.parse_args(arguments)
    try:
        run = find(options.run)
        return watch(run) if options.watch else show(run, as_json=options.json)
    except UserError as error:
        return refuse(error)


if __name__ == "__main__":
    sys.exit(main())
