"""One page of a run for a person: how it is, how it came here, what to type next."""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mmhydra.hostlist import compress
from mmhydra.monitor.facts import Facts, Failure
from mmhydra.monitor.history import Past
from mmhydra.monitor.reading import integer, number
from mmhydra.monitor.words import count, duration, moment, python_module, reason
from mmhydra.paths import short
from mmhydra.slurm import JobState
from mmhydra.track.modalities import HELDOUT_LOSS, TRAIN_LOSS, by_modality, in_words

_COLORS = {"done": "green", "running": "green", "failed": "red", "stopped": "red", "gone": "red", "cancelled": "yellow"}
_MAX_ATTEMPTS = 8
_MAX_NODES = 8
_TRACEBACK_LINES = 12
_BAR_WIDTH = 30  # columns


def page(facts: Facts) -> RenderableType:
    """The page; commands stand alone on their lines at its end, to be copied."""
    parts: list[RenderableType] = [_panel(facts)]
    if len(facts.attempts) > 1:
        parts += ["", _attempts(facts)]
    times = facts.node_times.get("nodes")
    if isinstance(times, dict) and len(times) > 1 and facts.state in ("running", "ending", "gone", "failed"):
        parts += ["", _node_times(facts)]
    if facts.failure is not None and facts.failure.traceback:
        parts += ["", _traceback(facts)]
    if commands(facts):
        parts += ["", grid_of(commands(facts))]
    return Group(*parts)


def _panel(facts: Facts) -> Panel:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in _rows(facts):
        grid.add_row(name, value)
    color = _COLORS.get(facts.state, "yellow")
    name = facts.config.name if facts.config is not None else facts.run.path.parent.name
    title = f"{escape(name)} [bold]{facts.run.path.name}[/]  [bold {color}]{facts.state.upper()}[/]"
    return Panel(grid, title=title, title_align="left", border_style=color)


def _rows(facts: Facts) -> list[tuple[str, RenderableType]]:
    rows: list[tuple[str, RenderableType]] = []
    if facts.remark:
        lines = facts.remark.splitlines()[:4]
        why = facts.newest.outcome.get("reason") if facts.newest is not None and facts.is_final else None
        if isinstance(why, str) and why not in facts.remark:
            lines.append(why)
        rows.append(("state", Text("\n".join(lines))))
    rows += [("note", Text(problem, style="bold yellow")) for problem in facts.problems]
    failure = facts.failure
    if failure is not None and not failure.traceback and failure.message not in (facts.remark or ""):
        failed = f"{_of_whom(failure)}: {failure.message}"
        rows.append(("failed", Text("\n".join(failed.splitlines()[:4]), style="red")))
    for node, faults in facts.preflight.items():
        rows.append(("preflight", Text(f"{node}: " + f"\n{' ' * (len(node) + 2)}".join(faults), style="red")))
    if facts.config is not None and facts.config.evaluates:
        rows.append(("evaluation", Text(_evaluation(facts))))
    else:
        rows += [("step", bar) for bar in _progress(facts)]
        rows += [("training", Text(text)) for text in _training(facts)]
    rows += [(name, Text(words)) for name, words in _by_modality(facts)]
    if skipped := number(facts.last_train.get("skipped_samples")):
        words = f"{skipped:,.0f} samples, whose chunks can't be read; chunk_skipped in events.jsonl names them"
        rows.append(("skipped", Text(words, style="bold yellow")))
    if facts.checkpoint is not None:
        behind = f", {count(facts.step - facts.checkpoint, 'step')} ago" if facts.step > facts.checkpoint else ""
        rows.append(("checkpoint", Text(f"step {facts.checkpoint:,}{behind}")))
    rows.append(("job", Text(_job(facts))))
    rows += [("nodes", Text(text)) for text in _nodes(facts)]
    if facts.left_s is not None:
        short_of = facts.remaining_s is not None and facts.remaining_s > facts.left_s
        note = "; the run needs more and goes on in a new attempt" if short_of and _requeues(facts) else ""
        rows.append(("time left", Text(f"{duration(facts.left_s)} of the allocation{note}")))
    rows.append(("run", Text(_what(facts))))
    return rows


def _progress(facts: Facts) -> list[RenderableType]:
    if facts.num_steps is None or not facts.attempts:
        return []
    line = Table.grid(padding=(0, 2))
    share = f"{facts.step / facts.num_steps:.0%}" if facts.num_steps else "100%"
    words = [f"{facts.step:,} of {facts.num_steps:,}", share]
    if facts.state == "running" and facts.remaining_s is not None and facts.step < facts.num_steps:
        words.append(f"about {duration(facts.remaining_s)} to go")
    bar = ProgressBar(total=max(1, facts.num_steps), completed=facts.step, width=_BAR_WIDTH)
    line.add_row(Text("  ".join(words)), bar)
    return [line]


def _training(facts: Facts) -> list[str]:
    train, words = facts.last_train, []
    if (loss := number(train.get("loss"))) is not None:
        words.append(f"loss {loss:.4f}")
    if (held_out := number(facts.last_validation.get("val_loss"))) is not None:
        words.append(f"held-out {held_out:.4f}")
    if (rate := number(train.get("throughput_tps"))) is not None:
        words.append(f"{rate:,.0f} tokens/s")
    if (mfu := number(train.get("mfu"))) is not None:
        words.append(f"MFU {mfu:.1%}")
    if facts.step_time_s is not None:
        words.append(f"{facts.step_time_s:.3g} s a step")
    return ["  ".join(words)] if words else []


def _evaluation(facts: Facts) -> str:
    """Of a run that takes no step: what it measured, of which weights."""
    assert facts.config is not None
    measured = number(facts.last_validation.get("val_loss"))
    told = "not measured" if facts.is_final else "not measured yet"
    weights = short(Path(facts.config.checkpoint.init_from or ""))
    return f"{told if measured is None else f'held-out {measured:.4f}'}  weights of {weights}"


def _by_modality(facts: Facts) -> list[tuple[str, str]]:
    """The losses of a run of several modalities, by row."""
    losses = {
        "loss of": by_modality(facts.last_train, TRAIN_LOSS),
        "held-out": by_modality(facts.last_validation, HELDOUT_LOSS),
    }
    return [(name, words) for name, found in losses.items() if (words := in_words(found, 4))]


def _job(facts: Facts) -> str:
    newest = facts.newest
    if newest is None or newest.job_id is None:
        holder = facts.holder
        if holder is not None and holder.alive:
            return f"local, process {holder.pid} on {holder.host}"
        return "none" if newest is None else "local, no process"
    if facts.job_problem is not None:
        said = [line.replace("slurm_load_jobs error: ", "").strip() for line in facts.job_problem.splitlines()]
        return "\n".join([f"{newest.job_id}, state unknown", *(said[1:] or said)])
    if facts.job is None:
        return f"{newest.job_id}, no longer known to SLURM"
    return f"{newest.job_id} {_in_words(facts.job, facts.waits_s)}"


def _in_words(job: JobState, waits_s: float | None) -> str:
    words = job.state + (f" ({job.reason})" if job.reason else "")
    meaning = reason(job.state, job.reason)
    parts = [f"{words}: {meaning}" if meaning else words]
    if job.is_pending and waits_s is not None:
        parts.append(f"waiting for {duration(waits_s)}")
    if job.start_estimate is not None:
        parts.append(f"expected to start {job.start_estimate:%m-%d %H:%M}")
    if job.is_active and not job.is_pending and job.elapsed_s is not None:
        parts.append(f"for {duration(job.elapsed_s)}")
    if job.restarts:
        parts.append(f"requeued {'once' if job.restarts == 1 else f'{job.restarts} times'}")
    if job.exit_code:
        parts.append(f"exit code {job.exit_code}")
    return ", ".join(parts)


def _nodes(facts: Facts) -> list[str]:
    if facts.state in ("pending", "waiting"):
        return []
    told, noted = facts.job.nodes if facts.job is not None else [], facts.newest.nodes if facts.newest else []
    # SLURM counts only those that are not released yet; the files are those of the attempt before while one starts.
    names = (told or noted) if facts.state == "starting" else (noted or told)
    if not names:
        return []
    return [names[0] if len(names) == 1 else f"{compress(names)} ({len(names)})"]


def _requeues(facts: Facts) -> bool:
    slurm = facts.config.cluster.slurm if facts.config is not None else None
    return slurm is not None and slurm.requeue


def _what(facts: Facts) -> str:
    words = []
    if facts.config is not None:
        config = facts.config
        words = [f"model {config.model.name}", f"{config.cluster.name}", count(config.world_size, "rank")]
    if facts.newest is not None:
        words.append(f"attempt {facts.newest.number}")
    return ", ".join([*words, short(facts.run.path)])


def _attempts(facts: Facts) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", title_justify="left")
    for name in ("attempt", "job", "nodes", "began", "steps"):
        table.add_column(name, no_wrap=name != "nodes", justify="right" if name == "attempt" else "left")
    table.add_column("how it ended", overflow="fold", ratio=1)
    hidden = len(facts.attempts) - _MAX_ATTEMPTS
    if hidden > 0:
        table.title = f"{count(hidden, 'earlier attempt')} in {short(facts.run.path)}/attempts"
    for past in facts.attempts[-_MAX_ATTEMPTS:]:
        is_newest = past is facts.newest
        ended = Text(
            facts.state if is_newest and not facts.is_final else _ending(past), style="bold" if is_newest else ""
        )
        nodes = compress(past.nodes) if len(past.nodes) <= _MAX_NODES else count(len(past.nodes), "node")
        began = moment(past.began) if past.began else "-"
        table.add_row(str(past.number), past.job_id or "local", nodes or "-", began, _steps(past), ended)
    return table


def _steps(past: Past) -> str:
    return f"{past.first_step:,} to {past.last_step:,}" if past.began else "-"


def _ending(past: Past) -> str:
    first = (past.message or "").splitlines()[0] if past.message else ""
    if not past.is_over:
        return "killed, or its node died: it left no word" if past.began else "it never began"
    if past.state == "done":
        return "done"
    why = past.outcome.get("reason")
    told = why if first in ("", past.state) and isinstance(why, str) else first
    return past.state if told in ("", past.state) else f"{past.state}: {told}"


def _node_times(facts: Facts) -> Table:
    times = {node: value for node, value in facts.node_times["nodes"].items() if isinstance(value, dict)}
    slowest = sorted(times, key=lambda node: -(number(times[node].get("compute_p50_s")) or 0.0))
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("node, slowest first", "step p50", "p99", "compute p50", "p99", ""):
        table.add_column(name, justify="left" if name.startswith("node") or not name else "right", no_wrap=True)
    for node in slowest[:_MAX_NODES]:
        cells = [number(times[node].get(key)) for key in ("step_p50_s", "step_p99_s", "compute_p50_s", "compute_p99_s")]
        slowdown = number(facts.node_times.get("slowdown"))
        is_straggler = node == facts.node_times.get("straggler")
        note = Text(f"{slowdown:.1f} times as slow as the others" if is_straggler and slowdown else "", style="yellow")
        table.add_row(node, *("-" if cell is None else f"{cell:.3g} s" for cell in cells), note)
    if len(slowest) > _MAX_NODES:
        table.add_row(f"and {count(len(slowest) - _MAX_NODES, 'faster node')}")
    return table


def _traceback(facts: Facts) -> Panel:
    assert facts.failure is not None
    assert facts.failure.traceback is not None
    lines = facts.failure.traceback.rstrip().splitlines()
    cut = [f"... {count(len(lines) - _TRACEBACK_LINES, 'line')} before"] if len(lines) > _TRACEBACK_LINES else []
    text = Text("\n".join([*cut, *lines[-_TRACEBACK_LINES:]]))
    return Panel(text, title=_of_whom(facts.failure), title_align="left", border_style="red")


def _of_whom(failure: Failure) -> str:
    return "the batch script" if failure.rank is None else f"rank {failure.rank}"


def commands(facts: Facts) -> dict[str, str]:
    """What to type next, by purpose."""
    place = _quoted(short(facts.run.path))
    resume = python_module("train", f"resume={place}")
    logs = python_module("logs", place)
    if facts.state == "empty":
        return {}
    if facts.state == "done":
        return (
            {"what made it": python_module("checkpoint", "show", place)}
            if facts.checkpoint is not None
            else {"logs": logs}
        )
    if facts.is_final:
        failed = facts.failure.rank if facts.failure is not None else 0
        again = {2: "when it is mended", 3: "if you so decide"}.get(_code(facts) or 0, "go on")
        return {"why": f"{logs} --rank {failed}" if failed else logs, again: resume}
    found = {"follow": f"{logs} -f"}
    if facts.state == "running":
        found["save and end"] = f"touch {_quoted(short(facts.run.trigger('stop')))}"
    return {**found, "cancel": python_module("cancel", place)}


def _code(facts: Facts) -> int | None:
    past = facts.newest
    if past is None:
        return None
    return integer(past.outcome.get("exit_code")) or (past.status.exit_code if past.status is not None else None)


def _quoted(path: str) -> str:
    return shlex.quote(path)


def grid_of(commands: Mapping[str, str]) -> RenderableType:
    """What to type, by what it is for; commands stand whole, to be copied."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for purpose, command in commands.items():
        grid.add_row(purpose, Text(command))
    return grid


def console() -> Console:
    """The console of all pages; on a pipe 100 columns wide, so that it looks the same everywhere."""
    wide = None if os.isatty(1) or "COLUMNS" in os.environ else 100
    return Console(highlight=False, width=wide)
