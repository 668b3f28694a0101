import json
import math
import signal
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
from track_samples import python_command, run_python, train_record, wait_for

from mmhydra.track import JsonlWriter, TrackError, read_jsonl
from mmhydra.track.sink import numeric_fields, subset


def test_records_come_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    writer = JsonlWriter(path)
    records = [train_record(step) for step in range(5)]
    for record in records:
        writer.write(record)
    writer.flush()
    writer.close()
    writer.close()
    assert list(read_jsonl(path)) == records
    assert writer.dropped == 0


def test_non_finite_numbers_become_strings_and_lines_stay_valid_json(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    writer = JsonlWriter(path)
    writer.write({"step": 1, "loss": math.nan, "by": {"a": math.inf, "b": [-math.inf, 1.5]}, "mfu": None})

    def refuse(text: str) -> float:
        raise AssertionError(f"{text} is not JSON")

    (line,) = path.read_text().splitlines()
    record = json.loads(line, parse_constant=refuse)
    assert record == {"step": 1, "loss": "NaN", "by": {"a": "Infinity", "b": ["-Infinity", 1.5]}, "mfu": None}
    fields = numeric_fields(record)
    assert math.isnan(fields["loss"])
    assert fields["by/a"] == math.inf


def test_odd_values_are_written_rather_than_raised(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    JsonlWriter(path).write(
        {
            "loss": np.float32(0.5),
            "nan": np.array(np.nan),
            "n": np.int64(3),
            "path": Path("/x"),
            "text": "a\nb é",
        }
    )
    assert list(read_jsonl(path)) == [{"loss": 0.5, "nan": "NaN", "n": 3, "path": "/x", "text": "a\nb é"}]


def test_numeric_fields_leave_out_what_is_no_metric() -> None:
    fields = numeric_fields(train_record(3, flag=True, loss_of={"text": 3, "image": None}))
    assert "mfu" not in fields
    assert "data_shard" not in fields
    assert "step" not in fields
    assert "flag" not in fields
    assert fields["loss_of/text"] == 3.0
    assert fields["consumed_tokens"] == 6144.0
    assert [subset({"kind": kind}) for kind in ("train", "validation", "eval")] == ["train", "val", "eval"]


def test_torn_last_line_stays_alone(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step":1}\n{"step":2,"lo')
    writer = JsonlWriter(path)
    writer.write({"step": 3})
    writer.write({"step": 4})
    assert path.read_bytes() == b'{"step":1}\n{"step":2,"lo\n{"step":3}\n{"step":4}\n'
    assert [record["step"] for record in read_jsonl(path)] == [1, 3, 4]


def test_invalid_lines_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'\n[1]\n7\n\xff\xfe\n{"step":1}\n{bad}\n' + b"[" * 100_000 + b"\n{}")
    assert list(read_jsonl(path)) == [{"step": 1}, {}]


def test_kill_9_of_the_writer_loses_no_whole_record(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    code = """
from mmhydra.track import JsonlWriter
from track_samples import train_record
writer, step = JsonlWriter(sys.argv[1]), 0
while True:
    writer.write(train_record(step))
    step += 1
"""
    process = subprocess.Popen(python_command(code, str(path)))
    wait_for(lambda: path.exists() and path.stat().st_size > 100_000)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    killed_at = [record["step"] for record in read_jsonl(path)]
    assert killed_at == list(range(len(killed_at)))
    assert path.read_bytes().count(b"\n") - len(killed_at) in (0, -1)

    writer = JsonlWriter(path)
    writer.write({"step": -1})
    assert [record["step"] for record in read_jsonl(path)] == [*killed_at, -1]


def test_full_device_drops_and_warns_once(capfd: pytest.CaptureFixture[str]) -> None:
    writer = JsonlWriter("/dev/full")
    for step in range(3):
        writer.write(train_record(step))
    writer.flush()
    writer.close()
    assert writer.dropped == 3
    assert capfd.readouterr().err.count("\n") == 1


def test_writer_recovers_when_space_is_back(tmp_path: Path) -> None:
    # A limit on the size of files acts like a disk that fills up: first a short write, then an error.
    code = """
import resource, signal
from mmhydra.track import JsonlWriter
from track_samples import train_record
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
writer = JsonlWriter(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
for step in range(20):
    writer.write(train_record(step))
writer.flush()
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
for step in range(100, 103):
    writer.write(train_record(step))
print(writer.dropped)
"""
    path = tmp_path / "metrics.jsonl"
    result = run_python(code, str(path))
    assert result.returncode == 0, result.stderr
    steps = [record["step"] for record in read_jsonl(path)]
    num_before = len(steps) - 3
    assert 2 < num_before < 10
    assert steps == [*range(num_before), 100, 101, 102]
    assert int(result.stdout) == 20 - num_before
    assert result.stderr.count("\n") == 1
    assert "dropped" in result.stderr


def test_threads_may_share_a_writer(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    writer = JsonlWriter(path)

    def write_many(first: int) -> None:
        for step in range(first, first + 200):
            writer.write(train_record(step))

    threads = [threading.Thread(target=write_many, args=(first,)) for first in (0, 200, 400)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(record["step"] for record in read_jsonl(path)) == list(range(600))


def test_closed_writer_says_so(tmp_path: Path) -> None:
    writer = JsonlWriter(tmp_path / "metrics.jsonl")
    writer.close()
    writer.flush()
    with pytest.raises(TrackError, match="closed"):
        writer.write({"step": 1})


def test_importing_the_package_loads_no_optional_library() -> None:
    code = """
import mmhydra.track
print([name for name in ("torch", "aim", "tensorboard", "prometheus_client") if name in sys.modules])
"""
    assert run_python(code).stdout.strip() == "[]"
