"""Files that are read from their start only: a process goes on where its last batch of the file ended.

Without this each of n batches would unpack all that stands before it: n/2 times the file.
"""

import atexit
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

import pyarrow.parquet as pq

_ROWS_AT_ONCE = 64  # rows of Parquet that are Python objects at the same time
_BUFFER_BYTES = 1 << 20  # of each column, in place of all of a row group


class Stream(Protocol):
    """What has been read up to `place`, a number of lines or rows."""

    place: int

    def close(self) -> None:
        """Lets go of the file."""


S = TypeVar("S", bound=Stream)
_kept: dict[tuple[object, ...], Any] = {}  # one stream at most


@contextmanager
def going_on(path: str, part: int, place: int, begin: Callable[[], S]) -> Iterator[S]:
    """The stream that this process left in the same part of the file, if it is not beyond `place`; else a new one.

    Raises OSError.
    """
    status = Path(path).stat()
    key = (path, part, status.st_size, status.st_mtime_ns)
    stream: S | None = _kept.pop(key, None)
    _let_go()
    if stream is None or stream.place > place:
        if stream is not None:
            stream.close()
        stream = begin()
    try:
        yield stream
    except BaseException:
        stream.close()
        raise
    _kept[key] = stream


def _let_go() -> None:
    while _kept:
        _kept.popitem()[1].close()


atexit.register(_let_go)


class LineStream:
    """The lines of an open file."""

    def __init__(self, file: IO[bytes], lines: Iterator[Any]) -> None:
        self.place = 0
        self._file, self._lines = file, lines

    def __iter__(self) -> Iterator[Any]:
        for line in self._lines:
            self.place += 1
            yield line

    def close(self) -> None:
        """Lets go of the file."""
        self._file.close()


class RowStream:
    """The rows of one row group of Parquet."""

    def __init__(self, path: str, row_group: int) -> None:
        self.place = 0
        self._file = pq.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER_BYTES)
        self._tables = self._file.iter_batches(_ROWS_AT_ONCE, row_groups=[row_group])
        self._rest: Any = None

    def rows(self, start: int, stop: int) -> Iterator[dict[str, Any]]:
        """Rows [start, stop), as far as there are any."""
        while self.place < stop:
            table = self._rest if self._rest else next(self._tables, None)
            if table is None:
                return
            low, high = min(max(start - self.place, 0), len(table)), min(stop - self.place, len(table))
            self.place += high
            self._rest = table.slice(high)
            if low < high:
                yield from table.slice(low, high - low).to_pylist(maps_as_pydicts="strict")

    def close(self) -> None:
        """Lets go of the file."""
        self._tables = iter(())
        self._file.close()
