"""Writes what a dry run prints."""

import os
import sys


def is_printed(text: bytes) -> bool:
    """Writes to standard output. False if that can't be: a full disk or a closed pipe is no fault of the config."""
    try:
        sys.stdout.buffer.write(text)
        sys.stdout.buffer.flush()
    except OSError as error:
        print(f"error: standard output can't be written: {error.strerror}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python writes what is left at its end
        return False
    return True
