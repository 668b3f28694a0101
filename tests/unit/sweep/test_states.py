"""How points of a sweep are told from what their runs left, and from what a SLURM says of all of them at once."""

import json
import math
import os
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_slurm import FakeSlurm, squeue_row
from fake_sweep import FakeSweep, parent, point

from mmhydra.run.directory import RunDirectory
from mmhydra.sweep.state import states as states_module
from mmhydra.sweep.state.best import best
from mmhydra.sweep.state.curves import Curves, best_step
from mmhydra.sweep.state.states import AGAIN, STATES, Memory, PointState, needs_submission, read_states

Make = Callable[..., FakeSweep]


def states(sweep: FakeSweep, memory: Memory | None = None) -> list[PointState]:
    return read_states(sweep.directory, sweep.record, memory)


def words(sweep: FakeSweep) -> list[str]:
    return [each.state for each in states(sweep)]


def holds(run: RunDirectory, attempt: int | None, *, pid: int | None = None, released: bool = False) -> None:
    owner = {"host": socket.gethostname(), "pid": pid or os.getpid(), "attempt": attempt, "released": released}
    run.lease.write_text(json.dumps(owner))


def test_a_point_without_an_attempt_is_missing(make_sweep: Make) -> None:
    sweep = make_sweep(2)
    assert words(sweep) == ["missing", "missing"]
    sweep.run(1).path.mkdir(parents=True)
    assert words(sweep) == ["missing", "missing"]
    assert [each.num_steps for each in states(sweep)] == [100, 100]


def test_what_no_job_and_no_process_started_is_frozen(make_sweep: Make) -> None:
    sweep = make_sweep(2)
    sweep.frozen(1)
    holds(sweep.run(1), None, released=True)
    assert words(sweep) == ["frozen", "missing"]
    # A process took it and was killed before it wrote anything.
    holds(sweep.run(1), 1, pid=2**22 + 1)
    assert words(sweep) == ["gone", "missing"]


def test_an_attempt_that_is_half_frozen_does_not_count(make_sweep: Make) -> None:
    sweep = make_sweep(2)
    for number in (1, 2):
        sweep.done(number, 2.0)
        sweep.run(number).new_attempt()
    (sweep.run(2).path / "attempts/0001/outcome.json").write_text('{"exit_code": 1, "message": "boom"}')
    (sweep.run(2).path / "attempts/0001/status.json").unlink()
    assert words(sweep) == ["done", "failed"]


def test_an_attempt_frozen_after_one_that_ended(make_sweep: Make) -> None:
    sweep = make_sweep(3)
    sweep.done(1, 2.0)
    sweep.frozen(1)
    failed = sweep.frozen(2)
    sweep.ended(failed, "failed", 1, 10, "boom")
    sweep.frozen(2)
    one, two, _ = states(sweep)
    assert one.state == "done"
    assert (two.state, two.remark) == ("frozen", "frozen again, and not started; before that failed")


def test_local_runs(make_sweep: Make) -> None:
    sweep = make_sweep(6)
    sweep.done(1, 2.0)
    sweep.ended(sweep.frozen(2), "failed", 1, 10, "CUDA error")
    sweep.ended(sweep.frozen(3), "stopped", 3, 10, "the loss is NaN")
    running = sweep.frozen(4)
    sweep.trained(running, 40, 3.0)
    sweep.running(running, 40)
    holds(sweep.run(4), 1)
    gone = sweep.frozen(5)
    sweep.trained(gone, 40, 3.0)
    sweep.running(gone, 40)
    holds(sweep.run(5), 1, pid=2**22 + 1)
    sweep.ended(sweep.frozen(6), "preempted", 75, 10)
    assert words(sweep) == ["done", "failed", "stopped", "running", "gone", "preempted"]
    one, two, _, four, five, _ = states(sweep)
    assert (one.step, one.checkpoint, one.job_id) == (100, 100, None)
    assert two.remark == "CUDA error"
    assert four.step == 40
    assert four.loss is not None
    assert five.remark == "the process that started it is gone: it was killed, or its machine went down"


def test_one_question_for_all_jobs(make_sweep: Make, slurm: FakeSlurm, slurm_config) -> None:
    sweep = make_sweep(8, slurm_config)
    sweep.submitted(1, "70_1")
    running = sweep.began(2, "70_2")
    sweep.trained(running, 40, 3.0)
    sweep.running(running, 40)
    sweep.began(3, "70_3")  # its ranks began and it vanished
    over = sweep.began(4, "70_4")
    sweep.ended(over, "done", 0, 100)
    sweep.submitted(5, "70_5")
    again = sweep.began(6, "70_6")
    sweep.ended(again, "preempted", 75, 40, requeue=True)
    sweep.ended(sweep.began(7, "70_7"), "failed", 1, 40, "boom", requeue=False)
    sweep.submitted(8, "70_8")
    slurm.has(
        squeue_row("70_1", "PENDING", reason="Dependency"),
        squeue_row("70_2", "RUNNING", nodes="n1"),
        squeue_row("70_5", "CANCELLED"),
        squeue_row("70_6", "PENDING", reason="BeginTime"),
        squeue_row("70_8", "PENDING", reason="DependencyNeverSatisfied"),
    )
    found = states(sweep)
    assert [each.state for each in found] == [
        "pending",
        "running",
        "gone",
        "done",
        "cancelled",
        "waiting",
        "failed",
        "pending",
    ]
    assert found[0].remark == "it waits for another job"
    assert found[7].remark == "the job it waits for failed: it will never start"
    assert len(slurm.calls) <= 3
    assert found[1].num_gpus == 64
    assert found[1].gpu_hours == pytest.approx(64 * 900 / 3600, rel=0.05)
    assert found[1].usd_per_gpu_hour == slurm_config.cluster.usd_per_gpu_hour
    assert found[0].gpu_hours is None, "it has not begun"


def test_a_task_that_was_cancelled_before_it_began(make_sweep: Make, slurm: FakeSlurm, slurm_config) -> None:
    # SLURM knows nothing of it from that moment on; what a script printed tells such a task from one that vanished.
    sweep = make_sweep(2, slurm_config)
    folder = sweep.directory.new_array()
    for number in (1, 2):
        attempt = sweep.submitted(number, f"70_{number}")
        sweep.write(attempt.submitted, job_id=f"70_{number}", output=str(folder))
    (folder / "70_2_0_log.err").write_text("no such Python")
    slurm.forgets()
    assert words(sweep) == ["cancelled", "gone"]


def test_points_that_are_over_cost_no_question(make_sweep: Make, slurm: FakeSlurm, slurm_config) -> None:
    sweep = make_sweep(1, slurm_config)
    sweep.ended(sweep.began(1, "70_1"), "done", 0, 100)
    assert words(sweep) == ["done"]
    assert slurm.calls == []


def test_a_slurm_that_is_down(make_sweep: Make, slurm: FakeSlurm, slurm_config) -> None:
    sweep = make_sweep(2, slurm_config)
    sweep.submitted(1, "70_1")
    sweep.ended(sweep.began(2, "70_2"), "done", 0, 100)
    slurm.is_down()
    one, two = states(sweep)
    assert (one.state, one.remark) == ("pending", "so say its files; SLURM can't be asked")
    assert two.state == "done"


def test_the_slurm_of_another_configuration_is_asked_there(
    make_sweep: Make, slurm, tmp_path, slurm_config, change
) -> None:
    config = change(slurm_config, {"cluster.slurm.slurm_conf": "/etc/other.conf"})
    sweep = make_sweep(1, config)
    sweep.submitted(1, "70_1")
    slurm.has(squeue_row("70_1", "PENDING"))
    assert words(sweep) == ["pending"]
    assert slurm.environment_of("squeue")["SLURM_CONF"] == "/etc/other.conf"


# ---------------------------------------------------------------- the metric


def test_the_best_value_of_all_attempts(make_sweep: Make) -> None:
    sweep = make_sweep(1)
    first = sweep.frozen(1)
    sweep.held_out(first, (10, 3.0), (20, 2.5), (30, 1.0))
    sweep.ended(first, "failed", 1, 30)
    second = sweep.frozen(1)
    sweep.held_out(second, (30, 2.6), (40, "NaN"), (50, 2.7))
    sweep.ended(second, "failed", 1, 50)
    (found,) = states(sweep)
    assert (found.best, found.best_step) == (2.5, 20), "of step 30 the newest attempt counts"
    assert (found.last, found.last_step) == (2.7, 50)
    assert read_states(sweep.directory, replace(sweep.record, direction="maximize"))[0].best == 3.0


def test_nan_never_wins(make_sweep: Make) -> None:
    sweep = make_sweep(4)
    for number, value in ((1, "NaN"), (2, "-Infinity"), (3, 2.0), (4, 1.5)):
        sweep.held_out(sweep.frozen(number), (10, value))
    found = states(sweep)
    assert [each.best for each in found] == [None, None, 2.0, 1.5]
    assert [each.point.number for each in best(found, sweep.record)] == [4, 3]
    assert [each.point.number for each in best(found, replace(sweep.record, direction="maximize"), 1)] == [3]
    assert found[0].last is not None
    assert math.isnan(found[0].last)


def test_equal_values_keep_the_order_of_the_study(make_sweep: Make) -> None:
    sweep = make_sweep(3)
    for number in (3, 1, 2):
        sweep.held_out(sweep.frozen(number), (10, 2.0))
    assert [each.point.number for each in best(states(sweep), sweep.record, 2)] == [1, 2]


def test_any_number_can_be_the_metric(make_sweep: Make) -> None:
    sweep = make_sweep(1, metric="val_loss_by_modality/text")
    attempt = sweep.frozen(1)
    record = {"kind": "validation", "step": 5, "val_loss": 9.0, "val_loss_by_modality": {"text": 2.0, "image": 1.0}}
    attempt.metrics.write_text(json.dumps(record) + "\n")
    assert states(sweep)[0].best == 2.0


def test_a_file_that_grows_is_read_once(tmp_path: Path) -> None:
    file, curves = tmp_path / "metrics.jsonl", Curves()
    assert curves.read([file], "val_loss") == {}
    line = '{"kind": "validation", "step": %d, "val_loss": %g}\n'
    file.write_text(line % (1, 3.0) + '{"kind": "train", "step": 2, "loss": 1.0}\n' + (line % (2, 2.0))[:20])
    assert curves.read([file], "val_loss") == {1: 3.0}
    with open(file, "a") as rest:
        rest.write((line % (2, 2.0))[20:] + line % (3, 2.5))
    assert curves.read([file], "val_loss") == {1: 3.0, 2: 2.0, 3: 2.5}
    # What was read is not read again: a change before the end is not seen, but another file of that name is.
    text = file.read_text()
    with open(file, "r+") as same:
        same.write(text.replace("2.5", "2.9"))
    assert curves.read([file], "val_loss") == {1: 3.0, 2: 2.0, 3: 2.5}
    file.unlink()
    file.write_text(line % (1, 7.0))
    assert curves.read([file], "val_loss") == {1: 7.0}


def test_a_last_line_without_an_end_is_read(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"step": 1, "val_loss": 3.0}\n{"step": 2, "val_loss": 2.0}')
    curves = Curves()
    assert curves.read([file], "val_loss") == {1: 3.0, 2: 2.0}
    assert curves.read([file], "val_loss") == {1: 3.0, 2: 2.0}


def test_of_equal_values_the_first_step_is_the_best() -> None:
    assert best_step({1: 3.0, 2: 2.0, 3: 2.0}, "minimize") == 2
    assert best_step({1: 3.0, 2: 3.0}, "maximize") == 1
    assert best_step({1: float("nan")}, "minimize") is None


# ---------------------------------------------------------------- what follows


def test_what_the_same_command_submits_again() -> None:
    assert {state for state in STATES if needs_submission(state)} == set(AGAIN)
    assert set(AGAIN) == {"missing", "frozen", "failed", "preempted", "gone", "cancelled"}


def test_an_array_whose_submitter_was_killed_is_told(make_sweep: Make, slurm_config) -> None:
    sweep = make_sweep(2, slurm_config)
    attempt = sweep.frozen(1)
    folder = sweep.directory.new_array()
    tasks = [{"index": 0, "attempt": str(attempt.path)}]
    sweep.write(folder / "array.json", state="submitting", name="lr-0001-ab", tasks=tasks)
    one, two = states(sweep)
    assert (one.state, two.state) == ("frozen", "missing")
    assert one.remark is not None
    assert "lr-0001-ab was being submitted when the submitter ended" in one.remark
    sweep.write(folder / "array.json", state="submitting", name="lr-0001-ab", tasks=tasks, by_hand=True)
    assert "left to you: " in str(states(sweep)[0].remark)
    assert "arrays/0001/array.sh" in str(states(sweep)[0].remark)


def test_two_thousand_points_are_read_in_few_calls(make_sweep: Make, slurm: FakeSlurm, slurm_config) -> None:
    sweep = make_sweep(2000, slurm_config)
    rows = []
    for number in range(1, 2001):
        if number % 2:
            attempt = sweep.began(number, f"70_{number}")
            sweep.held_out(attempt, (10, 2.0 + number / 1000))
            sweep.ended(attempt, "done", 0, 100)
        else:
            sweep.submitted(number, f"70_{number}")
            rows.append(squeue_row(f"70_{number}", "PENDING"))
    slurm.has(*rows)
    memory = Memory()
    first = states(sweep, memory)
    assert Counter(each.state for each in first) == {"done": 1000, "pending": 1000}
    assert len(slurm.calls) <= 3
    # What is over is not read again.
    (sweep.run(1).path / "attempts/0001/metrics.jsonl").write_text('{"step": 20, "val_loss": 0.1}')
    assert states(sweep, memory) == first
    # But for a run that was started once more.
    sweep.submitted(1, "71_1")
    slurm.has(*rows, squeue_row("71_1", "PENDING"))
    assert states(sweep, memory)[0].state == "pending"


def test_a_child_that_will_never_start_is_submitted_again_with_its_parent(
    make_sweep: Make, slurm: FakeSlurm, slurm_config
) -> None:
    """SLURM takes a moment to cancel it, and says until then that it waits."""
    sweep = make_sweep(config=slurm_config, points=[point(1), point(2, parent=parent(point(1)))])
    sweep.ended(sweep.began(1, "70_0"), "failed", 1, 40, "boom", requeue=False)
    sweep.submitted(2, "71_0")
    slurm.has(squeue_row("71_0", "PENDING", reason="DependencyNeverSatisfied"))
    child = states(sweep)[1]
    assert (child.state, child.is_active) == ("cancelled", False)
    assert child.remark == "its parent's job failed, and SLURM is about to cancel this one"
    slurm.has(squeue_row("71_0", "PENDING", reason="Dependency"))
    assert states(sweep)[1].state == "pending"


# ---------------------------------------------------------------- what a look costs


@pytest.fixture(scope="module")
def opened() -> Iterator[list[str]]:
    """Every path that this process opens or lists from now on."""
    paths: list[str] = []
    recording = [True]

    def note(event: str, arguments: tuple) -> None:
        if event in ("open", "os.listdir") and recording[0] and isinstance(arguments[0], str | os.PathLike):
            paths.append(os.fspath(arguments[0]))

    sys.addaudithook(note)
    yield paths
    recording[0] = False


def test_each_file_is_read_once(make_sweep: Make, slurm: FakeSlurm, slurm_config, opened: list[str]) -> None:
    sweep = make_sweep(3, slurm_config)
    running = sweep.began(1, "70_1")
    sweep.trained(running, 40, 3.0)
    sweep.running(running, 40)
    over = sweep.began(2, "70_2")
    sweep.trained(over, 100, 2.0)
    sweep.ended(over, "failed", 1, 100, "boom", requeue=False)
    sweep.submitted(3, "70_3")
    slurm.has(squeue_row("70_1", "RUNNING"), squeue_row("70_3", "PENDING"))
    memory = Memory()
    opened.clear()
    assert [each.state for each in states(sweep, memory)] == ["running", "failed", "pending"]
    runs = str(sweep.run(1).path.parent)
    of_runs = Counter(path for path in opened if path.startswith(runs))
    assert len(of_runs) > 10
    assert set(of_runs.values()) == {1}
    opened.clear()
    assert [each.state for each in states(sweep, memory)] == ["running", "failed", "pending"]
    again = [path for path in opened if path.startswith(runs)]
    assert again
    assert not [path for path in again if path.startswith(str(sweep.run(2).path))], "it is over"
    assert not [path for path in again if path.endswith("config.yaml")], "machines stay what they are"


def test_many_points_are_read_at_the_same_time(make_sweep: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = make_sweep(8)
    for number in range(1, 9):
        sweep.done(number, 2.0)
    together = threading.Barrier(8)

    def look(*arguments: Any) -> Any:
        together.wait(timeout=20)  # all eight are in here, or it breaks
        return look_at(*arguments)

    look_at = states_module.look
    monkeypatch.setattr(states_module, "look", look)
    assert words(sweep) == ["done"] * 8


@pytest.mark.parametrize(("state", "code"), [("done", 0), ("failed", 1), ("stopped", 3), ("preempted", 75)])
def test_what_is_over_is_remembered_until_it_starts_again(make_sweep: Make, state: str, code: int) -> None:
    sweep, memory = make_sweep(1), Memory()
    attempt = sweep.frozen(1)
    sweep.ended(attempt, state, code, 10)
    (first,) = states(sweep, memory)
    assert first.state == state
    sweep.held_out(attempt, (10, 1.0))
    assert states(sweep, memory) == [first], "its files are not read again"
    sweep.frozen(1)
    assert states(sweep, memory)[0].state == ("done" if state == "done" else "frozen")
    sweep.ended(sweep.run(1).attempts[-1], "failed", 1, 20, "boom")
    assert (states(sweep, memory)[0].state, states(sweep, memory)[0].remark) == ("failed", "boom")


def test_an_attempt_whose_end_is_taken_back_is_read_again(make_sweep: Make, slurm: FakeSlurm, slurm_config) -> None:
    # One that was not submitted is submitted after all, in the same folder.
    sweep, memory = make_sweep(1, slurm_config), Memory()
    attempt = sweep.frozen(1)
    sweep.write(attempt.outcome, exit_code=1, message="it was not submitted", step=0)
    assert states(sweep, memory)[0].state == "failed"
    attempt.outcome.unlink()
    sweep.write(attempt.submitted, job_id="70_1", submitted="2026-11-01T10:00:00+00:00")
    slurm.has(squeue_row("70_1", "PENDING"))
    assert states(sweep, memory)[0].state == "pending"


def test_an_attempt_that_is_being_frozen_as_it_is_looked_at(make_sweep: Make) -> None:
    # The folder of attempts does not change once more when its files come: nothing may be remembered by then.
    sweep, memory = make_sweep(1), Memory()
    sweep.ended(sweep.frozen(1), "failed", 1, 10, "boom")
    newer = sweep.run(1).new_attempt()
    assert states(sweep, memory)[0].state == "failed"
    for name in ("config.yaml", "config.yaml.sha256"):
        (newer.path / name).write_bytes((sweep.run(1).attempts[0].path / name).read_bytes())
    assert states(sweep, memory)[0].state == "frozen"


def test_a_job_that_ends_while_it_is_looked_at_is_not_gone(make_sweep: Make, slurm_config) -> None:
    # Files are read before SLURM is asked, and with thousands of points that is a while ago.
    sweep = make_sweep(1, slurm_config)
    attempt = sweep.began(1, "70_1")
    sweep.running(attempt, 90)

    def ends_meanwhile(slurm_conf: str | None, job_ids: Collection[str]) -> dict[str, None]:
        sweep.ended(attempt, "done", 0, 100, requeue=False)
        return dict.fromkeys(job_ids)

    (found,) = states(sweep, Memory(ask=ends_meanwhile))
    assert (found.state, found.step) == ("done", 100)


def test_the_newest_records_of_a_file_that_grows(tmp_path: Path) -> None:
    file, curves = tmp_path / "metrics.jsonl", Curves()
    assert curves.trail(file, "val_loss").records == []
    file.write_text('{"kind": "train", "step": 1, "loss": 3.0}\n{"kind": "validation", "step": 1, "val_loss": 2.0}\n')
    assert [each["kind"] for each in curves.trail(file, "val_loss").records] == ["train", "validation"]
    with open(file, "a") as more:
        more.write('{"kind": "validation", "step": 2, "val_loss": 1.5}\n{"kind": "tra')
    assert [each["step"] for each in curves.trail(file, "val_loss").records] == [1, 2]
    with open(file, "a") as more:
        more.write('in", "step": 3, "loss": 2.0}\n')
    assert [each["step"] for each in curves.trail(file, "val_loss").records] == [3]
