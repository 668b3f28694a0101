"""What a person sees of a run: a progress bar fed by metrics.jsonl, and one panel at the end."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from mmhydra.track.jsonl import decode
from mmhydra.track.modalities import HELDOUT_LOSS, TRAIN_LOSS, by_modality, in_words

_PLAIN_LINES = 20  # lines a run prints where there is no terminal


class _TwoLines(Bar):
    """The bar, and below it what would not fit beside it on a terminal of 80 columns."""

    below = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        if self.below:
            yield Text(self.below, overflow="ellipsis", no_wrap=True)


class Progress:
    """A bar on a terminal, about twenty lines elsewhere."""

    def __init__(self, console: Console, num_steps: int) -> None:
        self._console = console
        self._num_steps = num_steps
        self._offset = 0
        self._next_line = 0
        self.last: dict[str, Any] = {}
        self.validation: dict[str, Any] = {}
        self._bar = _TwoLines(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("loss {task.fields[loss]}"),
            TextColumn("{task.fields[rate]} tokens/s"),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("train", total=num_steps, loss="-", rate="-")

    def __enter__(self) -> "Progress":
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def follow(self, metrics: Path, *, quietly: bool = False) -> None:
        """Reads the whole lines that were written since the last call; broken ones are passed over."""
        try:
            with open(metrics, "rb") as file:
                file.seek(self._offset)
                text = file.read()
        except FileNotFoundError:
            return
        complete = text[: text.rfind(b"\n") + 1]
        self._offset += len(complete)
        for line in complete.splitlines():
            record = decode(line)
            if record is None:
                continue
            if record["kind"] == "validation":
                self.validation = record
            else:
                self.last = record
            if not quietly:
                self._show(record)

    def _show(self, record: dict[str, Any]) -> None:
        if record["kind"] == "validation":
            heldout = f"{float(record['val_loss']):.4f} nats a token"
            parts = f" ({words})" if (words := in_words(by_modality(record, HELDOUT_LOSS), 2)) else ""
            text = f"step {record['step']}: held-out loss {heldout}{parts}"
            self._console.print(text, soft_wrap=True)
            return
        loss, rate = f"{float(record['loss']):.3f}", f"{float(record['throughput_tps']):,.0f}"
        losses = by_modality(record, TRAIN_LOSS)
        self._bar.below = in_words(losses, 3)
        self._bar.update(self._task, completed=record["step"], loss=loss, rate=rate)
        if not self._console.is_terminal and record["step"] >= self._next_line:
            parts = f" ({words})" if (words := in_words(losses, 1)) else ""
            text = f"step {record['step']}/{self._num_steps}  loss {loss}{parts}  {rate} tokens/s"
            self._console.print(text, soft_wrap=True)
            self._next_line = record["step"] + max(1, self._num_steps // _PLAIN_LINES)


def show_end(
    console: Console,
    title: str,
    rows: dict[str, str],
    commands: dict[str, str],
    tables: Sequence[RenderableType] = (),
) -> None:
    """One panel: where things are, how it went, and what to type next.

    Commands stand alone on their lines, to be copied.
    """
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(Text(name, style="bold"), Text(value))
    lines: list[RenderableType] = [part for shown in tables for part in (Text(), shown)]
    lines.append(Text())
    for purpose, command in commands.items():
        lines += [Text(f"{purpose}:", style="bold"), Text(command)]
    console.print(Panel(Group(table, *lines), title=title, expand=False))
