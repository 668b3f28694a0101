"""`python -m mmhydra.train [overrides]`: one command line becomes one verified, frozen run."""

import sys

from mmhydra import startup  # first: it makes the imports below cheaper
from mmhydra.compose import Request, compose, known_clusters
from mmhydra.config.frozen import to_yaml
from mmhydra.config.rules import check
from mmhydra.errors import ExitCode, UserError, refuse
from mmhydra.hydra_app import is_for_hydra, run_hydra


def main() -> int:
    """Returns the exit code of the run, or 2 with the reasons why there is none."""
    try:
        if is_for_hydra(sys.argv[1:]):
            return run_hydra(handle)
        return handle(compose(sys.argv[1:]))
    except UserError as error:
        return refuse(error)
    except KeyboardInterrupt:
        print("interrupted; the same command resumes from the newest checkpoint", file=sys.stderr)
        return ExitCode.FAILED


def handle(request: Request) -> ExitCode:
    """Checks one point, then prints or runs it."""
    try:
        verify(request)
        if request.dry_run == "config":
            sys.stdout.buffer.write(to_yaml(request.config))
            return ExitCode.DONE
        # Here, not above: numpy, tokenizers and rich take longer to import than a dry run takes in all.
        from mmhydra.launch.submit import submit

        startup.finished()
        return submit([request])
    except UserError as error:
        return refuse(error)


def verify(request: Request) -> None:
    """Raises UserError with all problems of a config.

    A dry run whose cluster is only the default prints what another cluster would cure as notes.
    """
    problems = check(request.config, known_clusters())
    if request.dry_run and not request.cluster_is_explicit:
        for note in (problem for problem in problems if problem.placement):
            print(f"note: {note}", file=sys.stderr)
        problems = [problem for problem in problems if not problem.placement]
    if problems:
        raise UserError("\n".join(str(problem) for problem in problems))


if __name__ == "__main__":
    sys.exit(main())
