"""`python -m mmhydra.worker ATTEMPT_DIR`: one rank of a run. Reads the attempt directory, never Hydra or submitit."""

import os
import sys
from pathlib import Path

from mmhydra.run.directory import Attempt
from mmhydra.titan.job import run_attempt


def main() -> int:
    """Runs one rank and returns its exit code."""
    if len(sys.argv) != 2 or "RANK" not in os.environ:
        print("usage: torchrun ... -m mmhydra.worker ATTEMPT_DIR  (torchrun or srun say which rank)", file=sys.stderr)
        return 2
    return run_attempt(Attempt(Path(sys.argv[1]).absolute()))


if __name__ == "__main__":
    sys.exit(main())
