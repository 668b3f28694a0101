"""What a person sees of a build: a bar on a terminal, lines elsewhere, and a panel at the end."""

import shlex
import sys
from pathlib import Path

from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from mmhydra.config.dataset import BuildConfig
from mmhydra.data.report import CARD_NAME, REPORT_NAME
from mmhydra.data.shards.manifest import Manifest
from mmhydra.paths import short


class Display:
    """Use it as a context manager, `line` and `progress` as the callbacks of `build_dataset`."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "Display":
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def line(self, text: str) -> None:
        """What happens now."""
        self._console.print(text, markup=False)

    def progress(self, title: str, done: int, total: int) -> None:
        """How far a stage is."""
        if title not in self._tasks:
            self._tasks[title] = self._bar.add_task(title, total=total)
        self._bar.update(self._tasks[title], completed=done, total=total)


def show_built(console: Console, config: BuildConfig, manifest: Manifest) -> None:
    """One panel: what was made of what, where it is, and what to type next."""
    folder = Path(config.paths.data) / manifest.dataset
    rows = _rows(manifest, folder)
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows.items():
        grid.add_row(Text(name, style="bold"), Text(value))
    console.print(Panel(grid, title=f"dataset {manifest.dataset}", expand=False), soft_wrap=False)
    python = short(Path(sys.executable))
    where = shlex.quote(short(folder))
    console.print(f"is it whole:\n{python} -m mmhydra.data verify {where}", markup=False)
    if manifest.shards:
        shard = shlex.quote(short(folder / manifest.shards[-1].path))
        console.print(f"look at a sample:\n{python} -m mmhydra.data show {shard} 000000000", markup=False)


def _rows(manifest: Manifest, folder: Path) -> dict[str, str]:
    statistics = [source.statistics for source in manifest.sources]
    records, accepted = sum(s.records for s in statistics), sum(s.accepted for s in statistics)
    by_modality: dict[str, int] = {}
    for entry in statistics:
        for row in entry.tokens.values():
            for modality, count in row.items():
                by_modality[modality] = by_modality.get(modality, 0) + count
    reasons: dict[str, int] = {}
    for entry in statistics:
        for reason, count in entry.rejected.items():
            reasons[reason] = reasons.get(reason, 0) + count
    worst = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    size_mb = sum(shard.size_bytes for shard in manifest.shards) / 1e6
    tokens = ", ".join(f"{name} {count:,}" for name, count in by_modality.items())
    rows = {
        "folder": short(folder),
        "records": f"{records:,}, of which {accepted:,} were accepted",
        "rejected": ", ".join(f"{reason} {count:,}" for reason, count in worst[:6]) or "none",
        "tokens": f"{sum(by_modality.values()):,} ({tokens})",
        "shards": f"{len(manifest.shards)}, {size_mb:,.1f} MB",
        "manifest": manifest.digest,
        "data card": short(folder / CARD_NAME),
        "report": short(folder / REPORT_NAME),
    }
    loud = [f"{name} codec: {info.note}" for name, info in manifest.codecs.items() if not info.trained]
    return rows | ({"beware": "; ".join(loud)} if loud else {})
