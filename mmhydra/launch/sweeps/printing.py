"""Dry runs of a sweep: configs, or batch scripts. Nothing is written."""

import sys
from collections.abc import Sequence

from mmhydra.errors import ExitCode
from mmhydra.launch.points import Point
from mmhydra.launch.printing import is_printed
from mmhydra.launch.sweeps.compiling import name_of
from mmhydra.launch.sweeps.cost import costs, limits, lines, most
from mmhydra.launch.sweeps.recording import key_of


def print_points(name: str, points: Sequence[Point]) -> ExitCode:
    """Prints what `dry_run=` asks for of points that only print; `name` is that of the sweep.

    On standard error what they are called and what they may cost together. Raises UserError for points without a batch
    script where scripts are asked for.
    """
    for point in points:
        run_id = point.run_id or f"pending ({', '.join(point.missing)} is not in {point.config.paths.data})"
        print(f"run id: {run_id}{f'  {name_of(point.planned)}' if len(points) > 1 else ''}", file=sys.stderr)
    first: dict[tuple[str, ...], Point] = {}
    for point in points:  # parents come first: a point that is its parent's own run is no child of itself
        first.setdefault(point.key, point)
    once = list(first.values())
    found = costs(most(once, {key_of(point) for point in once}))
    for line in [*lines(found), *limits(found)]:
        print(f"cost: {line}", file=sys.stderr)
    configs = [point for point in points if point.request.dry_run == "config"]
    scripts = [point for point in points if point.request.dry_run == "sbatch"]
    texts = [point.text for point in configs]
    if scripts:
        from mmhydra.launch.sweeps.scripts import scripts_of  # submitit, which configs can do without

        texts += scripts_of(name, scripts)
    # YAML's own sign between documents; in a script it would be a command.
    return ExitCode.DONE if is_printed((b"" if scripts else b"---\n").join(texts)) else ExitCode.FAILED
