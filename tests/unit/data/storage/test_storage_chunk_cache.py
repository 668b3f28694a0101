import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mmhydra.data.storage.chunk_cache import ChunkCache


def block(size):
    return np.zeros(size, np.uint8)


def test_what_was_used_longest_ago_makes_room():
    cache = ChunkCache(100)
    for key in "abc":
        cache.get(key, 30, lambda: block(30))
    cache.get("a", 30, lambda: pytest.fail("it is there"))
    cache.get("d", 30, lambda: block(30))
    assert cache.keys() == ["c", "a", "d"]
    assert cache.find("c") is not None
    cache.get("e", 30, lambda: block(30))
    assert cache.keys() == ["d", "c", "e"]
    assert cache.held_bytes == 90
    assert cache.find("a") is None


def test_a_value_above_the_limit_is_kept_until_the_next_comes():
    cache = ChunkCache(100)
    big = cache.get("big", 300, lambda: block(300))
    assert cache.get("big", 300, lambda: pytest.fail("it is there")) is big
    cache.get("small", 10, lambda: block(10))
    assert cache.keys() == ["small"]


def test_an_expectation_may_be_wrong():
    cache = ChunkCache(100)
    cache.get("a", 10, lambda: block(60))
    cache.get("b", 10, lambda: block(70))
    assert cache.keys() == ["b"]
    assert cache.held_bytes == 70


def test_what_was_dropped_is_freed_when_nobody_uses_it():
    cache = ChunkCache(100)
    value = cache.get("a", 80, lambda: block(80))
    view, alive = value[10:20], weakref.ref(value)
    cache.get("b", 80, lambda: block(80))
    del value
    assert view.tolist() == [0] * 10
    assert alive() is not None
    del view
    gc.collect()
    assert alive() is None


def test_threads_that_want_one_value_load_it_once():
    cache, loads, may_end = ChunkCache(100), [], threading.Event()

    def load():
        loads.append(1)
        may_end.wait(10)
        return block(10)

    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(cache.get, "a", 10, load) for _ in range(8)]
        may_end.set()
        assert len({id(future.result()) for future in asked}) == 1
    assert loads == [1]


def test_an_error_reaches_all_that_wait_and_is_not_kept():
    cache, begun, may_end = ChunkCache(100), threading.Event(), threading.Event()

    def fail():
        begun.set()
        may_end.wait(10)
        raise OSError("no such luck")

    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(cache.get, "a", 10, fail)
        begun.wait(10)
        others = [pool.submit(cache.get, "a", 10, fail) for _ in range(3)]
        may_end.set()
        for future in (first, *others):
            with pytest.raises(OSError, match="no such luck"):
                future.result()
    assert len(cache.get("a", 10, lambda: block(10))) == 10


def test_what_is_being_loaded_counts_so_the_bound_holds_at_every_moment():
    cache, lock = ChunkCache(100), threading.Lock()
    now, most = 0, 0

    def load():
        nonlocal now, most
        with lock:
            now += 40
            most = max(most, now + cache.held_bytes)
        value = block(40)
        with lock:
            now -= 40
        return value

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: cache.get(key, 40, load), [number % 11 for number in range(400)]))
    assert most <= 100
    assert 80 <= cache.peak_bytes <= 100
