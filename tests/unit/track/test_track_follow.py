import threading
import time
from pathlib import Path
from typing import Any

from track_samples import Failures, ListSink, run_python, train_record, wait_for, write_steps

from mmhydra.track import Follower, JsonlWriter


class RaisingSink(ListSink):
    def write(self, record: Any) -> None:
        super().write(record)
        if record["step"] == 3:
            raise ConnectionError("gone")


class HangingSink(ListSink):
    def __init__(self, release: threading.Event) -> None:
        super().__init__()
        self.release = release

    def write(self, record: Any) -> None:
        if record["step"] == 3:
            self.release.wait()
        super().write(record)


def test_sink_gets_old_and_new_records_and_is_closed(tmp_path: Path) -> None:
    path, failures, sink = tmp_path / "metrics.jsonl", Failures(), ListSink()
    write_steps(path, range(5))
    follower = Follower(path, {"list": lambda: sink}, failures)
    wait_for(lambda: len(sink.records) == 5)
    write_steps(path, range(5, 8))
    wait_for(lambda: len(sink.records) == 8)
    write_steps(path, range(8, 1000))
    follower.stop(20.0)
    follower.stop(20.0)
    assert sink.steps == list(range(1000))
    assert sink.is_closed
    assert failures.calls == []
    assert sink.records[7] == train_record(7)


def test_file_may_appear_later_or_never(tmp_path: Path) -> None:
    failures, sink = Failures(), ListSink()
    follower = Follower(tmp_path / "later.jsonl", {"list": lambda: sink}, failures)
    time.sleep(0.3)
    write_steps(tmp_path / "later.jsonl", range(2))
    follower.stop(20.0)
    never = ListSink()
    Follower(tmp_path / "never.jsonl", {"list": lambda: never}, failures).stop(20.0)
    assert sink.steps == [0, 1]
    assert never.is_closed
    assert failures.calls == []


def test_torn_and_invalid_lines_are_skipped_and_a_growing_line_is_awaited(tmp_path: Path) -> None:
    path, failures, sink = tmp_path / "metrics.jsonl", Failures(), ListSink()
    path.write_bytes(b'{"step":1}\n{"step":2,"l\nnoise\n{"step":3')
    follower = Follower(path, {"list": lambda: sink}, failures)
    wait_for(lambda: len(sink.records) == 1)
    time.sleep(0.5)
    assert sink.steps == [1]
    with path.open("ab") as file:
        file.write(b'}\n{"step":4}\n{"step":5,"torn')
    follower.stop(20.0)
    assert sink.steps == [1, 3, 4]
    assert sink.is_closed
    assert failures.calls == []


def test_raising_sink_is_dropped_once_and_the_others_go_on(tmp_path: Path) -> None:
    path, failures, good, bad = tmp_path / "metrics.jsonl", Failures(), ListSink(), RaisingSink()
    follower = Follower(path, {"bad": lambda: bad, "good": lambda: good}, failures)
    write_steps(path, range(10))
    wait_for(lambda: bad.is_closed)
    write_steps(path, range(10, 20))
    follower.stop(20.0)
    assert good.steps == list(range(20))
    assert bad.steps == [0, 1, 2, 3]
    ((name, message),) = failures.calls
    assert name == "bad"
    assert "ConnectionError: gone" in message
    assert str(path) in message


def test_sink_that_cannot_be_built_or_leaves_by_exit_is_reported(tmp_path: Path) -> None:
    def build() -> ListSink:
        raise SystemExit("a library that exits")

    class BadClose(ListSink):
        def close(self) -> None:
            raise OSError("disk gone")

    failures = Failures()
    write_steps(tmp_path / "m.jsonl", range(3))
    Follower(tmp_path / "m.jsonl", {"exits": build, "close": BadClose}, failures).stop(20.0)
    assert sorted(name for name, _ in failures.calls) == ["close", "exits"]
    assert "SystemExit: a library that exits" in dict(failures.calls)["exits"]
    assert "closing failed: OSError: disk gone" in dict(failures.calls)["close"]


def test_raising_on_failure_goes_no_further(tmp_path: Path) -> None:
    def on_failure(sink_name: str, message: str) -> None:
        raise RuntimeError("the event log is full")

    bad, good = RaisingSink(), ListSink()
    write_steps(tmp_path / "m.jsonl", range(5))
    Follower(tmp_path / "m.jsonl", {"bad": lambda: bad, "good": lambda: good}, on_failure).stop(20.0)
    assert bad.is_closed
    assert good.steps == list(range(5))


def test_hanging_sinks_do_not_hold_up_the_others_or_stop(tmp_path: Path) -> None:
    path, failures, good, release = tmp_path / "metrics.jsonl", Failures(), ListSink(), threading.Event()
    late = HangingSink(release)

    def never_built() -> ListSink:
        release.wait()
        raise ConnectionError("after the run")

    follower = Follower(path, {"late": lambda: late, "never": never_built, "good": lambda: good}, failures)
    write_steps(path, range(10))
    wait_for(lambda: len(good.records) == 10)
    start = time.monotonic()
    follower.stop(0.5)
    assert time.monotonic() - start < 1.5
    assert good.is_closed
    assert not late.is_closed
    messages = dict(failures.calls)
    assert "7 records were not delivered" in messages["late"]
    assert "track replay" in messages["late"]
    assert "10 records were not delivered" in messages["never"]

    release.set()  # back from the dead: the sink is closed, takes nothing more, and nothing is said again
    wait_for(lambda: late.is_closed)
    time.sleep(0.1)
    assert late.steps == [0, 1, 2, 3]
    assert len(failures.calls) == 2


def test_process_ends_although_a_sink_hangs(tmp_path: Path) -> None:
    code = """
import threading
from mmhydra.track import Follower
follower = Follower(sys.argv[1], {"hangs": threading.Event().wait}, lambda name, message: print(message))
follower.stop(0.3)
"""
    result = run_python(code, str(tmp_path / "m.jsonl"), timeout_s=10.0)
    assert result.returncode == 0
    assert result.stderr == ""
    assert result.stdout.startswith("0 records were not delivered")


def test_writing_costs_the_trainer_little(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    sinks = {name: ListSink for name in ("a", "b", "c")}
    follower = Follower(path, sinks, Failures())
    writer = JsonlWriter(path)
    times_s = []
    for step in range(500):
        start = time.perf_counter()
        writer.write(train_record(step))
        times_s.append(time.perf_counter() - start)
    follower.stop(20.0)
    # The median, loosely: the machine may be busy.
    assert sorted(times_s)[250] < 0.002
