"""`python -m mmhydra.report SWEEP`: a sweep as one HTML page, with its plots; also while its runs are under way."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mmhydra import startup  # noqa: F401  (first: it makes the imports below cheaper)
from mmhydra.errors import ExitCode, UserError, refuse
from mmhydra.monitor.pipe import ends_quietly
from mmhydra.paths import short
from mmhydra.sweep.find import find_sweep
from mmhydra.sweep.report.page import write_report


@ends_quietly
def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 and prints where the page is; 2 if there is no such sweep or the page can't be written."""
    parser = argparse.ArgumentParser(prog="python -m mmhydra.report", description=__doc__)
    parser.add_argument("sweep", metavar="SWEEP", help="the name of a sweep, or any path in one")
    parser.add_argument("--out", metavar="FILE", type=Path, help="where to write it; default: report.html of the sweep")
    options = parser.parse_args(arguments)
    try:
        sweep = find_sweep(options.sweep)
        path: Path = options.out if options.out is not None else sweep.report
        try:
            write_report(sweep, path)
        except OSError as error:
            raise UserError(f"{path} can't be written: {error.strerror or error}; type --out FILE") from error
        print(short(path.absolute()))
    except UserError as error:
        return refuse(error)
    return ExitCode.DONE


if __name__ == "__main__":
    sys.exit(main())
