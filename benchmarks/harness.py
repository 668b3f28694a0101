"""What the benchmarks share: timed processes, medians with their intervals, result blocks in docs/performance.md."""

import os
import platform
import random
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "performance.md"

_NUM_RESAMPLES = 10_000
_TITLE = "# Performance\n\nMeasured figures; `benchmarks/README.md` says how to measure them again.\n"


@dataclass(frozen=True)
class Timed:
    """A process that ended with exit code 0. Times in seconds."""

    wall_s: float
    cpu_s: float  # user and system, with all waited-for children
    stdout: bytes
    stderr: bytes


def run_timed(command: Sequence[str], environment: Mapping[str, str], cwd: Path) -> Timed:
    """Runs one process to its end. Raises RuntimeError with its last words if it fails."""
    before, start = os.times(), time.perf_counter()
    done = subprocess.run(command, env=dict(environment), cwd=cwd, capture_output=True, check=False)
    wall_s, after = time.perf_counter() - start, os.times()
    if done.returncode != 0:
        last_words = (done.stdout[-2000:] + done.stderr[-4000:]).decode(errors="replace")
        raise RuntimeError(f"{shlex.join(command)} ended with {done.returncode}:\n{last_words}")
    cpu_s = after.children_user - before.children_user + after.children_system - before.children_system
    return Timed(wall_s, cpu_s, done.stdout, done.stderr)


def interleaved(
    num_pairs: int, first: Callable[[], Result], second: Callable[[], Result]
) -> Iterator[tuple[Result, Result]]:
    """Yields (first, second) results, run in the order A B B A A B B A: a slow drift of the machine cancels out."""
    for pair in range(num_pairs):
        if pair % 2 == 0:
            a = first()
            b = second()
        else:
            b = second()
            a = first()
        yield a, b


@dataclass(frozen=True)
class Median:
    """A median and the 95% interval of it, from resampled pairs."""

    value: float
    low: float
    high: float

    def text(self, digits: int = 3) -> str:
        """For a table."""
        return f"{self.value:.{digits}f} ({self.low:.{digits}f} to {self.high:.{digits}f})"


def median_of(values: Sequence[float]) -> Median:
    """Percentile bootstrap over the values, always with the same seed."""
    draw = random.Random(0)
    medians = sorted(statistics.median(draw.choices(values, k=len(values))) for _ in range(_NUM_RESAMPLES))
    tail = _NUM_RESAMPLES // 40
    return Median(statistics.median(values), medians[tail], medians[-tail - 1])


def verdict(measured: Median, goal: float) -> str:
    """Whether a goal (at most) is met: only an interval that lies on one side of it decides."""
    if measured.high <= goal:
        return "met"
    return "missed" if measured.low > goal else "not decided: the interval straddles it"


def project_environment() -> dict[str, str]:
    """This process's variables with the checkout on the path, whether it is installed or not.

    Bytecode is cached, as it is for users: pip compiles what it installs, without a cache only ours is compiled anew.
    """
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    inherited = variables.get("PYTHONPATH")
    variables["PYTHONPATH"] = os.pathsep.join([str(ROOT), *([inherited] if inherited else [])])
    return variables


def write_block(name: str, script: str, arguments: Sequence[str], body: str) -> None:
    """Replaces the block `name` of docs/performance.md, or appends it; prints the body too."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    command = shlex.join(["python", f"benchmarks/{script}", *arguments])
    block = f"{begin}\n`{command}`\n\n{machine()}\n\n{body.strip()}\n{end}"
    text = RESULTS.read_text() if RESULTS.exists() else _TITLE
    if begin in text and end in text:
        text = text[: text.index(begin)] + block + text[text.index(end) + len(end) :]
    else:
        text = f"{text.rstrip()}\n\n{block}\n"
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(text)
    print(body.strip())
    print(f"written to {RESULTS.relative_to(ROOT)}")


def machine() -> str:
    """One line: date, processor, versions, load. No names of hosts or folders."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "torchtitan", "hydra-core", "pydantic"))
    load = os.getloadavg()[0]
    return (
        f"Measured on {datetime.now(UTC):%Y-%m-%d}: {os.cpu_count()} cores ({_processor()}), Python "
        f"{platform.python_version()}, {packages}; load average {load:.1f} at the end of the measurement."
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def progress(text: str) -> None:
    """A line for the person who waits."""
    print(text, file=sys.stderr, flush=True)
