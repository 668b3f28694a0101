"""`python -m mmhydra.logs RUN`: what a rank of the newest attempt printed; -f goes on over requeues until the end."""

import argparse
import sys
from collections.abc import Sequence

from mmhydra import startup  # noqa: F401  (first: it makes the imports below cheaper)
from mmhydra.errors import UserError, refuse
from mmhydra.monitor.find import find
from mmhydra.monitor.pipe import ends_quietly
from mmhydra.monitor.tail import follow_log, print_log


@ends_quietly
def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0, or 2 if there is no such run or log."""
    parser = argparse.ArgumentParser(prog="python -m mmhydra.logs", description=__doc__)
    parser.add_argument("run", metavar="RUN", help="any path in a run, a run id or its beginning, or a SLURM job id")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the run ends")
    parser.add_argument("--rank", type=int, help="default: 0, and what starts the ranks before there are any")
    parser.add_argument("--lines", type=int, default=50, help="from the end (default: %(default)s)")
    options = parser.parse_args(arguments)
    show = follow_log if options.follow else print_log
    try:
        return show(find(options.run), options.rank, max(0, options.lines))
    except UserError as error:
        return refuse(error)
    except FileNotFoundError as error:
        return refuse(UserError(f"{error.filename} is gone"))


if __name__ == "__main__":
    sys.exit(main())
