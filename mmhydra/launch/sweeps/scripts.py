"""`dry_run=sbatch` of a sweep: the batch script of each array."""

import sys
from collections.abc import Sequence

from mmhydra.config.problems import ConfigError
from mmhydra.launch.dry_run import no_script, nothing_frozen
from mmhydra.launch.points import Point
from mmhydra.launch.sweeps.arrays import Grouping, array_script, batch_job, placeholder
from mmhydra.launch.sweeps.compiling import name_of
from mmhydra.launch.sweeps.due import is_slurm, without_later
from mmhydra.launch.sweeps.recording import directory_of, key_of
from mmhydra.launch.verify import refuse_points
from mmhydra.monitor.words import count
from mmhydra.run.provenance import read_code, store_code
from mmhydra.sweep.record import ARRAYS


def scripts_of(name: str, points: Sequence[Point]) -> list[bytes]:
    """The script of each array that the points would become, if none was there yet."""
    faults = [
        (name_of(point.planned), ConfigError([no_script(point.config.cluster.name)]))
        for point in points
        if not is_slurm(point)
    ]
    refuse_points(faults, len(points))
    sweep = directory_of(name, points)
    snapshot = store_code(read_code()[0], sweep.outputs, keep=False)
    grouping = Grouping(lambda point: batch_job(point, point.run.next_attempt, snapshot), {})
    print(f"code: {snapshot.path}", file=sys.stderr)
    texts: list[bytes] = []
    at_once = without_later(points)
    for groups in grouping.waves(at_once):
        for group in groups:
            number = f"{len(texts) + 1:04d}"
            array = group.array(sweep.path / ARRAYS / number, name)
            texts.append(f"{array_script(array).rstrip()}\n".encode())
            cluster = group.points[0].config.cluster.name
            print(f"array {number}: {count(len(group.points), 'point')} of cluster {cluster}", file=sys.stderr)
            for index, point in zip(group.indices, group.points, strict=True):
                grouping.jobs[key_of(point)] = f"{placeholder(number)}_{index}"
    if len(at_once) < len(points):
        told = count(len(points) - len(at_once), "point")
        print(f"{told} of later stages: the best parents are known later", file=sys.stderr)
    print(nothing_frozen("they are"), file=sys.stderr)
    return texts
