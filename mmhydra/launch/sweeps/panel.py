"""What a person sees of a sweep once it is submitted: one panel, however many points there are."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from mmhydra.launch.progress import show_end
from mmhydra.launch.sweeps.arrays import placeholder
from mmhydra.launch.sweeps.cost import Cost, lines
from mmhydra.monitor.words import count, python_module
from mmhydra.paths import short
from mmhydra.sweep.record import ARRAY_SCRIPT, Record, SweepDirectory
from mmhydra.sweep.state.states import PointState, counts_in_words

_SHOWN = 6  # job ids of a cluster
_FRAME = 4  # columns of a panel that hold no text
Arrays = Mapping[str, Sequence[tuple[str, int]]]


def show_sweep(
    console: Console,
    sweep: SweepDirectory,
    record: Record,
    states: Sequence[PointState],
    arrays: Arrays,
    expected: Sequence[Cost],
    *,
    num_here: int = 0,
    goes_on: bool = False,
    has_later: bool = False,
) -> None:
    """Shows what was submitted, how all points are, and what to type next. `arrays`: job ids and sizes by cluster.

    `num_here`: how many points this command ran on this machine. `goes_on`: the same command would start something.
    `has_later`: something may start once others have ended.
    """
    num_points = sum(point.in_study for point in record.points)
    num_submitted = sum(size for found in arrays.values() for _, size in found)
    rows = {} if record.question is None else {"question": record.question}
    rows["points"] = f"{num_points:,}: {counts_in_words(states)}"
    if num_here:
        rows["ran here"] = count(num_here, "point")
    elif not num_submitted:
        rows["submitted"] = "nothing"
    for cluster, found in arrays.items():
        ids = [f"{job_id} ({count(size, 'point')})" for job_id, size in found]
        more = f", and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
        rows[f"arrays on {cluster}"] = ", ".join(ids[:_SHOWN]) + more
    if expected and num_submitted:
        rows["cost"] = "\n".join(lines(expected))
    rows["sweep"] = short(sweep.path)
    place = shlex.quote(short(sweep.path))
    commands = {
        "how is it": python_module("status", place, "--watch"),
        "its results": python_module("report", place),
    }
    found_states = {state.state for state in states}
    if any(state.is_active for state in states):
        commands["end it"] = python_module("cancel", place)
    if goes_on and found_states & {"failed", "preempted", "gone", "cancelled"}:
        commands["what failed goes on with"] = python_module("train", shlex.join(record.command))
    if has_later:
        commands["later stages follow with"] = python_module("drive", place)
    title = f"sweep {sweep.name}: {count(num_submitted, 'point')} submitted" if num_submitted else f"sweep {sweep.name}"
    fits = all(len(command) <= console.width - _FRAME for command in commands.values())
    show_end(console, title, rows, commands if fits else {})
    for purpose, command in {} if fits else commands.items():  # the panel would cut them off
        console.print(f"{purpose}:", style="bold", markup=False)
        console.print(command, markup=False)


def show_frozen_arrays(console: Console, sweep: SweepDirectory, frozen: Sequence[tuple[Path, str | None]]) -> None:
    """Shows the scripts that were left to a person, in the order in which they are to be submitted.

    `frozen`: their folders, and what is to be typed as --dependency, which replaces that of the script.
    """
    rows = {"sweep": short(sweep.path)}
    if not frozen:
        rows["scripts"] = "none: no point is left to submit"
    waited_for = " ".join(dependency for _, dependency in frozen if dependency)
    commands = []
    for folder, dependency in frozen:
        after = "" if dependency is None else f" --dependency={dependency}"
        command = f"sbatch --parsable{after} {shlex.quote(short(folder / ARRAY_SCRIPT))}"
        commands.append(f"ARRAY_{folder.name}=$({command})" if placeholder(folder.name) in waited_for else command)
    show_end(console, f"sweep {sweep.name}: frozen, not submitted", rows, {})
    if commands:
        console.print("submit them in this order:", markup=False)
        for command in commands:  # not in the panel, which would break the lines
            console.print(command, markup=False)
