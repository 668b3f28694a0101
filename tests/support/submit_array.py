"""Submits runs as one array: `python submit_array.py FOLDER NAME [--depends-on CONDITION] POINT...`.

A point is its overrides in one word, split at blanks. Prints the array's job id, as the submitter of a sweep would
learn of it. For tests that need an array and no sweep.
"""

import argparse
from pathlib import Path

from mmhydra.compose import compose
from mmhydra.launch.array import ArrayJob, submit_array
from mmhydra.launch.freeze import freeze, plan, read_origin
from mmhydra.launch.slurm import batch_job

parser = argparse.ArgumentParser()
parser.add_argument("folder", type=Path)
parser.add_argument("name")
parser.add_argument("--depends-on", default=None)
parser.add_argument("points", nargs="+")
options = parser.parse_args()

jobs = []
origin = None
for point in options.points:
    request = compose(point.split())
    planned = plan(request, lambda text: None)
    origin = origin or read_origin(request, planned.run)
    jobs.append(batch_job(freeze(planned, origin), request.config))
indices = tuple(range(len(jobs)))
print(submit_array(ArrayJob(options.folder, options.name, tuple(jobs), indices, options.depends_on)))
