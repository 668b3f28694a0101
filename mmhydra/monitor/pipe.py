"""A reader that has seen enough (`| head`), and Ctrl-C, end a command quietly."""

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
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python writes what is left at its end
            return 0
        except KeyboardInterrupt:
            return 128 + signal.SIGINT

    return wrapped
