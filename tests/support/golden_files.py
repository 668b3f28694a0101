"""Golden files: text as it was when somebody last looked at it."""

from collections.abc import Callable

Golden = Callable[[str, str], None]  # (file name, text): compares, or writes with --update-golden
