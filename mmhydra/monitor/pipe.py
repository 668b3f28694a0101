"""A reader that has seen enough (`| head`), a full disk behind standard output, and Ctrl-C end a command in order."""

import functools
import os
import signal
import sys
from collections.abc import Callable
from typing import ParamSpec

_Parameters = ParamSpec("_Parameters")


def ends_quietly(main: Callable[_Parameters, int]) -> Callable[_Parameters, int]:
    """Wraps the main function of a command that prints."""

    @functools.wraps(main)
    def wrapped(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> int:
        try:
            code = main(*args, **kwargs)
            sys.stdout.flush()
            return code
        except BrokenPipeError:
            _drop_output()
            return 0
        except OSError as error:
            if error.filename is not None:  # no matter of standard output
                raise
            _drop_output()
            print(f"error: standard output can't be written: {error.strerror or error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 128 + signal.SIGINT

    return wrapped


def _drop_output() -> None:
    """Python writes what is left of standard output at its end, and would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
