"""The one way from requests to runs: for a single command, for -m, and for studies."""

import shutil
import sys
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console

from mmhydra.checkpoint.stamp import stamped_steps
from mmhydra.compose import Request
from mmhydra.config.facts import Facts
from mmhydra.config.frozen import flatten
from mmhydra.config.problems import ConfigError, Problem
from mmhydra.config.secrets import reveal
from mmhydra.config.shared import OfObjects
from mmhydra.config.track import Track
from mmhydra.data.datasets import token_counts
from mmhydra.errors import ExitCode, UserError, refuse
from mmhydra.launch.array import require_no_array
from mmhydra.launch.freeze import Origin, Plan, freeze, plan, read_origin
from mmhydra.launch.local import run_local
from mmhydra.launch.preview import budget_lines, preview, unconfirmed
from mmhydra.launch.progress import Progress
from mmhydra.launch.report import show_frozen, show_result, show_submitted
from mmhydra.launch.siblings import closest
from mmhydra.launch.slurm import batch_job, require_no_job, submit_attempt, write_script
from mmhydra.launch.verify import refuse_points, verify_with_data
from mmhydra.paths import short
from mmhydra.run.lease import hold

_WHAT_NOW = {
    ExitCode.FAILED: "the same command resumes it from the newest checkpoint",
    ExitCode.CONFIG: "mend what is named above before you start it again",
    ExitCode.STOPPED: "a person has to decide; look at metrics.jsonl and at the newest checkpoint",
    ExitCode.PREEMPTED: "a checkpoint is saved, the same command goes on",
}


def submit(requests: Sequence[Request]) -> list[ExitCode]:
    """Runs local requests one after another, and submits the others; a failed one does not stop the rest.

    Returns the exit code of each. Raises UserError, before the first starts, if one of them may not.
    """
    for request in requests:
        require_startable(request)
    codes = []
    for number, request in enumerate(requests, 1):
        if len(requests) > 1:
            print(f"point {number} of {len(requests)}: {' '.join(request.overrides)}", flush=True)
        try:
            codes.append(start(request))
        except UserError as error:  # what only its data could tell; the other points go on
            if len(requests) == 1:
                raise
            codes.append(refuse(error))
    return codes


def start(request: Request, origin: Origin | None = None) -> ExitCode:
    """Freezes and runs or submits one point; `origin` is that of its sweep, None for the code of now.

    Raises UserError if it may not start.
    """
    console = Console(highlight=False, soft_wrap=True)
    planned = plan(request, lambda text: console.print(text, markup=False))
    verify_with_data(request, planned.manifests)
    run = planned.run
    console.print(f"run {planned.identity.run_id} in {short(run.path)}", markup=False)
    if planned.is_complete:
        show_result(console, planned, "already complete")
        return ExitCode.DONE
    console.print(str(preview(request.config)), markup=False)
    for line in budget_lines(request.config, Facts(tokens=token_counts(planned.manifests))):
        console.print(line, markup=False)
    require_secrets(request.config.track)
    require_no_job(run)
    if origin is None:
        origin = read_origin(request, run)
        _tell_sibling(console, planned)  # points of a sweep differ in little on purpose
    run.create(planned.identity)
    with hold(run) as lease:
        require_no_job(run)  # again: another start may have submitted one meanwhile
        require_no_array(run)
        if planned.is_complete:  # another start finished it while this one waited for its data or its turn
            show_result(console, planned, "already complete")
            return ExitCode.DONE
        for name in run.clear_triggers():
            console.print(f"note: the file `{name}` of an earlier start is removed", markup=False)
        attempt = freeze(planned, origin)
        lease.started(attempt.number)
        if attempt.number > 1:
            steps = stamped_steps(run.checkpoints)
            start = f"there are checkpoints up to step {steps[-1]}" if steps else "no checkpoint was saved yet"
            console.print(f"attempt {attempt.number}: {start}", markup=False)
        if request.dry_run == "freeze":
            show_frozen(console, attempt, write_script(attempt, batch_job(attempt, request.config)))
            return ExitCode.DONE
        if request.config.cluster.kind == "slurm":
            submit_attempt(attempt, batch_job(attempt, request.config))
            show_submitted(console, attempt)
            return ExitCode.DONE
        with Progress(console, request.config.training.num_steps) as progress:
            code = run_local(attempt, request.config, progress)
    if code is ExitCode.DONE:
        show_result(console, planned, "done")
    else:
        print(f"the run ended with exit code {code}: {_WHAT_NOW[code]}", file=sys.stderr)
    return code


def _tell_sibling(console: Console, planned: Plan) -> None:
    """A new run beside one that differs in little is often a slip."""
    if planned.run.attempts or planned.config.checkpoint.extend_from is not None:
        return
    sibling = closest(planned.run, planned.identity)
    if sibling is not None:
        command = f"{short(Path(sys.executable))} -m mmhydra.train resume={short(sibling.run.path)}"
        console.print(f"note: this is a new run; {sibling}; to go on with that one: {command}", markup=False)


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


def require_secrets(track: Track) -> None:
    """Refuses a secret that is not set, before the job would find out. Raises SecretError."""
    for value in flatten(track.model_dump()).values():
        if isinstance(value, str):
            reveal(value)


def require_startable(request: Request) -> None:
    """Refuses a start that was not confirmed, or that this version only prints and checks.

    Raises ConfigError with all reasons, or UserError for a tracker that is not installed.
    """
    problems = [*unconfirmed(request.config, confirm=request.confirm), *_unreachable(request)]
    if problems:
        raise ConfigError(problems, request.origins)
    require_trackers(request.config.track)


def require_all_startable(requests: Sequence[tuple[str, Request]]) -> None:
    """The same for the points of a sweep, each with its name, but for what they cost: that counts together.

    Raises UserError with the reasons of all points.
    """
    known: OfObjects[UserError | None] = OfObjects()  # by sections, which points share
    faults = []
    for name, request in requests:
        config = request.config
        sections = config.cluster, config.checkpoint, config.track
        fault = known.get(partial(_fault, request), *sections, request.dry_run)
        if fault is not None:
            faults.append((name, fault))
    refuse_points(faults, len(requests))


def _fault(request: Request) -> UserError | None:
    try:
        if problems := _unreachable(request):
            raise ConfigError(problems, request.origins)
        require_trackers(request.config.track)
        require_secrets(request.config.track)
    except UserError as error:
        return error
    return None


def _unreachable(request: Request) -> list[Problem]:
    """What the machines, or this version, can't do."""
    config = request.config
    problems = []
    if request.dry_run == "freeze" and config.cluster.kind != "slurm":
        told = (
            f"cluster={config.cluster.name} has no batch script to leave to you; type cluster=NAME of a SLURM cluster"
        )
        problems.append(Problem(("dry_run", "cluster.kind"), told))
    submits = config.cluster.kind == "slurm" and request.dry_run is None
    if submits and shutil.which("sbatch") is None:
        problems.append(
            Problem(
                ("cluster.name", "cluster.kind"),
                f"cluster={config.cluster.name} is reached by sbatch, which is not on the PATH of this machine; start "
                "this on a login node, or type dry_run=sbatch to see the script, or cluster=local to run it here",
            )
        )
    conf = config.cluster.slurm.slurm_conf if config.cluster.slurm is not None else None
    if submits and conf is not None and not Path(conf).is_file():  # SLURM's tools would try for a minute
        cure = "type scripts/slurm-dev start" if Path(conf).parent.name == ".slurm-dev" else "type its path"
        problems.append(Problem(("cluster.slurm.slurm_conf",), f"{conf} does not exist; {cure}"))
    if (
        config.cluster.kind == "local"
        and config.cluster.device == "cuda"
        and not list(Path("/dev").glob("nvidia[0-9]*"))
    ):
        problems.append(Problem(("cluster.device",), "this machine has no NVIDIA GPU; type cluster.device=cpu"))
    if config.checkpoint.remote is not None:
        problems.append(
            Problem(("checkpoint.remote",), "remote copies are not part of this version; type checkpoint=default")
        )
    return problems
