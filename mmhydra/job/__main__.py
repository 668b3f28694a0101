"""`python -m mmhydra.job begin|preflight|end ATTEMPT_DIR`: what the batch script calls around srun. Not for people."""

import os
import signal
import sys

from mmhydra.errors import ExitCode, UserError, refuse
from mmhydra.job.allocation import Allocation
from mmhydra.job.begin import AnotherArray, begin
from mmhydra.job.end import attempt_at, end, end_of_preflight
from mmhydra.job.preflight import run

_USAGE = (
    "usage: python -m mmhydra.job begin ATTEMPT, preflight ATTEMPT SECONDS, or end ATTEMPT preflight|EXIT_CODE [STATE]"
)


def main() -> int:
    """Prints what the batch script reads: an attempt's folder, or a verdict."""
    match sys.argv[1:]:
        case ["begin", path]:
            print(begin(attempt_at(path), Allocation.of()).path)
            return ExitCode.DONE
        case ["preflight", path, limit_s] if limit_s.isdigit():
            # The node is not to blame for a job that SLURM ends meanwhile.
            for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM):
                signal.signal(number, lambda number, frame: os._exit(ExitCode.PREEMPTED))
            node = os.environ.get("SLURMD_NODENAME", os.uname().nodename)
            part = (int(os.environ.get("SLURM_NODEID", "0")), int(os.environ.get("SLURM_JOB_NUM_NODES", "1")))
            os._exit(run(attempt_at(path), node, int(limit_s), part))  # what hangs would hang Python's end too
        case ["end", path, "preflight", *state] if len(state) < 2:
            print(end_of_preflight(attempt_at(path), Allocation.of(), *state))
            return ExitCode.DONE
        case ["end", path, code, *state] if code.isdigit() and len(state) < 2:
            print(end(attempt_at(path), int(code), Allocation.of(), *state))
            return ExitCode.DONE
    print(_USAGE, file=sys.stderr)
    return ExitCode.CONFIG


if __name__ == "__main__":
    try:
        sys.exit(main())
    except AnotherArray as error:
        print(f"mmhydra: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except UserError as error:
        sys.exit(refuse(error))
    except OSError as error:  # a full disk, a file server that is away
        print(f"error: {error}", file=sys.stderr)
        sys.exit(ExitCode.FAILED)
