"""Results in order, at most so many ahead, errors as they are, no thread left behind."""

import threading
import time

import pytest

from mmhydra.data.stream.prefetch import Prefetch


def no_thread_is_left():
    return not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch-")]


@pytest.fixture
def prefetch():
    """Makes prefetches and ends their threads."""
    made = []

    def make(work, num_threads, ahead):
        made.append(Prefetch(work, num_threads=num_threads, ahead=ahead))
        return made[-1]

    yield make
    for each in made:
        each.close()
    assert no_thread_is_left()


@pytest.mark.parametrize("num_threads", [0, 1, 2, 3, 8])
@pytest.mark.parametrize("ahead", [1, 2, 5])
def test_results_come_in_order_from_any_number_of_threads(prefetch, num_threads, ahead):
    def work(number):
        time.sleep(0.002 if number % 3 == 0 else 0)  # later ones overtake
        return number * number

    made = prefetch(work, num_threads, ahead)
    assert [made.take() for _ in range(40)] == [number * number for number in range(40)]


@pytest.mark.parametrize(("num_threads", "ahead"), [(1, 1), (2, 3), (4, 4), (8, 2)])
def test_no_more_than_ahead_are_begun_and_not_taken(prefetch, num_threads, ahead):
    begun = []
    made = prefetch(begun.append, num_threads, ahead)
    for taken in range(20):
        deadline = time.monotonic() + 5
        while len(begun) < taken + ahead:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        time.sleep(0.005)  # time enough for one too many
        assert len(begun) == taken + ahead
        assert made.num_ready <= ahead
        made.take()


def test_without_threads_nothing_is_made_ahead(prefetch):
    begun = []
    made = prefetch(begun.append, 0, 4)
    assert begun == []
    made.take()
    assert begun == [0]


@pytest.mark.parametrize("num_threads", [0, 1, 3])
def test_an_error_comes_out_at_its_number_with_its_own_type(prefetch, num_threads):
    class Damaged(ValueError):
        """Nobody else's."""

    def work(number):
        if number >= 3:
            raise Damaged(f"number {number}")
        return number

    made = prefetch(work, num_threads, 8)
    assert [made.take() for _ in range(3)] == [0, 1, 2]
    for _ in range(2):  # it does not go on behind the gap
        with pytest.raises(Damaged, match="number 3"):
            made.take()


def test_an_error_keeps_earlier_results(prefetch):
    failed = threading.Event()

    def work(number):
        if number == 2:
            failed.set()
            raise KeyError(number)
        failed.wait(5)
        return number

    made = prefetch(work, 3, 3)
    assert [made.take(), made.take()] == [0, 1]
    with pytest.raises(KeyError):
        made.take()


def test_close_wakes_threads_that_wait_for_room_and_takers_that_wait_for_results():
    full = Prefetch(lambda number: number, num_threads=2, ahead=2)
    full.close()
    full.close()
    assert no_thread_is_left()
    with pytest.raises(RuntimeError, match="closed"):
        full.take()

    go_on = threading.Event()
    stuck = Prefetch(lambda number: go_on.wait(5), num_threads=1, ahead=1)
    told = []

    def taker():
        try:
            stuck.take()
        except RuntimeError as error:
            told.append(str(error))

    waiting = threading.Thread(target=taker)
    waiting.start()
    closing = threading.Thread(target=stuck.close)
    closing.start()
    waiting.join(5)
    assert told
    assert "closed" in told[0]
    go_on.set()
    closing.join(5)
    assert no_thread_is_left()


@pytest.mark.parametrize(("num_threads", "ahead"), [(-1, 1), (0, 0)])
def test_impossible_numbers_are_refused(num_threads, ahead):
    with pytest.raises(ValueError, match="ahead"):
        Prefetch(abs, num_threads=num_threads, ahead=ahead)
