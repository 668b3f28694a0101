import errno
import fcntl
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import xxhash

from mmhydra.data.storage.disk_cache import DiskCache


def content(number, size=1000):
    return np.random.default_rng(number).integers(0, 256, size, np.uint8)


def digest(data):
    return xxhash.xxh3_128_hexdigest(data.data)


def keep(cache, number, size=1000):
    data = content(number, size)
    cache.write(digest(data), data)


def has(cache, number, size=1000):
    data = content(number, size)
    found = cache.read(digest(data))
    return found is not None and np.array_equal(found, data)


def used_bytes(folder):
    """At one moment: no process makes room, reserves or renames while the lock is held."""
    with (folder / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return sum(path.stat().st_size for suffix in ("chunk", "tmp") for path in folder.glob(f"*.{suffix}"))


def test_what_was_written_is_read(tmp_path):
    cache = DiskCache(tmp_path / "cache", 10_000)
    assert not has(cache, 1)
    keep(cache, 1)
    assert has(cache, 1)
    assert has(DiskCache(tmp_path / "cache", 10_000), 1)  # another process, or a later start


def test_what_was_used_longest_ago_makes_room(tmp_path):
    cache = DiskCache(tmp_path, 5_000)
    for number in range(5):
        keep(cache, number)
        age = 1000 - 10 * number
        name = tmp_path / f"{digest(content(number))}.chunk"
        os.utime(name, (time.time() - age, time.time() - age))
    assert has(cache, 0)  # which makes it the newest
    keep(cache, 5)
    assert used_bytes(tmp_path) <= 5_000
    assert [number for number in range(6) if has(cache, number)] == [0, 3, 4, 5]


def test_a_damaged_file_is_found_and_removed(tmp_path):
    cache = DiskCache(tmp_path, 10_000)
    keep(cache, 1)
    (path,) = tmp_path.glob("*.chunk")
    for damage in (b"", path.read_bytes()[:-1], b"\0" + path.read_bytes()[1:]):
        path.write_bytes(damage)
        assert not has(cache, 1)
        assert not path.exists()
        keep(cache, 1)
        assert has(cache, 1)


def test_what_does_not_fit_is_not_kept(tmp_path):
    cache = DiskCache(tmp_path, 5_000)
    keep(cache, 1)
    keep(cache, 2, 5_001)
    assert used_bytes(tmp_path) == 1_000


def test_what_a_killed_process_left_is_counted_and_removed_when_it_is_old(tmp_path):
    cache = DiskCache(tmp_path, 5_000)
    left = tmp_path / ".0.1.2.tmp"
    left.write_bytes(bytes(4_500))
    keep(cache, 1)  # may be on its way in another process: there is no room
    assert used_bytes(tmp_path) == 4_500
    os.utime(left, (1, 1))
    keep(cache, 1)
    assert has(cache, 1)
    assert not left.exists()


def test_a_wrong_account_is_made_anew(tmp_path):
    cache = DiskCache(tmp_path, 5_000)
    keep(cache, 1)
    for wrong in ("", "many", "4999"):
        (tmp_path / ".used").write_text(wrong)
        keep(cache, 2)
        assert has(cache, 2)
        (tmp_path / f"{digest(content(2))}.chunk").unlink()


def test_a_folder_that_cannot_be_made_is_told_once_and_reading_goes_on(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    cache = DiskCache(tmp_path / "file" / "cache", 5_000)
    for number in range(3):
        with cache.fetching(digest(content(number)), 10):
            keep(cache, number)
        assert not has(cache, number)
    said = capsys.readouterr().err
    assert said.count("note: the cache loader.store.cache_dir=") == 1
    assert "reading on without it" in said


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import numpy as np
import xxhash
from mmhydra.data.storage.disk_cache import DiskCache
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
cache = DiskCache(Path(sys.argv[1]), 10**6)
for size in (40_000, 60_000, 70_000):
    data = np.ones(size, np.uint8)
    cache.write(xxhash.xxh3_128_hexdigest(data.data), data)
    print(cache.read(xxhash.xxh3_128_hexdigest(data.data)) is not None)
"""


def test_a_full_disk_is_told_once_and_reading_goes_on(tmp_path):
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False", "False"]
    assert done.stderr.count("can't be written (File too large): reading on without it") == 1
    assert not list(tmp_path.glob("*.tmp"))
    assert used_bytes(tmp_path) == 40_000


def test_a_disk_that_was_full_is_tried_again_after_a_while(tmp_path, monkeypatch, capsys):
    cache = DiskCache(tmp_path / "cache", 10_000)
    keep(cache, 1)
    now, tried = time.monotonic(), []
    monkeypatch.setattr(time, "monotonic", lambda: now)

    def full(*_):
        tried.append(now)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        for _ in range(3):
            keep(cache, 2)
        now += 301
        keep(cache, 2)
        assert len(tried) == 2
    keep(cache, 2)
    assert not has(cache, 2)
    now += 301
    keep(cache, 2)
    assert has(cache, 1)
    assert has(cache, 2)
    assert capsys.readouterr().err.count("(No space left on device): reading on without it") == 1
    assert not list((tmp_path / "cache").glob(".*.tmp"))


def test_other_contents_do_not_wait(tmp_path):
    cache = DiskCache(tmp_path, 5_000)
    with cache.fetching("ab" * 16, 10):
        started = time.monotonic()
        for number in range(200):
            with cache.fetching(f"ab{number:030x}", 10):
                pass
        assert time.monotonic() - started < 5


def test_nobody_waits_after_the_end(tmp_path):
    cache, ended, waited = DiskCache(tmp_path, 5_000), threading.Event(), []

    def wait():
        started = time.monotonic()
        with cache.fetching("ab" * 16, 60, ended):
            waited.append(time.monotonic() - started)

    with cache.fetching("ab" * 16, 10):
        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.1)
        assert waited == []
        ended.set()
        thread.join(10)
    assert len(waited) == 1
    assert waited[0] < 10


def test_one_at_a_time_fetches_a_content(tmp_path):
    cache, order = DiskCache(tmp_path, 5_000), []
    begun, may_end = threading.Event(), threading.Event()

    def first():
        with cache.fetching("ab" * 16, 10):
            begun.set()
            may_end.wait(10)
            order.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    begun.wait(10)
    with cache.fetching("cd" * 16, 10):
        order.append("of another content")
    with cache.fetching("ab" * 16, 0.05):
        order.append("who waited long enough")
    may_end.set()
    with cache.fetching("ab" * 16, 10):
        order.append("second")
    thread.join()
    assert order == ["of another content", "who waited long enough", "first", "second"]


SHARED = """
import sys
from pathlib import Path
import numpy as np
import xxhash
from mmhydra.data.storage.disk_cache import DiskCache
cache = DiskCache(Path(sys.argv[1]), 20_000)
rng = np.random.default_rng(int(sys.argv[2]))
for _ in range(300):
    data = np.random.default_rng(int(rng.integers(60))).integers(0, 256, 1000, np.uint8)
    digest = xxhash.xxh3_128_hexdigest(data.data)
    with cache.fetching(digest, 10):
        found = cache.read(digest)
        assert found is None or np.array_equal(found, data)
        if found is None:
            cache.write(digest, data)
"""


def test_processes_that_share_it_stay_below_the_limit_together(tmp_path):
    jobs = [subprocess.Popen([sys.executable, "-c", SHARED, str(tmp_path), str(seed)]) for seed in range(3)]
    most = 0
    while any(job.poll() is None for job in jobs):
        most = max(most, used_bytes(tmp_path))
    assert [job.returncode for job in jobs] == [0, 0, 0]
    assert 10_000 < most <= 20_000
    assert not list(tmp_path.glob(".*.tmp"))


@pytest.mark.parametrize("size", [0, 1])
def test_small_contents_are_contents_too(tmp_path, size):
    cache = DiskCache(tmp_path, 100)
    keep(cache, 1, size)
    assert has(cache, 1, size)
