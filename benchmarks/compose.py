"""How long a dry run takes beside a bare Hydra application that prints the same config.

    python benchmarks/compose.py

ours: `python -m mmhydra.train model=10b parallel=tp4pp8 data=mix_v0.2 dry_run=config`, which composes, types and checks
the config and prints the bytes that would be frozen.
bare: an application of three lines under `@hydra.main`, on the same conf/, with the same overrides and `--cfg job`. It
does not resolve interpolations, so it needs nothing of ours.
"""

import argparse
import re
import statistics
import sys
import tempfile
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
    verdict,
    write_block,
)

OVERRIDES = ("model=10b", "parallel=tp4pp8", "data=mix_v0.2")
OURS = ("-m", "mmhydra.train", *OVERRIDES, "dry_run=config")
GOAL_RATIO = 1.5

BARE_APPLICATION = """\
import hydra


@hydra.main(version_base="1.3", config_path={conf!r}, config_name="config")
def application(config):
    pass


application()
"""

_IMPORTED = re.compile(rb"^import time:.*\| +(\S+)$", re.MULTILINE)
_FORBIDDEN = ("torch", "torchtitan", "torchao", "numpy", "submitit")


def main() -> None:
    """Measures, checks, writes the result block."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        bare = bare_application(Path(folder))
        run_ours, run_bare = partial(python, OURS), partial(python, (str(bare), *OVERRIDES, "--cfg", "job"))
        require_same_config(run_ours(), run_bare())  # also fills the caches of both
        modules = imported_modules()
        pairs = []
        for ours, stock in interleaved(arguments.pairs, run_ours, run_bare):
            pairs.append((ours, stock))
            progress(f"pair {len(pairs)}/{arguments.pairs}: ours {ours.wall_s:.3f} s, bare {stock.wall_s:.3f} s")
    write_block("compose", "compose.py", sys.argv[1:], report(pairs, modules))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=21, help="pairs of runs, at least 15 for a result that counts")
    return parser.parse_args()


def bare_application(folder: Path) -> Path:
    """Writes the application that a user of plain Hydra would write."""
    path = folder / "bare.py"
    path.write_text(BARE_APPLICATION.format(conf=str(ROOT / "conf")))
    return path


def python(arguments: tuple[str, ...]) -> Timed:
    """One whole process of this interpreter."""
    return run_timed([sys.executable, *arguments], project_environment(), ROOT)


def require_same_config(ours: Timed, bare: Timed) -> None:
    """Both must have composed the run that was asked for."""
    for done in (ours, bare):
        missing = [line for line in (b"name: 10b", b"name: tp4pp8", b"name: mix_v0.2") if line not in done.stdout]
        assert not missing, f"not in the printed config: {missing}"


def imported_modules() -> set[str]:
    """Names of all modules that a dry run imports."""
    traced = python(("-X", "importtime", *OURS))
    modules = {name.decode() for name in _IMPORTED.findall(traced.stderr)}
    assert {"hydra", "mmhydra.compose"} <= modules, "the import trace can't be read"
    return modules


def report(pairs: list[tuple[Timed, Timed]], modules: set[str]) -> str:
    """The body of the result block."""
    wall = median_of([ours.wall_s / bare.wall_s for ours, bare in pairs])
    cpu = median_of([ours.cpu_s / bare.cpu_s for ours, bare in pairs])
    forbidden = [name for name in _FORBIDDEN if name in modules]
    lines = [
        f"A dry run of the 10b line takes {wall.text(2)} times as long as a bare `@hydra.main` application with "
        f"`--cfg job` on the same conf/: median ratio of {len(pairs)} interleaved pairs, in brackets the 95% bootstrap "
        f"interval. Goal: at most {GOAL_RATIO}; {verdict(wall, GOAL_RATIO)}.",
        "",
        "| | dry run, s | bare `--cfg job`, s | ratio |",
        "|---|---|---|---|",
        _row("wall", [(ours.wall_s, bare.wall_s) for ours, bare in pairs], wall),
        _row("CPU", [(ours.cpu_s, bare.cpu_s) for ours, bare in pairs], cpu),
        "",
        f"Imported by the dry run: {len(modules)} modules; of {', '.join(_FORBIDDEN)}: "
        f"{', '.join(forbidden) or 'none'}.",
    ]
    assert "torch" not in modules, "a dry run imports torch"
    return "\n".join(lines)


def _row(name: str, values: list[tuple[float, float]], ratio: Median) -> str:
    ours, bare = (statistics.median(column) for column in zip(*values, strict=True))
    return f"| {name} | {ours:.3f} | {bare:.3f} | {ratio.text(2)} |"


if __name__ == "__main__":
    main()
