"""Orders at step boundaries: real gloo processes for what ranks agree on, a world of one for what rank 0 sees."""

import json
import os
import signal
import subprocess
import sys

import pytest
import torch.distributed as dist

from mmhydra.checkpoint.keeper import Superseded
from mmhydra.errors import ExitCode
from mmhydra.run.directory import Attempt, RunDirectory
from mmhydra.run.lease import JobLease
from mmhydra.titan.control import REASONS, SIGNALS, Control, Order, Signals

RANK = '''
import datetime, json, os, signal, sys, time
from pathlib import Path
signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGUSR1, signal.SIGUSR2))  # as the bridge leaves them
os.kill(os.getpid(), signal.SIGUSR1) if sys.argv[1] == "1" and sys.argv[4] == "early" else None
import torch, torch.distributed as dist
from mmhydra.checkpoint.keeper import Superseded
from mmhydra.run.directory import Attempt
from mmhydra.titan.control import SIGNALS, Control, Signals
rank, world, store = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
torch.set_num_threads(1)
attempt = Attempt(Path(sys.argv[5]))
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world,
                        timeout=datetime.timedelta(seconds=60))
seen = {}

def boundaries(name, before, count=6):
    """What a rank is ordered at each step; `before(step)` happens on this rank before it asks."""
    control = Control(attempt, Signals(SIGNALS), lease=None, end_time=None, longest_save_s=lambda: None)
    orders = seen[name] = []
    dist.barrier()
    for step in range(count):
        before(step)
        time.sleep(0.002 * rank)  # not all come at once
        try:
            order = control.agree()
        except Superseded:
            orders.append("SUPERSEDED")
            break
        orders.append(order.name)
        if rank == 0 and order > 0:
            control.answered()
        dist.barrier()
        if order.ends:
            break

def at(step, on, act):
    return lambda now: act() if now == step and rank == on else None

kill = lambda: os.kill(os.getpid(), signal.SIGUSR2)
touch = lambda name: attempt.run.trigger(name).touch()
if sys.argv[4] == "early":
    boundaries("early", lambda step: None)
boundaries("quiet", lambda step: None, 3)
boundaries("signal", at(2, 1, kill))
boundaries("save", at(1, 0, lambda: touch("save")), 4)
boundaries("drain", at(1, 0, lambda: touch("drain")))
boundaries("stop", at(1, 0, lambda: touch("stop")))

def both(step):
    at(1, 2, kill)(step)
    at(1, 0, lambda: (touch("save"), touch("stop")))(step)

boundaries("urgent", both)
boundaries("superseded", at(3, 0, lambda: attempt.run.new_attempt()))
if rank == 0:
    seen["left"] = [name for name in ("save", "stop", "drain") if attempt.run.trigger(name).exists()]
Path(sys.argv[6]).write_text(json.dumps(seen))
dist.destroy_process_group()
'''


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What each of three ranks was ordered, by scene."""
    folder = tmp_path_factory.mktemp("control")
    attempt = new_attempt(folder / "run")
    arguments = [str(folder / "store"), "early", str(attempt.path)]
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(rank), "3", *arguments, str(folder / f"{rank}.json")],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for rank in range(3)
    ]
    try:
        for rank in ranks:
            out, _ = rank.communicate(timeout=120)
            assert rank.returncode == 0, out
    finally:
        for rank in ranks:
            rank.kill()
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(3)]


def new_attempt(folder) -> Attempt:
    (folder / "attempts").mkdir(parents=True)
    return RunDirectory(folder).new_attempt()


@pytest.mark.parametrize(
    ("scene", "orders"),
    [
        ("quiet", ["GO_ON"] * 3),
        ("signal", ["GO_ON", "GO_ON", "SIGNAL"]),
        ("save", ["GO_ON", "SAVE", "GO_ON", "GO_ON"]),
        ("drain", ["GO_ON", "DRAIN"]),
        ("stop", ["GO_ON", "STOP"]),
        ("urgent", ["GO_ON", "STOP"]),
        ("superseded", ["GO_ON", "GO_ON", "GO_ON", "SUPERSEDED"]),
    ],
)
def test_all_ranks_get_the_same_order_at_the_same_step(seen, scene, orders):
    assert [rank[scene] for rank in seen] == [orders] * 3


def test_a_signal_that_came_before_the_rank_could_hear_is_heard(seen):
    assert [rank["early"] for rank in seen] == [["SIGNAL"]] * 3


def test_all_triggers_that_were_answered_are_gone(seen):
    assert seen[0]["left"] == []


# ---------------------------------------------------------------- rank 0, alone


@pytest.fixture(scope="module")
def world():
    """A world of one rank."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture
def handlers():
    """Puts back what the tests had."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def make_control(world, handlers, tmp_path):
    attempt = new_attempt(tmp_path / "run")

    def make(**settings) -> Control:
        settings = {"lease": None, "end_time": None, "longest_save_s": lambda: None, **settings}
        return Control(attempt, Signals(SIGNALS), **settings)

    make.attempt = attempt
    return make


class Clock:
    """Seconds as a test wants them."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def orders(control: Control, clock: Clock, *, step_s: float, until: float) -> list[tuple[float, Order]]:
    found = []
    while clock.now < until:
        found.append((clock.now, control.agree()))
        clock.now += step_s
    return found


def test_time_is_up_while_two_saves_and_a_step_still_fit(make_control):
    clock = Clock()
    control = make_control(end_time=1100.0, longest_save_s=lambda: 10.0, clock=clock)
    first = next(now for now, order in orders(control, clock, step_s=5.0, until=1100) if order is Order.TIME_IS_UP)
    assert 1100 - first < 2 * 10 + 5 <= 1100 - first + 5


def test_the_longest_step_counts(make_control):
    clock = Clock()
    control = make_control(end_time=1100.0, longest_save_s=lambda: 10.0, clock=clock)
    control.agree()
    clock.now += 41.0  # one slow step
    assert control.agree() is Order.TIME_IS_UP  # 59 s are left for two saves and another such step


@pytest.mark.parametrize("settings", [{"end_time": None}, {"longest_save_s": lambda: None}])
def test_without_an_end_or_a_save_time_is_never_up(make_control, settings):
    clock = Clock()
    control = make_control(**{"end_time": 1010.0, "longest_save_s": lambda: 10.0, "clock": clock, **settings})
    assert {order for _, order in orders(control, clock, step_s=1.0, until=1020)} == {Order.GO_ON}


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_heard_and_unblocked(make_control, number):
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    control = make_control()
    assert not set(SIGNALS) & signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert control.agree() is Order.GO_ON
    os.kill(os.getpid(), number)
    assert control.agree() is Order.SIGNAL
    assert control.agree() is Order.SIGNAL  # until the process ends


def test_a_lease_that_is_another_s_supersedes(make_control):
    run = make_control.attempt.run
    job = JobLease(run, "7", 1)
    job.take()
    control = make_control(lease=job)
    assert control.agree() is Order.GO_ON
    JobLease(run, "7", 2).take()
    with pytest.raises(Superseded):
        control.agree()


def test_superseded_is_more_urgent_than_all_else(make_control):
    control = make_control()
    make_control.attempt.run.trigger("stop").touch()
    os.kill(os.getpid(), signal.SIGUSR2)
    make_control.attempt.run.new_attempt()
    with pytest.raises(Superseded, match="attempt 2 has taken over this run; attempt 1 ends"):
        control.agree()


def test_answered_takes_away_what_was_seen_and_no_more(make_control):
    control, run = make_control(), make_control.attempt.run
    run.trigger("save").touch()
    assert control.agree() is Order.SAVE
    run.trigger("stop").touch()  # meanwhile
    control.answered()
    assert (run.trigger("save").exists(), run.trigger("stop").exists()) == (False, True)
    assert control.agree() is Order.STOP
    run.trigger("stop").unlink()  # a person was faster
    control.answered()


def test_a_run_directory_that_is_away_for_a_moment_orders_nothing(make_control):
    control, path = make_control(), make_control.attempt.run.path
    path.rename(path.with_name("away"))
    assert control.agree() is Order.GO_ON


def test_each_order_says_what_it_means():
    assert [order for order in Order if order.ends] == list(Order)[2:]
    assert set(REASONS) == set(Order) - {Order.GO_ON, Order.SUPERSEDED}
    assert Order.STOP.exit_code is ExitCode.STOPPED
    for order in (Order.DRAIN, Order.TIME_IS_UP, Order.SIGNAL):
        assert order.exit_code is ExitCode.PREEMPTED
