"""Exit codes and the two kinds of expected failure.

SLURM and the launcher read the exit code alone, so it must say whether a requeue can help (docs/exit-codes.md).
"""

import sys
from enum import IntEnum


class ExitCode(IntEnum):
    """What a process of mmhydra ends with."""

    DONE = 0
    FAILED = 1  # any other failure: requeue while checkpoints advance
    CONFIG = 2  # the configuration, data or a checkpoint is wrong: never requeue
    STOPPED = 3  # a stop rule or gate decided: a person has to look
    PREEMPTED = 75  # sysexits EX_TEMPFAIL: a checkpoint is saved, requeue


class UserError(ValueError):
    """Something the user can mend. Printed as text without a traceback; exit code 2."""

    exit_code = ExitCode.CONFIG


class NotFinite(RuntimeError):
    """Loss, gradients or weights are no numbers any more: a person has to decide how to go on; exit code 3."""


def refuse(error: UserError) -> ExitCode:
    """Says what is wrong, without a traceback."""
    print(f"error: {error}", file=sys.stderr)
    return error.exit_code
