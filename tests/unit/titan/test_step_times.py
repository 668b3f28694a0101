"""Step times by node: percentiles, real processes that gather over gloo, and the node that holds the others up."""

import json
import math
import os
import subprocess
import sys
from datetime import datetime

import pytest

from mmhydra.titan.step_times import NodeTimes, StepTimes, by_node, nearest_rank, straggler, to_record


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([3.0], 50, 3.0),
        ([3.0], 99, 3.0),
        ([2.0, 1.0], 50, 1.0),
        ([2.0, 1.0], 99, 2.0),
        ([15, 20, 35, 40, 50], 50, 35),  # the example of Wikipedia, Percentile
        (list(range(1, 101)), 99, 99),
        (list(range(1, 1001)), 99, 990),
        (list(range(1, 201)), 50, 100),
    ],
)
def test_percentiles_are_times_that_were_measured(values, percent, expected):
    assert nearest_rank(values, percent) == expected


def test_a_summary_has_both_times_in_order():
    times = StepTimes()
    for number in range(1, 101):
        times.record(float(number), number / 1000)
    assert times.summary() == (50.0, 99.0, 0.05, 0.099)


def test_only_the_window_counts():
    times = StepTimes(window=3)
    for step_s in (100.0, 100.0, 1.0, 2.0, 3.0):
        times.record(step_s, step_s)
    assert times.summary() == (2.0, 3.0, 2.0, 3.0)


def test_steps_without_a_probe_leave_the_compute_time_alone():
    times = StepTimes()
    assert all(math.isnan(value) for value in times.summary())
    times.record(1.0, None)
    assert times.summary()[:2] == (1.0, 1.0)
    assert all(math.isnan(value) for value in times.summary()[2:])
    times.record(3.0, 0.5)
    assert times.summary() == (1.0, 3.0, 0.5, 0.5)


def test_a_node_is_as_slow_as_its_slowest_rank():
    rows = [(1.0, 9.0, 0.1, 0.9), (5.0, 6.0, 0.7, 0.8), (2.0, 3.0, 0.3, 0.4), (math.nan,) * 4]
    assert by_node(["b", "a", "b", "c"], rows) == {
        "b": NodeTimes(2.0, 9.0, 0.3, 0.9),
        "a": NodeTimes(5.0, 6.0, 0.7, 0.8),
    }
    assert by_node(["a", "a"], [rows[0], (math.nan,) * 4]) == {"a": NodeTimes(*rows[0])}


def computing(**compute_s: float) -> dict[str, NodeTimes]:
    return {node: NodeTimes(1.0, 1.0, value, value) for node, value in compute_s.items()}


@pytest.mark.parametrize(
    ("compute_s", "expected"),
    [
        ({}, None),
        ({"a": 1.0}, None),
        ({"a": 1.0, "b": 1.0}, None),
        ({"a": 1.0, "b": 1.24}, None),
        ({"a": 1.0, "b": 1.25}, ("b", 1.25)),
        ({"a": 3.0, "b": 1.0}, ("a", 3.0)),
        ({"a": 1.0, "b": 9.0, "c": 2.0, "d": 3.0}, ("b", 4.5)),  # the median of 1, 2 and 3
        ({"a": 1.0, "b": 9.0, "c": 2.0}, ("b", 6.0)),  # of 1 and 2
        ({"a": 2.0, "b": 2.0, "c": 1.0, "d": 1.0}, ("a", 2.0)),  # the first of two that are alike
        ({"a": 1.0, "b": math.nan}, None),
        ({"a": 1.0, "b": math.nan, "c": 2.0}, ("c", 2.0)),
        ({"a": 0.0, "b": 1.0}, None),
    ],
)
def test_the_straggler_is_a_quarter_slower_than_the_median_of_the_others(compute_s, expected):
    assert straggler(computing(**compute_s)) == expected


def test_a_record_is_a_line_of_json():
    record = to_record(20, {"gpu01": NodeTimes(1.0, 1.5, 0.5, 0.6), "gpu02": NodeTimes(1.0, 1.5, 0.7, 0.8)})
    assert datetime.fromisoformat(record.pop("timestamp")).tzinfo is not None
    assert json.loads(json.dumps(record, allow_nan=False)) == {
        "step": 20,
        "nodes": {
            "gpu01": {"step_p50_s": 1.0, "step_p99_s": 1.5, "compute_p50_s": 0.5, "compute_p99_s": 0.6},
            "gpu02": {"step_p50_s": 1.0, "step_p99_s": 1.5, "compute_p50_s": 0.7, "compute_p99_s": 0.8},
        },
        "straggler": "gpu02",
        "slowdown": 1.4,
    }


def test_a_record_of_steps_without_a_probe_has_null():
    record = to_record(1, {"gpu01": NodeTimes(1.0, 1.0, math.nan, math.nan)})
    assert record["nodes"]["gpu01"]["compute_p50_s"] is None
    assert (record["straggler"], record["slowdown"]) == (None, None)
    json.dumps(record, allow_nan=False)


# Nodes a, a, b, b. Each step ends together, in an all_reduce, as in training; the ranks of b compute longer.
RANK = """
import datetime, json, sys, time
import torch, torch.distributed as dist
from mmhydra.titan.step_times import StepTimes, to_record
rank, world, store = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world,
                        timeout=datetime.timedelta(seconds=60))
exchanged = []
original = dist.all_gather_object
dist.all_gather_object = lambda *given, **named: (exchanged.append(1), original(*given, **named))
def compute(cpu_s):
    end = time.process_time() + cpu_s
    while time.process_time() < end:
        pass
times, node = StepTimes(), "ab"[rank // 2]
empty = times.gather(dist.group.WORLD, node)
for step in range(1, 6):
    dist.barrier()
    began, cpu = time.perf_counter(), time.process_time()
    compute(0.15 if node == "b" else 0.03)
    dist.all_reduce(torch.ones(1000))
    times.record(time.perf_counter() - began, time.process_time() - cpu)
nodes = times.gather(dist.group.WORLD, node)
pair = dist.new_group([2, 3], backend="gloo")
other = StepTimes()
other.record(7.0 + rank, 1.0)
of_pair = other.gather(pair, f"node-{rank}") if rank in (2, 3) else None
print(json.dumps({
    "empty": empty, "exchanged": len(exchanged), "own": times.summary(),
    "record": None if nodes is None else to_record(5, nodes),
    "pair": None if of_pair is None else sorted(of_pair.items(), key=str), "type": type(nodes).__name__,
}, default=lambda times: vars(times)))
dist.barrier()
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def gathered(tmp_path_factory):
    """What each of four ranks printed: real processes over gloo on loopback, which meet in a file."""
    store = tmp_path_factory.mktemp("ranks") / "store"
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(rank), "4", str(store)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for rank in range(4)
    ]
    try:
        outputs = [rank.communicate(timeout=90) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    assert [rank.returncode for rank in ranks] == [0] * 4, "\n".join(err[-2000:] for _, err in outputs)
    return [json.loads(out) for out, _ in outputs]


def test_rank_0_alone_gets_the_times_of_all_nodes(gathered):
    assert [rank["type"] for rank in gathered] == ["dict", "NoneType", "NoneType", "NoneType"]
    assert gathered[0]["record"]["nodes"].keys() == {"a", "b"}


def test_a_gathered_time_is_the_largest_of_the_nodes_ranks(gathered):
    names = ("step_p50_s", "step_p99_s", "compute_p50_s", "compute_p99_s")
    for node, ranks in {"a": gathered[:2], "b": gathered[2:]}.items():
        largest = [max(values) for values in zip(*(rank["own"] for rank in ranks), strict=True)]
        assert gathered[0]["record"]["nodes"][node] == dict(
            zip(names, (round(value, 6) for value in largest), strict=True)
        )


def test_waiting_for_others_is_no_compute_time(gathered):
    """Steps are alike on all nodes; what a process computed tells them apart, so gloo's waiting sleeps."""
    record = gathered[0]["record"]
    a, b = record["nodes"]["a"], record["nodes"]["b"]
    assert a["step_p50_s"] == pytest.approx(b["step_p50_s"], rel=0.3)
    assert b["compute_p50_s"] > 2 * a["compute_p50_s"]
    assert record["straggler"] == "b"
    assert record["slowdown"] > 2


def test_names_are_exchanged_once_and_nothing_recorded_is_no_node(gathered):
    assert [rank["empty"] for rank in gathered] == [{}, None, None, None]
    assert [rank["exchanged"] for rank in gathered] == [1, 1, 2, 2]  # two groups for the last two


def test_a_group_of_some_ranks_gathers_on_its_own_first(gathered):
    assert [rank["pair"] is None for rank in gathered] == [True, True, False, True]
    assert [(node, times["step_p50_s"]) for node, times in gathered[2]["pair"]] == [("node-2", 9.0), ("node-3", 10.0)]
