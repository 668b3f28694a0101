"""nodes.jsonl of real ranks: which node holds the others up, told once."""

import json
import os
import subprocess
import sys

import pytest

from mmhydra.run.directory import RunDirectory

# Three nodes of one rank; the last computes three times as long. Each step ends together.
RANK = """
import datetime, json, os, sys, time
from pathlib import Path
import torch, torch.distributed as dist
from mmhydra.run.directory import Attempt
from mmhydra.titan.nodes import NodeWatch
rank, store = int(sys.argv[1]), sys.argv[2]
os.environ["SLURMD_NODENAME"] = f"gpu{rank + 1:02d}"
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=3,
                        timeout=datetime.timedelta(seconds=60))
group = dist.new_group(backend="gloo")
events = []
for path, comparable in ((sys.argv[3], True), (sys.argv[4], False)):
    watch = NodeWatch(Attempt(Path(path)), lambda kind, text: events.append((kind, text)), group,
                      interval=4, comparable=comparable)
    for step in range(13):
        watch.boundary(step)
        until = time.process_time() + (0.03 if rank == 2 else 0.01)
        while time.process_time() < until:
            pass
        dist.barrier()
    watch.close()
    watch.close()
if rank == 0:
    print(json.dumps(events))
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """The lines of nodes.jsonl where ranks can be compared and where not, and what rank 0 told of both."""
    folder = tmp_path_factory.mktemp("nodes")
    (folder / "run" / "attempts").mkdir(parents=True)
    attempts = [RunDirectory(folder / "run").new_attempt() for _ in range(2)]
    arguments = [str(folder / "store"), *(str(attempt.path) for attempt in attempts)]
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(rank), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        )
        for rank in range(3)
    ]
    told = []
    try:
        for rank in ranks:
            out, err = rank.communicate(timeout=120)
            assert rank.returncode == 0, err
            told.append(out)
    finally:
        for rank in ranks:
            rank.kill()
    lines = [[json.loads(line) for line in attempt.nodes.read_text().splitlines()] for attempt in attempts]
    return *lines, json.loads(told[0])


def test_the_times_of_all_nodes_are_written_at_each_interval(watched):
    for lines in watched[:2]:
        assert [line["step"] for line in lines] == [4, 8, 12]  # step 0 began the first measurement
        for line in lines:
            assert list(line["nodes"]) == ["gpu01", "gpu02", "gpu03"]
            compute_s = {node: times["compute_p50_s"] for node, times in line["nodes"].items()}
            assert compute_s["gpu03"] > 2 * max(compute_s["gpu01"], compute_s["gpu02"])


def test_the_slow_node_is_named_and_told_once_where_ranks_can_be_compared(watched):
    compared, others, events = watched
    assert {line["straggler"] for line in compared} == {"gpu03"}
    assert all(line["slowdown"] > 1.5 for line in compared)
    assert {(line["straggler"], line["slowdown"]) for line in others} == {(None, None)}
    ((kind, text),) = events
    assert kind == "straggler"
    assert text.startswith("gpu03 needs ")
