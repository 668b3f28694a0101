"""The one way from requests to runs: for a single command, for -m, and for studies."""

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console

from mmhydra.checkpoint.stamp import stamped_steps
from mmhydra.compose import Request
from mmhydra.config.rules import Problem
from mmhydra.config.track import Track
from mmhydra.errors import ExitCode, UserError
from mmhydra.launch.freeze import freeze, plan
from mmhydra.launch.local import run_local
from mmhydra.launch.progress import Progress
from mmhydra.launch.report import short, show_result
from mmhydra.run.lease import hold

_WHAT_NOW = {
    ExitCode.FAILED: "the same command resumes it from the newest checkpoint",
    ExitCode.CONFIG: "mend what is named above before you start it again",
    ExitCode.STOPPED: "a person has to decide; look at metrics.jsonl and at the newest checkpoint",
    ExitCode.PREEMPTED: "a checkpoint is saved, the same command goes on",
}


def submit(requests: Sequence[Request]) -> ExitCode:
    """Runs local requests one after another; a failed one does not stop the rest.

    Returns the first exit code that is not 0.
    """
    codes = [_run_one(request) for request in requests]
    return next((code for code in codes if code is not ExitCode.DONE), ExitCode.DONE)


def _run_one(request: Request) -> ExitCode:
    console = Console(highlight=False, soft_wrap=True)
    config = request.config
    refuse_what_is_not_built(request)
    require_trackers(config.track)
    planned = plan(config, request.overrides, lambda text: console.print(text, markup=False))
    run = planned.run
    console.print(f"run {planned.identity.run_id} in {short(run.path)}", markup=False)
    if planned.is_complete:
        show_result(console, planned, "already complete")
        return ExitCode.DONE
    run.create(planned.identity)
    with hold(run):
        attempt = freeze(planned)
        if attempt.number > 1:
            steps = stamped_steps(run.checkpoints)
            start = f"there are checkpoints up to step {steps[-1]}" if steps else "no checkpoint was saved yet"
            console.print(f"attempt {attempt.number}: {start}", markup=False)
        with Progress(console, config.training.num_steps) as progress:
            code = run_local(attempt, config, progress)
    if code is ExitCode.DONE:
        show_result(console, planned, "done")
    else:
        print(f"the run ended with exit code {code}: {_WHAT_NOW[code]}", file=sys.stderr)
    return code


def require_trackers(track: Track) -> None:
    """Refuses a tracker whose library is not installed, before anything is trained without it. Raises UserError."""
    wanted = {"aim": track.aim, "prometheus": track.prometheus, "tensorboard": track.tensorboard}
    modules = {"aim": "aim", "prometheus": "prometheus_client", "tensorboard": "tensorboard"}
    missing = [name for name, options in wanted.items() if options and find_spec(modules[name]) is None]
    if missing:
        extras = ",".join(missing)
        raise UserError(
            f"track={extras} needs packages that are not installed; "
            f"type {short(Path(sys.executable))} -m pip install -c constraints.txt -e '.[{extras}]'"
        )


def refuse_what_is_not_built(request: Request) -> None:
    """Refuses settings that this version prints and checks but can't carry out. Raises UserError with all of them."""
    config = request.config
    problems = []
    if config.cluster.kind == "slurm":
        problems.append(
            Problem(
                ("cluster",),
                f"submitting to SLURM (cluster={config.cluster.name}) is not part of this version; "
                "dry_run=config prints the run, cluster=local runs it here",
            )
        )
    if config.checkpoint.remote is not None:
        problems.append(
            Problem(("checkpoint.remote",), "remote copies are not part of this version; type checkpoint=default")
        )
    if config.data.schedule:
        problems.append(
            Problem(("data.schedule",), "stages of shares are not part of this version; type data.schedule=[]")
        )
    if problems:
        raise UserError("\n".join(str(problem) for problem in problems))
