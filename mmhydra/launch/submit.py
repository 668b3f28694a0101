"""The one way from requests to runs: for a single command, for -m, and for studies."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from mmhydra.checkpoint.stamp import step_folder
from mmhydra.compose import Request
from mmhydra.config.rules import Problem
from mmhydra.data.manifest import Manifest
from mmhydra.errors import ExitCode, UserError
from mmhydra.launch.freeze import Plan, freeze, plan
from mmhydra.launch.local import run_local
from mmhydra.launch.progress import Progress, show_end
from mmhydra.run.lease import hold


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
    planned = plan(config, request.overrides, lambda text: console.print(text, markup=False))
    run = planned.run
    console.print(f"run {planned.identity.run_id} in {short(run.path)}", markup=False)
    if planned.is_complete:
        _show_result(console, planned, Progress(console, config.training.num_steps), "already complete")
        return ExitCode.DONE
    run.create(planned.identity)
    with hold(run):
        attempt = freeze(planned)
        if attempt.number > 1:
            console.print(f"attempt {attempt.number}: resuming from the newest checkpoint", markup=False)
        with Progress(console, config.training.num_steps) as progress:
            code = run_local(attempt, config, progress)
    if code is ExitCode.DONE:
        _show_result(console, planned, progress, "done")
    else:
        print(f"the run stopped with exit code {code}; the same command resumes it", file=sys.stderr)
    return code


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


def _show_result(console: Console, planned: Plan, progress: Progress, title: str) -> None:
    config, run = planned.config, planned.run
    attempt = run.attempts[-1]
    progress.follow(attempt.metrics)
    rows = {"run directory": short(run.path), "metrics": short(attempt.metrics)}
    checkpoint = ""
    if config.checkpoint.enabled:
        checkpoint = short(step_folder(run.checkpoints, config.training.num_steps))
        rows["checkpoint"] = checkpoint
    if progress.last:
        rows["training loss"] = f"{progress.last['loss']:.4f} nats a token after step {progress.last['step']}"
    if progress.validation:
        rows["held-out loss"] = _against_entropy(progress.validation["val_loss"], list(planned.manifests.values()))
    commands = {"the same command again": "says that the run is complete"}
    if checkpoint:
        commands |= {
            "what is in the checkpoint": f"python -m mmhydra.checkpoint show {checkpoint}",
            "is it still whole": f"python -m mmhydra.checkpoint verify {checkpoint}",
        }
    commands["another run"] = "python -m mmhydra.train optim.lr=1e-3"
    show_end(console, f"run {planned.identity.run_id}: {title}", rows, commands)


def _against_entropy(loss: float, manifests: list[Manifest]) -> str:
    """The loss beside that of a model that knows only how frequent each token is."""
    text = f"{loss:.4f} nats a token"
    if len(manifests) != 1:
        return text
    entropy = manifests[0].unigram_entropy_nats
    gap = f"{abs(entropy - loss):.4f} {'below' if loss < entropy else 'above'} it"
    return f"{text}\nunigram entropy of the text: {entropy:.4f}; the loss is {gap}"


def short(path: Path) -> str:
    """A path as one would type it here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
