"""`python -m mmhydra.diff A B [overrides]`: what differs between two runs, checkpoints, command lines or revisions.

A and B are each one of: a run, an attempt or a checkpoint; a command line in quotes ("" is the default one); a git
revision of conf/, or the word `worktree` for conf/ as it is now. Overrides after them go to each side that is
composed. Without overrides, two versions of conf/ are compared by all their experiments and models.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from mmhydra.diff.report import report
from mmhydra.diff.sides import side_of
from mmhydra.errors import ExitCode, UserError, refuse


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0, with --exit-code 1 if what makes the numbers differs, or 2 for what can't be compared."""
    options = _parser().parse_intermixed_args(arguments)
    folders = (options.config_dir,) if options.config_dir else ()
    try:
        with ExitStack() as stack:
            sides = [side_of(text, options.overrides, folders, stack) for text in (options.a, options.b)]
            found = report(sides[0], sides[1], options.overrides)
    except UserError as error:
        return refuse(error)
    if options.json:
        print(json.dumps(found.document, indent=2, ensure_ascii=False, default=str))
    else:
        print("\n".join(found.lines))
    return ExitCode.FAILED if options.exit_code and found.differs else ExitCode.DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mmhydra.diff", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("a", metavar="A", help="a path, a command line, a revision or worktree")
    parser.add_argument("b", metavar="B", help="the other one")
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="key=value, for each side that is composed")
    parser.add_argument("--config-dir", "-cd", type=Path, help="a folder of your own groups")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--exit-code", action="store_true", help="1 if what makes the numbers differs")
    return parser


if __name__ == "__main__":
    sys.exit(main())
