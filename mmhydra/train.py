"""`python -m mmhydra.train [overrides]`: one command line becomes one verified, frozen run."""

import sys

from mmhydra import startup  # first: it makes the imports below cheaper
from mmhydra.compose import Request, compose
from mmhydra.compose.arguments import read_arguments
from mmhydra.config.frozen import to_yaml
from mmhydra.errors import ExitCode, UserError, refuse
from mmhydra.launch.naming import name_or_reason
from mmhydra.launch.preview import preview
from mmhydra.launch.verify import verify


def main() -> int:
    """Returns the exit code of the run, or 2 with the reasons why there is none."""
    try:
        arguments = read_arguments(sys.argv[1:])
        if arguments.flags:
            from mmhydra.hydra_app import run_hydra  # Hydra's application takes longer to import than a dry run may add

            return run_hydra(arguments, handle)
        return handle(compose(arguments.overrides, arguments.config_dirs))
    except UserError as error:
        return refuse(error)
    except KeyboardInterrupt:
        print("interrupted; the same command resumes from the newest checkpoint", file=sys.stderr)
        return ExitCode.FAILED


def handle(request: Request) -> ExitCode:
    """Checks one point, then prints or runs it. Raises UserError with all that is wrong."""
    verify(request)
    if request.dry_run == "config":
        print(
            f"run id: {name_or_reason(request.config)}", f"size: {preview(request.config)}", sep="\n", file=sys.stderr
        )
        sys.stdout.buffer.write(to_yaml(request.config))
        return ExitCode.DONE
    # Here, not above: numpy, tokenizers and rich take longer to import than a dry run takes in all.
    from mmhydra.launch.submit import submit

    startup.finished()
    return submit([request])


if __name__ == "__main__":
    sys.exit(main())
