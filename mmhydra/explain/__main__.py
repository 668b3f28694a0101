"""`python -m mmhydra.explain [overrides] [KEY ...]`: who set each value, what it replaced, where groups collide."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mmhydra.compose import compose
from mmhydra.errors import ExitCode, UserError, refuse
from mmhydra.explain.history import show
from mmhydra.launch.verify import refuse_secrets


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0, or 2 for a command line that can't be composed or a key that does not exist."""
    options = _parser().parse_intermixed_args(arguments)
    overrides = [word for word in options.words if "=" in word or word.startswith("~")]
    keys = [word for word in options.words if word not in overrides]
    folders = (options.config_dir,) if options.config_dir else ()
    try:
        request = compose(overrides, folders)
        refuse_secrets(request)
        for warning in request.warnings:
            print(f"warning: {warning}", file=sys.stderr)
        show(request, keys)
    except UserError as error:
        return refuse(error)
    return ExitCode.DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m mmhydra.explain", description=__doc__)
    parser.add_argument("words", nargs="*", metavar="WORD", help="overrides (key=value), and keys or sections to show")
    parser.add_argument("--config-dir", "-cd", type=Path, help="a folder of your own groups")
    return parser


if __name__ == "__main__":
    sys.exit(main())
