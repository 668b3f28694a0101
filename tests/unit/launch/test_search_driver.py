"""The driver of a search on real Optuna, with machines that train nothing."""

import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
from fake_trials import NUM_STEPS, Machines, begin, composed, driver, started, steps, to_the_end

from mmhydra.errors import ExitCode, UserError
from mmhydra.launch.search.book import Book, BookError
from mmhydra.launch.slurm import NOT_SUBMITTED
from mmhydra.run.outcome import conclude
from mmhydra.sweep.record import sweep_directory
from mmhydra.sweep.study.space import Search

SUPPORT = Path(__file__).resolve().parents[2] / "support"


def search(num_trials: int = 12, concurrency: int = 3, kind: str = "random", **more: Any) -> Search:
    space = {"rate": {"low": 0.0, "high": 1.0}}
    sampler = {"kind": kind, "seed": 7}
    given = {"space": space, "num_trials": num_trials, "concurrency": concurrency, "sampler": sampler, **more}
    return Search.model_validate(given)


def loss(run, step):
    """Falls with the steps, and is best for a rate of 0.3."""
    return abs(run["rate"] - 0.3) + 1.0 - step / 1000


def test_a_search_comes_to_its_end_and_knows_its_best(tmp_path):
    wanted = search()
    sweep = begin(tmp_path, wanted)
    lines: list[str] = []
    first = driver(sweep, wanted, say=lines.append)
    to_the_end(first, Machines(tmp_path, loss))
    trials = first.book.trials
    assert [trial.number for trial in trials] == list(range(1, 13))
    assert {trial.state for trial in trials} == {"done"}
    best = min(trials, key=lambda trial: abs(float(trial.values["rate"] or 0) - 0.3))
    assert first.book.best == best
    assert best.value == pytest.approx(loss(best.values, NUM_STEPS))
    assert len(started(tmp_path)) == 12
    points = sweep.read().points
    assert [point.number for point in points] == list(range(1, 13))
    assert {point.run_id for point in points} == {trial.notes["run_id"] for trial in trials}
    assert sum(line.endswith("(the best so far)") for line in lines) >= 1


def test_a_slow_trial_holds_up_nobody(tmp_path):
    wanted = search(num_trials=20, concurrency=3)
    sweep = begin(tmp_path, wanted)
    machines = Machines(tmp_path, loss, ticks_per_interval=lambda run: 12 if run["number"] == 1 else 1)
    search_driver = driver(sweep, wanted)
    taken: list[int] = []
    done_before_first: list[int] = []

    def look() -> None:
        trials = search_driver.book.trials
        if len(trials) < wanted.num_trials:
            taken.append(search_driver.under_way)
        if trials[0].state == "running":
            done_before_first.append(sum(trial.state == "done" for trial in trials))

    to_the_end(search_driver, machines, look)
    assert set(taken) == {3}
    assert max(done_before_first) >= 15


def test_halving_saves_steps_and_keeps_the_best(tmp_path):
    used: dict[bool, int] = {}
    best: dict[bool, float] = {}
    for halves in (False, True):
        outputs = tmp_path / str(halves)
        wanted = search(num_trials=27, concurrency=4, halving={"min_steps": 10, "factor": 3} if halves else None)
        sweep = begin(outputs, wanted)
        search_driver = driver(sweep, wanted)
        to_the_end(search_driver, Machines(outputs, loss))
        used[halves] = steps(outputs)
        found = search_driver.book.best
        assert found is not None
        best[halves] = float(found.values["rate"] or 0)
        if halves:
            pruned = [trial for trial in search_driver.book.trials if trial.state == "pruned"]
            assert len(pruned) >= 15
            assert all("ended early" in trial.notes["told"] for trial in pruned)
            assert not list(outputs.glob("fake/*/stop"))
    assert used[False] == 27 * NUM_STEPS
    assert used[True] < 0.6 * used[False]
    assert best[True] == best[False]  # the same trials were asked for, and the best was not among the pruned


def test_a_pruned_trial_frees_its_slot_in_the_same_round(tmp_path):
    wanted = search(num_trials=9, concurrency=2, halving={"min_steps": 10, "factor": 2})
    sweep = begin(tmp_path, wanted)
    search_driver = driver(sweep, wanted)
    machines = Machines(tmp_path, loss)
    search_driver.take_up()
    seen = 0
    while search_driver.round():
        trials = search_driver.book.trials
        if sum(trial.state == "pruned" for trial in trials) > seen and len(trials) < 9:
            seen += 1
            assert search_driver.under_way == 2
        machines.tick()
    assert seen


def test_the_same_seed_asks_for_the_same_and_a_new_driver_repeats_nothing(tmp_path):
    for kind in ("random", "tpe", "qmc"):
        wanted = search(kind=kind)
        asked = []
        for restarts in (False, True):
            journal = tmp_path / f"{kind}-{restarts}.log"
            book = Book(journal, wanted, "minimize")
            values = []
            for _ in range(6):
                if restarts:
                    book = Book(journal, wanted, "minimize")
                values.append(book.ask().values["rate"])
            asked.append(values)
        assert asked[0] == asked[1]
        assert len(set(asked[0])) == 6


def test_a_grid_is_tried_once_and_no_more(tmp_path):
    space = {"rate": {"choices": [0.1, 0.2, 0.3]}, "depth": {"low": 1, "high": 2, "int": True}}
    wanted = search(num_trials=50, kind="grid", space=space)
    sweep = begin(tmp_path, wanted)
    search_driver = driver(sweep, wanted)
    to_the_end(search_driver, Machines(tmp_path, loss))
    assert len(search_driver.book.trials) == 6
    assert len({trial.notes["run_id"] for trial in search_driver.book.trials}) == 6


def test_trials_of_equal_values_share_a_run(tmp_path):
    wanted = search(num_trials=10, space={"rate": {"choices": [0.1, 0.3]}})
    sweep = begin(tmp_path, wanted)
    search_driver = driver(sweep, wanted)
    to_the_end(search_driver, Machines(tmp_path, loss))
    assert {trial.state for trial in search_driver.book.trials} == {"done"}
    assert len(search_driver.book.trials) == 10
    assert len(started(tmp_path)) == 2
    assert len(sweep.read().points) == 2


def test_a_failed_trial_runs_again_as_often_as_wanted(tmp_path):
    wanted = search(num_trials=4, attempts=2)
    sweep = begin(tmp_path, wanted)

    def fails(run, attempt):
        always, once, wrong = run["number"] == 1, run["number"] == 2 and attempt == 1, run["number"] == 3
        return 2 if wrong else 1 if always or once else None

    lines: list[str] = []
    search_driver = driver(sweep, wanted, say=lines.append)
    to_the_end(search_driver, Machines(tmp_path, loss, fails=fails))
    assert [trial.state for trial in search_driver.book.trials] == ["failed", "done", "failed", "done"]
    attempts = [run["number"] for run in started(tmp_path)]
    assert [attempts.count(number) for number in (1, 2, 3, 4)] == [3, 2, 1, 1]
    assert any("started again (2 of 2)" in line for line in lines)


def test_a_trial_that_can_not_be_composed_is_told_and_others_go_on(tmp_path):
    wanted = search(num_trials=8, space={"rate": {"low": 0, "high": 1}, "bad": {"choices": [True, False]}})
    sweep = begin(tmp_path, wanted)
    lines: list[str] = []
    search_driver = driver(sweep, wanted, say=lines.append)
    to_the_end(search_driver, Machines(tmp_path, loss))
    by_bad = {bool(trial.values["bad"]): trial.state for trial in search_driver.book.trials}
    assert by_bad == {True: "failed", False: "done"}
    assert any("can't be run: bad: it can't be composed" in line for line in lines)


def test_nothing_more_is_asked_for_when_everything_fails(tmp_path):
    wanted = search(num_trials=50, concurrency=2, attempts=0)
    sweep = begin(tmp_path, wanted)
    lines: list[str] = []
    search_driver = driver(sweep, wanted, say=lines.append)
    to_the_end(search_driver, Machines(tmp_path, loss, fails=lambda run, attempt: 1))
    assert len(search_driver.book.trials) <= 7
    assert any("that ended have failed; mend what is wrong" in line for line in lines)
    again = driver(sweep, wanted)  # what was wrong is mended
    to_the_end(again, Machines(tmp_path, loss))
    assert len(again.book.trials) == 50
    assert sum(trial.state == "done" for trial in again.book.trials) >= 43


def test_the_stop_rule_ends_the_asking(tmp_path):
    wanted = search(num_trials=50, concurrency=2)
    sweep = begin(tmp_path, wanted)
    lines: list[str] = []
    search_driver = driver(sweep, wanted, say=lines.append, stop={"metric_below": 1.05})
    to_the_end(search_driver, Machines(tmp_path, loss))
    assert len(search_driver.book.trials) < 50
    assert {trial.state for trial in search_driver.book.trials} == {"done"}  # those under way came to their end
    assert sum("the stop rule of the study is met" in line for line in lines) == 1


def test_a_run_without_the_metric_has_failed(tmp_path):
    wanted = search(num_trials=1)
    sweep = begin(tmp_path, wanted)
    search_driver = driver(sweep, wanted)
    to_the_end(search_driver, Machines(tmp_path, lambda run, step: float("nan")))
    (trial,) = search_driver.book.trials
    assert trial.state == "failed"
    assert "val_loss" in trial.notes["told"]


def test_a_full_queue_is_waited_for_and_an_empty_one_that_refuses_ends_the_driver(tmp_path, monkeypatch):
    monkeypatch.setattr("mmhydra.launch.search.driver._RETRY_S", 0.0)
    wanted = search(num_trials=2)
    sweep = begin(tmp_path, wanted)
    lines: list[str] = []
    search_driver = driver(sweep, wanted, say=lines.append)
    begins, refusals = search_driver.runs.start, iter([True, True])

    def start(candidates):
        if next(refusals, False):
            raise UserError("QOSMaxSubmitJobLimit")
        begins(candidates)

    search_driver.runs.start = start  # type: ignore[method-assign]
    to_the_end(search_driver, Machines(tmp_path, loss))
    assert [trial.state for trial in search_driver.book.trials] == ["done", "done"]
    assert sum("QOSMaxSubmitJobLimit" in line for line in lines) == 2

    def never(candidates):
        raise UserError("QOSMaxSubmitJobLimit")

    again = driver(begin(tmp_path / "other", wanted), wanted)
    again.runs.start = never  # type: ignore[method-assign]
    with pytest.raises(UserError, match="QOSMaxSubmitJobLimit"):
        to_the_end(again, Machines(tmp_path / "other", loss))


def test_an_attempt_that_sbatch_refused_is_no_failure_of_its_trial(tmp_path, monkeypatch):
    monkeypatch.setattr("mmhydra.launch.search.driver._RETRY_S", 0.0)
    wanted = search(num_trials=1, attempts=0)
    sweep = begin(tmp_path, wanted)
    lines: list[str] = []
    search_driver = driver(sweep, wanted, say=lines.append)
    begins, refusals = search_driver.runs.start, iter([True])

    def start(candidates):
        begins(candidates)
        if next(refusals, False):
            (attempt,) = sweep.run(candidates[0].recorded).attempts
            conclude(attempt, ExitCode.CONFIG, "QOSMaxSubmitJobLimit", requeue=False, reason=NOT_SUBMITTED)
            raise UserError("QOSMaxSubmitJobLimit")

    search_driver.runs.start = start  # type: ignore[method-assign]
    to_the_end(search_driver, Machines(tmp_path, loss))
    assert [trial.state for trial in search_driver.book.trials] == ["done"]
    assert "1 trial could not be started, tried again in 0 s: QOSMaxSubmitJobLimit" in lines


def test_a_journal_that_a_kill_cut_off_is_read_as_far_as_it_goes(tmp_path):
    wanted = search()
    journal = tmp_path / "journal.log"
    first = Book(journal, wanted, "minimize").ask()
    with open(journal, "ab") as file:
        file.write(b'{"op_code":4,"worker_id":"x",')
    os.symlink(journal, tmp_path / "journal.log.lock")
    began = time.monotonic()
    book = Book(journal, wanted, "minimize")
    second = book.ask()
    assert time.monotonic() - began < 20  # Optuna alone waits 30 s for the lock of the dead
    assert [trial.values for trial in Book(journal, wanted, "minimize").trials] == [first.values, second.values]


def test_values_that_were_asked_for_halfway_are_asked_for_to_the_end(tmp_path):
    space = {key: {"low": 0.0, "high": 1.0} for key in ("rate", "decay", "beta")}
    wanted = search(space=space)
    whole_book = Book(tmp_path / "whole.log", wanted, "minimize")
    before = len((tmp_path / "whole.log").read_bytes().splitlines())
    whole = whole_book.ask()
    lines = (tmp_path / "whole.log").read_bytes().splitlines(keepends=True)
    assert len(lines) >= before + 4  # the trial, and its three values
    for kept in range(before + 1, len(lines) + 1):
        (tmp_path / "cut.log").write_bytes(b"".join(lines[:kept]))
        book = Book(tmp_path / "cut.log", wanted, "minimize")
        (trial,) = book.trials
        found = book.complete(trial)
        assert set(found.values) == {"rate", "decay", "beta"}
        assert set(trial.values.items()) <= set(whole.values.items()) | set(found.values.items())


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_halving_decides_as_optuna_does(tmp_path, direction):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    halving = {"min_steps": 2, "factor": 3}
    numbers = random.Random(3)
    book = Book(tmp_path / "journal.log", search(num_trials=60, halving=halving), direction)
    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=2, reduction_factor=3)
    study = optuna.create_study(direction=direction, pruner=pruner)
    trials = [(book.ask(), study.ask()) for _ in range(60)]
    at_step = dict.fromkeys(range(60), 0)
    verdicts = []
    while at_step:
        index = numbers.choice(list(at_step))
        ours, theirs = trials[index]
        at_step[index] += numbers.randint(1, 3)  # a report may be beyond the step of a rung, or of two
        value = round(numbers.random(), 1)
        theirs.report(value, at_step[index])
        verdicts.append(book.report(ours, at_step[index], value))
        assert verdicts[-1] is not theirs.should_prune()
        if not verdicts[-1] or at_step[index] > 20:
            del at_step[index]
    assert verdicts.count(False) > 20
    assert len(verdicts) > 100


def test_no_moment_of_a_kill_lets_a_bad_trial_go_on(tmp_path):
    wanted = search(halving={"min_steps": 10, "factor": 3})
    journal = tmp_path / "whole.log"
    book = Book(journal, wanted, "minimize")
    trials = [book.ask() for _ in range(4)]
    assert book.report(trials[0], 10, 0.1)
    assert not book.report(trials[1], 10, 0.5)
    before = len(journal.read_bytes().splitlines())
    assert not book.report(trials[2], 10, 0.9)
    lines = journal.read_bytes().splitlines(keepends=True)
    assert len(lines) >= before + 2  # the report, and what came of it
    for kept in range(before + 1, len(lines) + 1):
        (tmp_path / "cut.log").write_bytes(b"".join(lines[:kept]))
        again = Book(tmp_path / "cut.log", wanted, "minimize")
        assert not again.should_go_on(again.trials[2]), kept
        assert again.should_go_on(again.trials[0])
        assert again.should_go_on(again.trials[3])


def test_a_trial_at_its_last_step_is_not_ended_by_the_next_driver(tmp_path):
    wanted = search(num_trials=1, halving={"min_steps": NUM_STEPS, "factor": 3})
    sweep = begin(tmp_path, wanted)
    first = driver(sweep, wanted)
    machines = Machines(tmp_path, loss)
    first.take_up()
    first.round()
    for _ in range(10, NUM_STEPS, 10):
        first.round()
        machines.tick()
    (trial,) = first.book.trials
    first.book.note(trial, "halving", {"rungs": [1.0], "goes_on": False})  # at its last step, where nothing is to save
    first.book.report(trial, NUM_STEPS, 1.0)
    again = driver(sweep, wanted)
    to_the_end(again, machines)
    assert [trial.state for trial in again.book.trials] == ["done"]


def test_another_space_is_refused(tmp_path):
    journal = tmp_path / "journal.log"
    Book(journal, search(), "minimize")
    with pytest.raises(BookError, match="the space is not that of"):
        Book(journal, search(space={"rate": {"choices": [1, 2]}}), "minimize")
    assert Book(journal, search(num_trials=99, concurrency=1), "minimize").num_trials == 99


_DRIVER = """
import sys
from pathlib import Path
from fake_trials import driver
from mmhydra.sweep.record import sweep_directory
from mmhydra.sweep.study.space import Search
sweep = sweep_directory(Path(sys.argv[1]), "fake_search")
found = driver(sweep, Search.model_validate_json(sys.argv[2]), say=lambda text: print(text, flush=True))
sys.exit(found.run())
"""


@pytest.mark.slow
def test_no_moment_of_a_kill_loses_a_trial_or_runs_one_twice(tmp_path):
    """A driver after another is killed at a random moment, mostly while it starts trials."""
    wanted = search(num_trials=30, concurrency=5, kind="tpe", halving={"min_steps": 20, "factor": 3})
    begin(tmp_path, wanted)
    moments = random.Random(5)
    ended = threading.Event()
    machines = Machines(tmp_path, loss)
    thread = machines.in_thread(ended, pause_s=0.05)
    environment = {**os.environ, "PYTHONPATH": str(SUPPORT)}
    kills = 0
    try:
        while True:
            process = subprocess.Popen(
                [sys.executable, "-c", textwrap.dedent(_DRIVER), str(tmp_path), wanted.model_dump_json(by_alias=True)],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            assert process.stdout is not None
            first = process.stdout.readline()  # it is at work
            if kills < 8:
                time.sleep(moments.random() * 0.4 if first else 0)
                process.send_signal(signal.SIGKILL)
                kills += 1
            out = first + process.communicate(timeout=120)[0]
            if process.returncode != -signal.SIGKILL:
                break
    finally:
        ended.set()
        thread.join()
    assert process.returncode == ExitCode.DONE, out.decode()
    sweep = sweep_directory(tmp_path, "fake_search")
    trials = Book(sweep.search / "journal.log", wanted, "minimize").trials
    assert [trial.number for trial in trials] == list(range(1, 31))
    assert {trial.state for trial in trials} <= {"done", "pruned"}, [trial.notes for trial in trials]
    runs = [trial.notes["run_id"] for trial in trials]
    assert len(set(runs)) == 30
    for trial in trials:
        assert composed(trial.number, trial.values).recorded.run_id == trial.notes["run_id"]
    assert sorted(run["number"] for run in started(tmp_path)) == list(range(1, 31))
    assert [point.number for point in sweep.read().points] == list(range(1, 31))
    assert kills >= 3, "the search ended before its drivers could be killed"
