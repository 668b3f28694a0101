"""What mmhydra costs per training step beside a bare torchtitan script with the same model, batches and loader.

    python benchmarks/overhead.py

ours: `python -m mmhydra.train`, as a user types it: torch elastic, the worker with its metrics and stamps, and the
parent that follows metrics.jsonl for its progress bar. bare: benchmarks/bare_titan.py, one plain process with
torchtitan's own metrics and checkpoints. Both are timed by benchmarks/step_clock at the edges of the training steps,
and both must give the same losses and gradient norms to the last bit, else there is no result.
"""

import argparse
import json
import os
import pty
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

from harness import ROOT, Median, interleaved, median_of, progress, project_environment, run_timed, verdict, write_block

GOAL_PERCENT = 2.0
CLOCK = ROOT / "benchmarks" / "step_clock"
BARE = ROOT / "benchmarks" / "bare_titan.py"


@dataclass(frozen=True)
class Variant:
    """One way to run both arms."""

    title: str
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """The steps of one run, warm-up dropped. Times in seconds."""

    steps_s: list[float]
    steps_cpu_s: list[float]  # of the training process, all its threads
    loop_s: float  # all steps, warm-up included
    losses: list[list[float]]

    @property
    def median_s(self) -> float:
        """The typical step; a checkpoint in one step of many does not show."""
        return statistics.median(self.steps_s)

    @property
    def median_cpu_s(self) -> float:
        """Tells more than wall time on a busy machine, with one thread."""
        return statistics.median(self.steps_cpu_s)

    @property
    def mean_s(self) -> float:
        """All that happens between the first and the last step."""
        return statistics.fmean(self.steps_s)


Pair = tuple[Run, Run]


def main() -> None:
    """Measures all variants, writes the result block."""
    arguments = _arguments()
    results = {variant: measure(variant, arguments) for variant in variants(arguments)}
    block = "overhead-terminal" if arguments.terminal else "overhead"
    write_block(block, "overhead.py", sys.argv[1:], report(results, arguments))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=12, help="pairs of runs, at least 10 for a result that counts")
    parser.add_argument("--steps", type=int, default=60, help="steps of each run")
    parser.add_argument("--warmup", type=int, default=10, help="steps at the start that do not count")
    parser.add_argument("--interval", type=int, default=20, help="steps between checkpoints; 0 leaves that variant out")
    parser.add_argument(
        "--threads", type=int, default=1, help="OMP_NUM_THREADS of both arms; as many as cores is noisy"
    )
    parser.add_argument("--terminal", action="store_true", help="give ours a terminal, so that it draws its bar")
    return parser.parse_args()


def variants(arguments: argparse.Namespace) -> list[Variant]:
    """Without checkpoints, and with many."""
    found = [Variant("no checkpoints", ("checkpoint=none",))]
    if arguments.interval:
        interval = f"checkpoint.interval={arguments.interval}"
        found.append(Variant(f"a checkpoint every {arguments.interval} steps", (interval,)))
    return found


def measure(variant: Variant, arguments: argparse.Namespace) -> list[Pair]:
    """All pairs of one variant, checked to have computed the same."""
    overrides = (
        "model=debug",
        f"training.steps={arguments.steps}",
        "training.validation_interval=null",
        "optim.warmup_steps=5",
        *variant.overrides,
    )
    with tempfile.TemporaryDirectory() as folder:
        run_ours = partial(ours, overrides, arguments, Path(folder))
        run_bare = partial(bare, overrides, arguments, Path(folder))
        require_same_work(run_ours(), run_bare())  # also builds the data and fills the caches
        pairs = []
        for pair in interleaved(arguments.pairs, run_ours, run_bare):
            require_same_work(*pair)
            pairs.append(pair)
            times = ", ".join(
                f"{name} {run.median_s * 1e3:.1f}" for name, run in zip(("ours", "bare"), pair, strict=True)
            )
            progress(f"{variant.title}, pair {len(pairs)}/{arguments.pairs}: {times} ms a step")
    return pairs


def ours(overrides: tuple[str, ...], arguments: argparse.Namespace, folder: Path) -> Run:
    """`python -m mmhydra.train` in a fresh outputs folder."""
    with fresh(folder / "outputs") as outputs:
        variables = environment(arguments, outputs)
        command = [sys.executable, "-m", "mmhydra.train", *overrides]
        if arguments.terminal:
            run_in_terminal(command, variables)
        else:
            run_timed(command, variables, ROOT)
        return read_clock(variables, arguments.warmup)


def bare(overrides: tuple[str, ...], arguments: argparse.Namespace, folder: Path) -> Run:
    """benchmarks/bare_titan.py on the numbers of the same config."""
    with fresh(folder / "outputs") as outputs:
        variables = environment(arguments, outputs)
        config = outputs / "config.yaml"
        printed = run_timed([sys.executable, "-m", "mmhydra.train", *overrides, "dry_run=config"], variables, ROOT)
        config.write_bytes(printed.stdout)
        run_timed([sys.executable, str(BARE), str(config), str(outputs)], variables, ROOT)
        return read_clock(variables, arguments.warmup)


@contextmanager
def fresh(folder: Path) -> Iterator[Path]:
    """An empty folder that is gone afterwards; both arms use the same name, hence the same disk."""
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def environment(arguments: argparse.Namespace, outputs: Path) -> dict[str, str]:
    """The same variables for both arms: CPU, threads, the clock."""
    variables = project_environment()
    return variables | {
        "PYTHONPATH": os.pathsep.join([str(CLOCK), variables["PYTHONPATH"]]),
        "STEP_CLOCK_FILE": str(outputs / "clock.json"),
        "MMHYDRA_OUTPUTS": str(outputs),
        "OMP_NUM_THREADS": str(arguments.threads),
        "CUDA_VISIBLE_DEVICES": "",
    }


def run_in_terminal(command: list[str], variables: dict[str, str]) -> None:
    """Runs ours where it finds a terminal of 120 columns, whose output is thrown away."""
    master, terminal = pty.openpty()
    process = subprocess.Popen(
        command, env=variables | {"COLUMNS": "120", "TERM": "xterm"}, cwd=ROOT, stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    reader = threading.Thread(target=_read_away, args=(lambda: os.read(master, 65536),))
    reader.start()
    code = process.wait()
    reader.join()
    os.close(master)
    if code != 0:
        raise RuntimeError(f"{command} ended with {code}")


def _read_away(read: Callable[[], bytes]) -> None:
    try:
        while read():
            pass
    except OSError:  # how Linux tells that the other end of a terminal is closed
        return


def read_clock(variables: dict[str, str], warmup: int) -> Run:
    """The clock's file as durations."""
    record = json.loads(Path(variables["STEP_CLOCK_FILE"]).read_text())
    starts = record["starts"]
    steps_s, steps_cpu_s = ([end - start for start, end in pairwise(record[name])] for name in ("starts", "cpu"))
    return Run(steps_s[warmup:], steps_cpu_s[warmup:], starts[-1] - starts[0], record["losses"])


def require_same_work(ours: Run, bare: Run) -> None:
    """Losses and gradient norms of all steps, bit for bit."""
    assert len(ours.steps_s) == len(bare.steps_s) > 0
    assert ours.losses == bare.losses, "the two arms did not compute the same: there is nothing to compare"


def report(results: dict[Variant, list[Pair]], arguments: argparse.Namespace) -> str:
    """The body of the result block."""
    first = next(iter(results.values()))
    typical = overhead_percent(first, lambda run: run.median_s)
    last = first[0][0].losses[-1]
    lines = [
        f"mmhydra adds {typical.text(1)} % to the median training step of a bare torchtitan script, checkpoints off: "
        f"median of {len(first)} interleaved pairs, in brackets the 95% bootstrap interval. Goal: at most "
        f"{GOAL_PERCENT:.0f} %; {verdict(typical, GOAL_PERCENT)}.",
        "",
        "| variant | step, ours, ms | step, bare, ms | median step, % | mean step, % | whole loop, % | CPU, % |",
        "|---|---|---|---|---|---|---|",
        *(_row(variant, pairs) for variant, pairs in results.items()),
        "",
        f"model=debug, 16 sequences of 128 tokens, fp32, one rank, {arguments.steps} steps of which the first "
        f"{arguments.warmup} count only for the whole loop, a record each step, OMP_NUM_THREADS={arguments.threads}, "
        f"{'a terminal with a progress bar' if arguments.terminal else 'no terminal'}. CPU is that of the training "
        "process in the median step. Losses and gradient norms of "
        f"both arms are equal bit for bit (step {last[0]:.0f}: loss {last[1]!r}).",
    ]
    return "\n".join(lines)


def overhead_percent(pairs: list[Pair], figure: Callable[[Run], float]) -> Median:
    """How much longer ours takes."""
    return median_of([100 * (figure(ours) / figure(bare) - 1) for ours, bare in pairs])


def _row(variant: Variant, pairs: list[Pair]) -> str:
    figures: list[Callable[[Run], float]] = [
        lambda run: run.median_s,
        lambda run: run.mean_s,
        lambda run: run.loop_s,
        lambda run: run.median_cpu_s,
    ]
    ours, bare = (statistics.median(run.median_s for run in arm) * 1e3 for arm in zip(*pairs, strict=True))
    cells = [f"{ours:.1f}", f"{bare:.1f}", *(overhead_percent(pairs, figure).text(1) for figure in figures)]
    return f"| {' | '.join([variant.title, *cells])} |"


if __name__ == "__main__":
    main()
