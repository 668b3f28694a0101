"""The panel at the end of a run: where things are, how well it learned, what to type next."""

import json
import shlex
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mmhydra.checkpoint.stamp import step_folder
from mmhydra.data.shards.manifest import Manifest
from mmhydra.launch.freeze import Plan
from mmhydra.launch.progress import Progress, show_end
from mmhydra.paths import short
from mmhydra.run.directory import FROZEN_CONFIG, Attempt
from mmhydra.track.jsonl import read_jsonl
from mmhydra.track.modalities import HELDOUT_LOSS, TRAIN_LOSS, by_modality


def show_result(console: Console, planned: Plan, title: str) -> None:
    """Shows a complete run from the files of its newest attempt."""
    config, run = planned.config, planned.run
    attempt = run.attempts[-1]
    told = Progress(console, config.training.num_steps)
    told.follow(attempt.metrics, quietly=True)
    rows = {"run directory": short(run.path), "metrics": short(attempt.metrics)}
    python, place = short(Path(sys.executable)), short(run.path)
    commands = {}
    if config.evaluates:
        rows["weights"] = short(Path(config.checkpoint.init_from or ""))
        commands["what made the weights"] = f"{python} -m mmhydra.checkpoint show {rows['weights']}"
    elif config.checkpoint.enabled:
        commands["what made the checkpoint"] = f"{python} -m mmhydra.checkpoint show {place}"
        rows["checkpoint"] = short(step_folder(run.checkpoints, config.training.num_steps))
        commands["is it still whole"] = f"{python} -m mmhydra.checkpoint verify {place}"
    if told.last:
        rows["training loss"] = f"{float(told.last['loss']):.4f} nats a token after step {told.last['step']}"
    if told.validation:
        loss, step = float(told.validation["val_loss"]), told.validation["step"]
        when = "" if config.evaluates else f" after step {step}"
        rows["held-out loss"] = f"{loss:.4f} nats a token{when}"
        rows |= _against_entropy(loss, list(planned.manifests.values()))
    if skipped := told.last.get("skipped_samples"):
        rows["skipped samples"] = f"{skipped:,}: chunk_skipped in events.jsonl names what can't be read"
    rows |= _failed_trackers(attempt)
    commands["another run"] = f"{python} -m mmhydra.train optim.lr=1e-3"
    kinds = (by_modality(told.last, TRAIN_LOSS), by_modality(told.validation, HELDOUT_LOSS))
    tables = [_by_modality(told)] if any(len(losses) > 1 for losses in kinds) else []
    show_end(console, f"run {planned.identity.run_id}: {title}", rows, commands, tables)


def show_submitted(console: Console, attempt: Attempt) -> None:
    """Shows what was submitted, and what to type next: this process is not needed any more."""
    job_id = json.loads(attempt.submitted.read_text())["job_id"]
    rows = {
        "job": job_id,
        "run directory": short(attempt.run.path),
        "frozen config": short(attempt.path / FROZEN_CONFIG),
        "batch script": short(attempt.run.slurm / f"{job_id}_submission.sh"),
    }
    python, place = (shlex.quote(short(path)) for path in (Path(sys.executable), attempt.run.path))
    commands = {
        "how is it": f"{python} -m mmhydra.status {place} --watch",
        "what does it print": f"{python} -m mmhydra.logs {place} -f",
        "end it": f"{python} -m mmhydra.cancel {place}",
    }
    show_end(console, f"run {attempt.run.path.name}: submitted as job {job_id}", rows, commands)


def show_frozen(console: Console, attempt: Attempt, script: Path) -> None:
    """Shows what was frozen for a person to submit."""
    rows = {"run directory": short(attempt.run.path), "frozen config": short(attempt.path / FROZEN_CONFIG)}
    commands = {"read it": f"less {shlex.quote(short(script))}", "submit it": f"sbatch {shlex.quote(short(script))}"}
    show_end(console, f"run {attempt.run.path.name}: frozen, not submitted", rows, commands)


def _against_entropy(loss: float, manifests: list[Manifest]) -> dict[str, str]:
    """The loss beside that of a model that knows only how frequent each token is."""
    if len(manifests) != 1:
        return {}
    entropy = manifests[0].unigram_entropy_nats
    gap = f"{abs(entropy - loss):.4f} {'below' if loss < entropy else 'above'} it"
    return {"unigram entropy": f"{entropy:.4f} nats a token; the held-out loss is {gap}"}


def _by_modality(told: Progress) -> Table:
    """The last losses of each modality. One without a label in the last step or in the held-out batches has none."""
    train, heldout = by_modality(told.last, TRAIN_LOSS), by_modality(told.validation, HELDOUT_LOSS)
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("nats a token")
    for name in ("training", "held-out"):
        table.add_column(name, justify="right")
    for modality in {**train, **heldout}:
        table.add_row(modality, *(f"{of[modality]:.4f}" if modality in of else "-" for of in (train, heldout)))
    return table


def _failed_trackers(attempt: Attempt) -> dict[str, str]:
    """Trackers that gave up; the run went on without them."""
    files = sorted(attempt.path.glob("events*.jsonl"))
    failures = [event["message"] for file in files for event in read_jsonl(file) if event["kind"] == "sink_failed"]
    return {"tracking failed": "\n".join(failures)} if failures else {}
