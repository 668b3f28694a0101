"""Records, runs and helpers shared by the tests of mmhydra.track."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmhydra.track import JsonlWriter, RunInfo

ROOT = Path(__file__).parents[2]


def train_record(step: int, **changes: Any) -> dict[str, Any]:
    record = {
        "timestamp": "2026-11-23T01:02:03.456Z",
        "level": "INFO",
        "run_id": "0123456789ab",
        "kind": "train",
        "step": step,
        "loss": 5.0 - step / 100,
        "grad_norm": 0.9,
        "lr": 0.003,
        "consumed_tokens": 2048 * step,
        "throughput_tps": 15000.0,
        "mfu": None,
        "data_time_s": 0.001,
        "step_time_s": 0.13,
        "gpu_mem_used_gb": None,
        "data_shard": "shard-000001",
    }
    return record | changes


def validation_record(step: int, val_loss: float = 4.5) -> dict[str, Any]:
    return {
        "timestamp": "2026-11-23T01:02:04Z",
        "level": "INFO",
        "run_id": "0123456789ab",
        "kind": "validation",
        "step": step,
        "val_loss": val_loss,
    }


def run_info(**changes: Any) -> RunInfo:
    values: dict[str, Any] = {
        "run_id": "0123456789ab",
        "run_name": "p0_demo",
        "model": "debug",
        "config": {"model": {"name": "debug", "dim": 64}, "betas": [0.9, 0.95], "tag": None, "empty": {}},
        "config_sha256": "c0ffee",
        "git_commit": "deadbeef",
        "attempt": 1,
    }
    return RunInfo(**values | changes)


class Failures:
    """An on_failure that remembers."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    def __call__(self, sink_name: str, message: str) -> None:
        self.calls.append((sink_name, message))


class ListSink:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.records: list[Any] = []
        self.is_closed = False

    def write(self, record: Any) -> None:
        self.records.append(record)

    def close(self) -> None:
        self.is_closed = True

    @property
    def steps(self) -> list[int]:
        return [record["step"] for record in self.records]


def write_steps(path: Path, steps: range) -> None:
    writer = JsonlWriter(path)
    for step in steps:
        writer.write(train_record(step))
    writer.close()


def wait_for(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def run_python(code: str, *args: str, timeout_s: float = 40.0) -> subprocess.CompletedProcess[str]:
    """`code` in a fresh interpreter that finds mmhydra and this module."""
    return subprocess.run(python_command(code, *args), **_PIPES, timeout=timeout_s)


def python_command(code: str, *args: str) -> list[str]:
    preamble = f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(Path(__file__).parent)!r}]\n"
    return [sys.executable, "-c", preamble + code, *args]


_PIPES: dict[str, Any] = {"capture_output": True, "text": True}

# In a process of its own, as a person's script would be: Aim keeps open repositories per process.
_READ_AIM = """
import json
from aim.sdk.index_manager import RepoIndexManager
from aim.sdk.repo import Repo
repo = Repo.from_path(sys.argv[1])
for run_hash in repo.list_all_runs():
    RepoIndexManager.get_index_manager(repo).index(run_hash)  # what `aim up` does
runs = []
for run in Repo.from_path(sys.argv[1]).iter_runs():
    metrics = {}
    for metric in run.metrics():
        steps, values = metric.values.sparse_list()
        frame = metric.dataframe()
        key = metric.name + " " + metric.context.to_dict().get("subset", "?")
        metrics[key] = list(zip(map(int, frame["step"]), map(float, frame["value"])))
    runs.append({"hash": run.hash, "name": run.name, "params": run[...], "metrics": metrics,
                 "ended": run.end_time is not None})
print(json.dumps(runs))
"""


def read_aim(repo: Path) -> list[dict[str, Any]]:
    """Every run of an Aim repository through Aim's SDK; metrics as {"loss train": [[step, value], ...]}."""
    result = run_python(_READ_AIM, str(repo))
    assert result.returncode == 0, result.stderr
    runs: list[dict[str, Any]] = json.loads(result.stdout.splitlines()[-1])
    return runs
