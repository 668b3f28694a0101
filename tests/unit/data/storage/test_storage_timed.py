import threading
import time

import pytest

from mmhydra.data.storage.store import NoAnswer
from mmhydra.data.storage.timed import TimedCalls


def names():
    return [thread for thread in threading.enumerate() if thread.name == "timed-call"]


@pytest.fixture
def calls():
    before = len(names())
    made = TimedCalls()
    yield made
    made.close()
    for thread in names()[before:]:
        thread.join(10)


def test_results_and_errors_come_through(calls):
    assert calls.call(lambda: 7, 10) == 7
    with pytest.raises(ZeroDivisionError):
        calls.call(lambda: 1 // 0, 10)
    with pytest.raises(TimeoutError, match="its own"):  # not for an answer that did not come
        calls.call(lambda: (_ for _ in ()).throw(TimeoutError("its own")), 10)


def test_a_thread_is_used_again(calls):
    before = len(names())
    for _ in range(50):
        calls.call(lambda: None, 10)
    assert len(names()) == before + 1


def test_a_call_that_hangs_is_given_up_and_counted_until_it_comes_back(calls):
    may_end = threading.Event()
    started = time.monotonic()
    for expected in (1, 2):
        with pytest.raises(NoAnswer, match=r"no answer within 0\.05 s"):
            calls.call(lambda: may_end.wait(60), 0.05)
        assert calls.num_hanging == expected
    assert time.monotonic() - started < 10
    assert calls.call(lambda: 7, 10) == 7  # others go on
    may_end.set()
    end = time.monotonic() + 10
    while calls.num_hanging and time.monotonic() < end:
        time.sleep(0.01)
    assert calls.num_hanging == 0


def test_closing_ends_the_threads():
    before = len(names())
    calls = TimedCalls()
    calls.call(lambda: None, 10)
    thread = names()[-1]
    calls.close()
    thread.join(10)
    assert len(names()) == before
