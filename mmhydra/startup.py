"""Settings that make a short command short, and Ctrl-C quiet from its first import on. Imported before all others."""

import gc
import os
import sys
from types import TracebackType

# Importing and composing allocate much and free nothing: collecting was a tenth of a dry run.
gc.disable()

# pydantic would search all installed packages for plugins; we use none.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")


def _without_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _without_traceback  # imports take seconds, in which no command can catch anything yet


def finished() -> None:
    """Collects again from here on; what exists by now stays out of it."""
    gc.freeze()
    gc.enable()
