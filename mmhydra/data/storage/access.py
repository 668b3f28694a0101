"""How a process reads shards: which store, through which caches, and what is tried before a chunk counts as bad.

Bytes are used only after their hash was compared with the one that was taken when the shard was written, and what was
compared is what is used: nothing is read a second time.
"""

import sys
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, Self, TypeVar

import numpy as np
import xxhash

from mmhydra.config.loader import Loader
from mmhydra.data.storage.chunk_cache import ChunkCache, Sized
from mmhydra.data.storage.disk_cache import DiskCache
from mmhydra.data.storage.faults import BadChunk, ChunkFault, StoreDown
from mmhydra.data.storage.remote import FsspecStore
from mmhydra.data.storage.store import Bytes, LocalStore, NoAnswer, Store, StoreError, is_passing
from mmhydra.data.storage.timed import TimedCalls

SHARDS = "shards"  # the folder of a dataset version that holds them
LOCAL_MEMORY_BYTES = 256_000_000
MAX_HANGING = 16  # reads that have not come back, before the store counts as dead

T = TypeVar("T")
V = TypeVar("V", bound=Sized)


class Policy(NamedTuple):
    """What is done about a read that fails: `fail` raises at once, `retry` and `skip` after `retries` more tries.

    Under `skip` the caller leaves out what stays bad, and a chunk that was found bad is not tried again. The first wait
    is `wait_s`, each further one twice as long. A read that takes longer than `timeout_s` has failed; None: it takes
    what it takes.
    """

    on_bad_chunk: Literal["fail", "retry", "skip"] = "fail"
    retries: int = 0
    wait_s: float = 1.0
    timeout_s: float | None = None

    @property
    def tries(self) -> int:
        """Times that a read is tried."""
        return 1 if self.on_bad_chunk == "fail" else 1 + self.retries


FAIL = Policy()


@dataclass(frozen=True)
class Blob:
    """Bytes with a known hash. `parts` are path below the store, first byte, and length (None: to the end) of each."""

    bad: BadChunk  # what it is if it can't be read; the reason is filled in then
    name: str  # for messages: "shard x.tar, chunk 2 (bytes ...)"
    parts: tuple[tuple[str, int, int | None], ...]
    digest: str  # xxh3_128 of all parts end to end, 32 hexadecimal digits
    wrong_hash: str  # the reason, where the hash is another one
    file_bytes: int  # of the first part's file, as the manifest says; 0: it says nothing
    cure: str  # of damage


@dataclass
class Counters:
    """What was read so far, by the whole process; of one that is running, roughly."""

    store_reads: int = 0
    store_bytes: int = 0
    disk_cache_bytes: int = 0
    failed_reads: int = 0


class _Failed(Exception):
    def __init__(self, reason: str, passing: bool) -> None:
        super().__init__(reason)
        self.reason, self.passing = reason, passing


class Access:
    """A process's way to the bytes of shards; all its threads share one. Without `remote` shards are local files.

    `of_run`: a run's `loader` section decides, so messages name its settings.
    """

    def __init__(
        self,
        policy: Policy = FAIL,
        *,
        remote: Store | None = None,
        memory_bytes: int = LOCAL_MEMORY_BYTES,
        disk: DiskCache | None = None,
        of_run: bool = False,
    ) -> None:
        self.policy, self.counters = policy, Counters()
        self.memory = ChunkCache(memory_bytes)
        self._remote, self._disk, self._local = remote, disk, LocalStore()
        self._bad: dict[Hashable, ChunkFault] = {}
        self._calls = TimedCalls()
        self._of_run = of_run
        self._closed = threading.Event()
        self._lock = threading.Lock()

    @classmethod
    def of(cls, loader: Loader, *, caches_on_disk: bool = True) -> Self:
        """As a run's `loader` section says. Raises UserError for a store that can't be opened.

        Without `caches_on_disk` nothing is read from or written to the cache of the node, which jobs may be using.
        """
        policy = Policy(loader.on_bad_chunk, loader.retries, loader.retry_wait_s, loader.timeout_s)
        remote, disk = None, None
        if (store := loader.store) is not None:
            remote = FsspecStore(store.url, store.options, loader.timeout_s)
            disk = DiskCache(Path(store.cache_dir), round(store.cache_gb * 1e9)) if caches_on_disk else None
        return cls(policy, remote=remote, memory_bytes=round(loader.memory_mb * 1e6), disk=disk, of_run=True)

    @classmethod
    def local(cls) -> Self:
        """Local files, each read once and an error at the first failure: for tools and tests."""
        return cls()

    def store_of(self, folder: Path) -> tuple[Store, str]:
        """Where the shards of the dataset version in `folder` are, and what its paths begin with there.

        Local files win: a dataset version whose shards are below `folder` is read from there.
        """
        if self._remote is None or (folder / SHARDS).is_dir():
            return self._local, f"{folder}/"
        return self._remote, f"{folder.name}/"

    def is_local(self, store: Store) -> bool:
        """Whether a store that `store_of` gave is the local file system."""
        return store is self._local

    def get(self, store: Store, blob: Blob, key: Hashable, expected_bytes: int, decode: Callable[[Bytes], V]) -> V:
        """The decoded content of a blob, from memory under `key` or read. `decode` may raise ChunkFault.

        Raises ChunkFault when it can't be had after all tries.
        """
        if (known := self._bad.get(key)) is not None:
            raise known.again()

        def load() -> V:
            content = self._content(store, blob)
            value = decode(content)
            if isinstance(value, np.ndarray):
                value.flags.writeable = False  # many read it
            return value

        try:
            return self.memory.get(key, expected_bytes, load)
        except ChunkFault as fault:
            if self.policy.on_bad_chunk == "skip":
                self._bad[key] = fault.again()
            raise

    def close(self) -> None:
        """Ends connections and all waits, for retries and for other processes: reads that are under way fail."""
        self._closed.set()
        self._calls.close()
        if self._remote is not None:
            self._remote.close()

    def _content(self, store: Store, blob: Blob) -> Bytes:
        if self._disk is None or self.is_local(store):
            return self._read(store, blob)
        with self._disk.fetching(blob.digest, self.policy.timeout_s or 60.0, self._closed):
            if (found := self._disk.read(blob.digest)) is not None:
                with self._lock:
                    self.counters.disk_cache_bytes += found.nbytes
                return found
            content = self._read(store, blob)
            self._disk.write(blob.digest, content)
            return content

    def _read(self, store: Store, blob: Blob) -> Bytes:
        """The bytes of a blob, compared with their hash. Raises ChunkFault after all tries."""
        started, tries, wait = time.monotonic(), self.policy.tries, self.policy.wait_s
        for number in range(1, tries + 1):
            try:
                return self._try(store, blob)
            except _Failed as failed:
                with self._lock:
                    self.counters.failed_reads += 1
                if number == tries or self._closed.is_set():
                    raise self._fault(blob, failed, number, time.monotonic() - started) from failed
                self._tell(store, blob, failed, number, wait)
            self._closed.wait(wait)
            wait *= 2
        raise AssertionError("the last try returns or raises")

    def _try(self, store: Store, blob: Blob) -> Bytes:
        try:
            parts = [self._timed(partial(store.read, *part)) for part in blob.parts]
        except OSError as error:
            if not isinstance(error, NoAnswer) and (short := self._other_size(store, blob)):
                raise _Failed(short, passing=False) from error
            said = error.strerror or str(error)
            where = store.where(blob.parts[0][0]) if error.filename is None else error.filename
            text = said if isinstance(error, StoreError) else f"{where} cannot be opened ({said})"
            raise _Failed(text, is_passing(error)) from error
        content = parts[0] if len(parts) == 1 else np.concatenate(parts)
        with self._lock:
            self.counters.store_reads += len(parts)
            self.counters.store_bytes += content.nbytes
        if xxhash.xxh3_128_hexdigest(content.data) != blob.digest:
            raise _Failed(self._other_size(store, blob) or blob.wrong_hash, passing=False)
        return content

    def _other_size(self, store: Store, blob: Blob) -> str:
        """Says that a file has another size than the manifest says; empty if it has not, or that can't be known."""
        if not blob.file_bytes:
            return ""
        try:
            size = self._timed(partial(store.size, blob.parts[0][0]))
        except OSError:
            return ""
        return "" if size == blob.file_bytes else f"it has {size} bytes, the manifest says {blob.file_bytes}"

    def _timed(self, call: Callable[[], T]) -> T:
        """A call that is given up after `timeout_s`."""
        if self._closed.is_set():
            raise StoreError("reading was ended")
        if (seconds := self.policy.timeout_s) is None:
            return call()
        if self._calls.num_hanging >= MAX_HANGING:
            raise StoreDown(
                f"the store does not answer: {self._calls.num_hanging} reads have not come back in {seconds:g} s each, "
                "so no more are begun. Look at the disk or network behind it, then start the run again: it goes on "
                "from its last checkpoint"
            )
        return self._calls.call(call, seconds)

    def _fault(self, blob: Blob, failed: _Failed, num_tries: int, seconds: float) -> ChunkFault:
        tried = f", {num_tries} tries in {seconds:.1f} s" if num_tries > 1 else ""
        cures = [blob.cure]
        if failed.passing:
            cures = ["Look at the disk or network behind it, and type the same command again"]
            if self._of_run:
                cures.append("loader.timeout_s, loader.retries and loader.retry_wait_s say how long it is waited for")
        elif self._of_run and self.policy.on_bad_chunk != "skip":
            cures.append("loader.on_bad_chunk=skip leaves such samples out")
        return ChunkFault(
            blob.bad._replace(reason=failed.reason),
            f"{blob.name} of dataset {blob.bad.dataset} can't be used: {failed.reason}{tried}. {'. '.join(cures)}",
            passing=failed.passing,
        )

    def _tell(self, store: Store, blob: Blob, failed: _Failed, number: int, wait: float) -> None:
        print(
            f"note: {store.where(blob.parts[0][0])}: {failed.reason}; try {number} of {self.policy.tries}, the next in "
            f"{wait:g} s",
            file=sys.stderr,
        )
