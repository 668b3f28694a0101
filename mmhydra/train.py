"""`python -m mmhydra.train [overrides]`: one command line becomes one verified, frozen run."""

import os
import sys
from collections.abc import Sequence

from mmhydra import startup  # first: it makes the imports below cheaper
from mmhydra.compose import Request
from mmhydra.compose.arguments import read_arguments
from mmhydra.config.frozen import to_yaml
from mmhydra.errors import ExitCode, UserError, refuse
from mmhydra.launch.naming import name_or_reason
from mmhydra.launch.preview import budget_lines, preview
from mmhydra.launch.printing import is_printed
from mmhydra.launch.verify import facts, verified


def main() -> int:
    """Returns the exit code of the run, or 2 with the reasons why there is none."""
    try:
        _require_here()
        arguments = read_arguments(sys.argv[1:])
        if arguments.flags:
            from mmhydra.hydra_app import run_hydra  # Hydra's application takes longer to import than a dry run may add

            codes = run_hydra(arguments, handle)
        else:
            codes = handle(verified([arguments.overrides], arguments.config_dirs))
        return next((code for code in codes if code != ExitCode.DONE), ExitCode.DONE)
    except UserError as error:
        return refuse(error)
    except KeyboardInterrupt:
        print("interrupted; the same command resumes from the newest checkpoint", file=sys.stderr)
        return ExitCode.FAILED


def handle(requests: Sequence[Request]) -> list[ExitCode]:
    """Prints or runs the points of a command line. Returns the exit code of each; raises UserError."""
    if not all(_is_shown(request) for request in requests if request.only_prints):
        return [ExitCode.FAILED] * len(requests)
    starting = [request for request in requests if not request.only_prints]
    if not starting:
        return [ExitCode.DONE] * len(requests)
    # Here, not above: numpy, tokenizers and rich take longer to import than a dry run takes in all.
    from mmhydra.launch.submit import submit

    startup.finished()
    codes = iter(submit(starting))
    return [ExitCode.DONE if request.only_prints else next(codes) for request in requests]


def _is_shown(request: Request) -> bool:
    """Prints what a dry run asks for. False if it can't be written."""
    if request.dry_run == "sbatch":
        from mmhydra.launch.dry_run import script_of  # submitit, as above

        return is_printed(script_of(request).encode())
    print(f"run id: {name_or_reason(request.config)}", file=sys.stderr)
    print(f"size: {preview(request.config)}", file=sys.stderr)
    for line in budget_lines(request.config, facts(request)):
        print(line, file=sys.stderr)
    return is_printed(to_yaml(request.config))


def _require_here() -> None:
    """Raises UserError in a folder that was deleted: every relative path would fail, each in its own way."""
    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise UserError("the current folder does not exist any more; cd to another") from error


if __name__ == "__main__":
    sys.exit(main())
