"""Files behind an fsspec URL: an object store, in practice."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from mmhydra.config.secrets import is_secret_name
from mmhydra.data.storage.store import Bytes, StoreError
from mmhydra.errors import UserError

T = TypeVar("T")

_S3 = ("s3", "s3a")


class FsspecStore:
    """The files below `url`, by paths relative to it.

    `options` go to the file system of fsspec that the URL's protocol names. What is secret is none of them: s3fs reads
    AWS_ACCESS_KEY_ID and its kin, or the credentials file, by itself. `timeout_s` bounds a connection of s3fs, whose
    own retries are off: how often a read is tried is decided in one place (access.py).

    Raises UserError for a protocol that is not known or not installed, and for options that it does not take.
    """

    def __init__(self, url: str, options: Mapping[str, Any] | None = None, timeout_s: float | None = None) -> None:
        self._url = url.rstrip("/")
        import fsspec  # not above: it takes 0.1 s, which most runs and all dry runs can do without

        given = dict(options or {})
        if secret := sorted(name for name in given if is_secret_name(name)):
            raise UserError(
                f"loader.store.options.{secret[0]} would be written into the run's frozen config. Secrets come from "
                "the environment: leave it out and set what the file system reads, for s3 AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY (or ~/.aws/credentials)"
            )
        protocol = url.partition("://")[0]
        if protocol in _S3:
            waits = {} if timeout_s is None else {"connect_timeout": timeout_s, "read_timeout": timeout_s}
            given.setdefault("config_kwargs", {"retries": {"max_attempts": 0}, **waits})
        try:
            # Not from fsspec's cache of file systems: closing this one must not close another's connections.
            self._fs, self._root = fsspec.url_to_fs(self._url, skip_instance_cache=True, **given)
        except ImportError as error:
            package = "'mmhydra[s3]'" if protocol in _S3 else f"what fsspec needs for {protocol}"
            raise UserError(
                f"loader.store.url={url} needs a package that is not installed ({error}); install {package}"
            ) from error
        except (ValueError, TypeError) as error:
            raise UserError(
                f"loader.store.url={url} with options {sorted(given) or 'none'} opens no file system of fsspec: {error}"
            ) from error
        if protocol in _S3:
            self._fs.retries = 1

    def read(self, path: str, start: int = 0, length: int | None = None) -> Bytes:
        """As Store has it."""
        if length == 0:
            return np.zeros(0, np.uint8)
        whole = start == 0 and length is None
        ends = {} if whole else {"start": start, "end": None if length is None else start + length}
        content: bytes = self._ask(path, lambda: self._fs.cat_file(self._at(path), **ends))
        return np.frombuffer(content, np.uint8)

    def size(self, path: str) -> int:
        """As Store has it."""
        return int(self._ask(path, lambda: self._fs.info(self._at(path), refresh=True)["size"]))

    def names(self, folder: str) -> list[str]:
        """As Store has it."""
        try:
            found = self._ask(folder, lambda: self._fs.ls(self._at(folder), detail=True, refresh=True))
        except FileNotFoundError:
            return []
        return sorted(entry["name"].rpartition("/")[2] for entry in found if entry["type"] == "file")

    def where(self, path: str) -> str:
        """As Store has it."""
        return f"{self._url}/{path}"

    def close(self) -> None:
        """As Store has it."""
        # s3fs has its session closed by the garbage collector, which is too late to say goodbye to the server.
        made = getattr(self._fs, "_s3creator", None)
        if made is not None:
            self._fs.close_session(self._fs.loop, made)

    def _at(self, path: str) -> str:
        return f"{self._root.rstrip('/')}/{path}"

    def _ask(self, path: str, ask: Callable[[], T]) -> T:
        try:
            return ask()
        except (FileNotFoundError, PermissionError) as error:
            raise type(error)(error.errno, error.strerror or _words(error), self.where(path)) from error
        except Exception as error:  # each file system has errors of its own; none of them says more than its text
            raise StoreError(f"{type(error).__name__}: {_words(error)}") from error


def _words(error: Exception) -> str:
    return " ".join(str(error).split()) or "no reason given"
