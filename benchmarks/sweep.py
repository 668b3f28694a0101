"""What the points of a sweep cost beside Hydra's own `-m`.

    python benchmarks/sweep.py

ours: a process that composes, types and checks all points of a product over conf/, computes their run ids or what
stands for them, makes their frozen texts, and composes one in a hundred again the stock way. `written` also writes
config.yaml, its hash and overrides.txt of each into a folder of its own.
stock: an application of three lines under `@hydra.main` on the same conf/ with `-m`, BasicSweeper and a launcher
that composes the config of each job, as every launcher has to, and starts nothing. Nothing is resolved or checked.

Two products: values over 4 combinations of groups, and points each of which is a combination of its own. Both arms
report the seeds and the names that they composed, which have to be the same.
"""

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from harness import (
    ROOT,
    Median,
    Timed,
    interleaved,
    median_of,
    progress,
    project_environment,
    run_timed,
    write_block,
)

GOAL_VALUES, GOAL_GROUPS = 20, 4
SIZES = (260, 500, 1000, 2000)

Axes = Mapping[str, Sequence[str]]

APPLICATION = """\
import hydra


@hydra.main(version_base="1.3", config_path={conf!r}, config_name="config")
def application(config):
    pass


application()
"""

LAUNCHER = """\
import json
from dataclasses import dataclass
from pathlib import Path

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher


@dataclass
class NoOpLauncherConf:
    _target_: str = "hydra_plugins.no_op_launcher.NoOpLauncher"
    report: str = ""


ConfigStore.instance().store("no_op", NoOpLauncherConf, group="hydra/launcher", provider="benchmark")


class NoOpLauncher(Launcher):
    def __init__(self, report):
        self.report = report

    def setup(self, *, hydra_context, task_function, config):
        self.context, self.config = hydra_context, config

    def launch(self, job_overrides, initial_job_idx):
        seen, seeds = {}, 0
        for overrides in job_overrides:
            config = self.context.config_loader.load_sweep_config(self.config, list(overrides))
            key = "/".join(config[group].name for group in ("model", "parallel", "precision", "optim", "checkpoint"))
            seen[key] = seen.get(key, 0) + 1
            seeds += config.seed.data
        Path(self.report).write_text(json.dumps({"seen": seen, "seeds": seeds}))
        return [JobReturn(overrides=overrides, status=JobStatus.COMPLETED) for overrides in job_overrides]
"""


def values(num_points: int) -> Axes:
    """Values over 4 combinations of groups."""
    rates = 5
    seeds = num_points // 4 // rates
    assert 4 * rates * seeds == num_points, "points come in fours of fives"
    return {
        "model": ("debug", "100m"),
        "optim": ("adamw_cosine", "adamw_wsd"),
        "training.tokens": ("null",),
        "training.steps": ("200",),
        "optim.warmup_steps": ("20",),
        "optim.lr": [f"{rate}e-3" for rate in range(1, rates + 1)],
        "seed.data": [str(seed) for seed in range(1, seeds + 1)],
    }


GROUPS: Axes = {
    "optim": ("adamw_cosine", "adamw_wsd"),
    "parallel": ("single", "fsdp", "hsdp", "tp2", "pp2", "tp2pp2"),
    "precision": ("fp32", "bf16", "float8_emulated"),
    "checkpoint": ("default", "none", "three_two_one"),
    "track": ("jsonl", "aim"),
    "optim.warmup_steps": ("20",),
}


def product(axes: Axes) -> list[list[str]]:
    """The points in the order in which Hydra's sweeper has them."""
    keys = list(axes)
    return [[f"{key}={value}" for key, value in zip(keys, point, strict=True)] for point in _combinations(axes)]


def _combinations(axes: Axes) -> Iterator[tuple[str, ...]]:
    return itertools.product(*axes.values())


def main() -> None:
    """Measures, checks, writes the result block."""
    arguments = _arguments()
    if arguments.points_of:
        compile_points(Path(arguments.points_of), arguments.write)
        return
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder))
        sizes = {size: ours(place, values(size)) for size in SIZES}
        ways = {"values": (values(arguments.points), arguments.pairs), "groups": (GROUPS, arguments.group_pairs)}
        results = {name: measured(place, name, axes, pairs) for name, (axes, pairs) in ways.items()}
    write_block("sweep", "sweep.py", sys.argv[1:], report(results, sizes))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=1000, help="points over 4 combinations of groups")
    parser.add_argument("--pairs", type=int, default=3, help="pairs of sweeps over values; a pair takes 5 minutes")
    parser.add_argument("--group-pairs", type=int, default=5, help="pairs of sweeps over groups; a pair takes a minute")
    parser.add_argument("--points-of", help=argparse.SUPPRESS)  # what the arm is given
    parser.add_argument("--write", help=argparse.SUPPRESS)
    return parser.parse_args()


class Place:
    """A scratch folder with the stock application and its launcher."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "plugins" / "hydra_plugins").mkdir(parents=True)
        (folder / "plugins" / "hydra_plugins" / "no_op_launcher.py").write_text(LAUNCHER)
        self.application = folder / "application.py"
        self.application.write_text(APPLICATION.format(conf=str(ROOT / "conf")))
        self.report = folder / "report.json"
        plugins = [str(ROOT / "launchers"), str(folder / "plugins")]
        self.environment = project_environment() | {"MMHYDRA_DATA": str(folder / "data")}
        self.environment["PYTHONPATH"] = ":".join([self.environment["PYTHONPATH"], *plugins])
        self.environment.pop("MMHYDRA_CLUSTER", None)


@dataclass(frozen=True)
class Arm:
    """One sweep. `inner` are times of parts of it in CPU seconds, by what they are."""

    timed: Timed
    inner: dict[str, float]


@dataclass(frozen=True)
class Result:
    """Sweeps over one product."""

    num_points: int
    pairs: list[tuple[Arm, Arm]]


def measured(place: Place, name: str, axes: Axes, num_pairs: int) -> Result:
    """Both arms in turn."""
    num_points = len(product(axes))
    pairs: list[tuple[Arm, Arm]] = []
    for here, there in interleaved(num_pairs, partial(ours, place, axes), partial(stock, place, axes)):
        pairs.append((here, there))
        progress(
            f"{name}, {num_points} points, pair {len(pairs)}/{num_pairs}: CPU ours {here.timed.cpu_s:.2f} s, "
            f"stock {there.timed.cpu_s:.2f} s"
        )
    return Result(num_points, pairs)


def ours(place: Place, axes: Axes) -> Arm:
    """A process of ours, told by this very file."""
    points = place.folder / "points.json"
    points.write_text(json.dumps(product(axes)))
    with tempfile.TemporaryDirectory(dir=place.folder) as written:
        command = [sys.executable, str(Path(__file__)), "--points-of", str(points), "--write", written]
        timed = run_timed(command, place.environment, ROOT)
    told = json.loads(timed.stdout)
    _require_same(told.pop("composed"), axes)
    return Arm(timed, told)


def stock(place: Place, axes: Axes) -> Arm:
    """A process of plain Hydra."""
    overrides = [f"{key}={','.join(choices)}" for key, choices in axes.items()]
    launcher = ["hydra/sweeper=basic", "hydra/launcher=no_op", f"hydra.launcher.report={place.report}"]
    timed = run_timed(
        [sys.executable, str(place.application), "-m", *launcher, *overrides], place.environment, place.folder
    )
    _require_same(json.loads(place.report.read_text()), axes)
    return Arm(timed, {})


def _require_same(composed: dict[str, object], axes: Axes) -> None:
    """Both arms must have composed what was asked for."""
    points = product(axes)
    seen = composed["seen"]
    assert isinstance(seen, dict)
    combinations = {tuple(text for text in point if "." not in text and "track" not in text) for point in points}
    assert sum(seen.values()) == len(points), f"{sum(seen.values())} points were composed"
    assert len(seen) == len(combinations), f"{len(seen)} combinations were composed"
    seeds = [int(text.partition("=")[2]) for point in points for text in point if text.startswith("seed.data=")]
    assert composed["seeds"] == (sum(seeds) if seeds else 42 * len(points)), "the seeds are others"


def compile_points(file: Path, folder: str) -> None:
    """The arm of ours: prints what it composed, and its times."""
    started = time.process_time()
    from mmhydra.launch.points import PointCompiler  # the import is part of the time

    times = {"import": time.process_time() - started}
    points = json.loads(file.read_text())

    def take(name: str, since: float) -> None:
        times[name] = time.process_time() - since

    started = time.process_time()
    compiler = PointCompiler()
    made = [compiler.point(point) for point in points]
    take("points", started)
    started = time.process_time()
    compiler.recheck(made)
    take("recheck", started)
    started = time.process_time()
    for number, point in enumerate(made):
        place = Path(folder) / str(number)
        place.mkdir()
        (place / "config.yaml").write_bytes(point.text)
        (place / "config.yaml.sha256").write_text(f"{point.sha256}  config.yaml\n")
        (place / "overrides.txt").write_text("".join(f"{line}\n" for line in point.request.overrides))
    take("write", started)
    assert len({point.text for point in made}) == len(made), "two points are one"
    seen: dict[str, int] = {}
    for point in made:
        config = point.request.config
        parts = (config.model, config.parallel, config.precision, config.optim, config.checkpoint)
        key = "/".join(part.name for part in parts)
        seen[key] = seen.get(key, 0) + 1
    seeds = sum(point.request.config.seed.data for point in made)
    print(json.dumps({"composed": {"seen": seen, "seeds": seeds}, **times}))


def report(results: Mapping[str, Result], sizes: Mapping[int, Arm]) -> str:
    """The body of the result block."""
    by_values, by_groups = results["values"], results["groups"]
    lines = [
        f"A point of {by_values.num_points} over 4 combinations of groups takes stock Hydra's `-m` "
        f"{_told(by_values, 'cpu_s')} times as much CPU time: whole processes, ours with imports, with one "
        f"point in a hundred composed again the stock way, and with all files written. Goal: at least {GOAL_VALUES}; "
        f"{_verdict(_ratio(by_values, 'cpu_s'), GOAL_VALUES)}. Where each of {by_groups.num_points} points is a "
        f"combination of its own: {_told(by_groups, 'cpu_s')}. Goal: at least {GOAL_GROUPS}; "
        f"{_verdict(_ratio(by_groups, 'cpu_s'), GOAL_GROUPS)}. Median ratios of {len(by_values.pairs)} and "
        f"{len(by_groups.pairs)} interleaved pairs, in brackets the 95% bootstrap interval.",
        "",
        "| points | | ours, ms a point | stock `-m`, ms a point | ratio |",
        "|---|---|---|---|---|",
        *_rows("4 combinations", by_values),
        *_rows("a combination each", by_groups),
        "",
        "CPU milliseconds a point of ours, by what they go into; the whole process has the imports too:",
        "",
        "| points | composed, checked, hashed, frozen | recheck of 1% | written | whole process |",
        "|---|---|---|---|---|",
        *(_size_row(size, arm) for size, arm in sizes.items()),
        _size_row(by_groups.num_points, by_groups.pairs[-1][0], ", a combination each"),
    ]
    return "\n".join(lines)


def _ratio(result: Result, field: str) -> Median:
    return median_of([getattr(there.timed, field) / getattr(here.timed, field) for here, there in result.pairs])


def _told(result: Result, field: str) -> str:
    ratio = _ratio(result, field)
    return ratio.text(1) if len(result.pairs) > 1 else f"{ratio.value:.1f} (one pair, no interval)"


def _verdict(ratio: Median, goal: float) -> str:
    if ratio.low >= goal:
        return "met"
    return "missed" if ratio.high < goal else "not decided: the interval straddles it"


def _rows(name: str, result: Result) -> Iterator[str]:
    for title, field in {"CPU": "cpu_s", "wall": "wall_s"}.items():
        mine, theirs = (
            statistics.median(getattr(pair[arm].timed, field) for pair in result.pairs) / result.num_points * 1000
            for arm in (0, 1)
        )
        yield f"| {result.num_points}, {name} | {title} | {mine:.2f} | {theirs:.0f} | {_told(result, field)} |"


def _size_row(size: int, arm: Arm, name: str = "") -> str:
    parts = [arm.inner["points"], arm.inner["recheck"], arm.inner["write"], arm.timed.cpu_s]
    return f"| {size}{name} | {' | '.join(f'{part / size * 1000:.2f}' for part in parts)} |"


if __name__ == "__main__":
    main()
