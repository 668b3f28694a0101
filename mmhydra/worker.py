"""`python -m mmhydra.worker ATTEMPT_DIR`: one rank of a run. Reads the attempt directory, never Hydra or submitit.

Started by torchrun, by srun, or by the bridge of a batch job; whichever it is, the code that trains is the code that
the attempt was frozen with.
"""

import os
import sys
from pathlib import Path

from mmhydra.errors import UserError, refuse
from mmhydra.job.rank import die_with_parent, first_line, log_to, use_frozen_code
from mmhydra.job.rendezvous import rank_variables
from mmhydra.run.directory import Attempt
from mmhydra.run.outcome import log_of


def main() -> int:
    """Runs one rank and returns its exit code."""
    if len(sys.argv) != 2 or not {"RANK", "SLURM_PROCID"} & os.environ.keys():
        print("usage: torchrun ... -m mmhydra.worker ATTEMPT_DIR  (torchrun or srun say which rank)", file=sys.stderr)
        return 2
    if os.environ.get("MMHYDRA_DIE_WITH_PARENT"):
        die_with_parent()
    attempt = Attempt(Path(sys.argv[1]).absolute())
    try:
        use_frozen_code(attempt)
        if "RANK" not in os.environ:
            os.environ.update(rank_variables(os.environ, attempt), MMHYDRA_SLURM="1")
    except UserError as error:
        return refuse(error)
    log_to(log_of(attempt, int(os.environ["RANK"])))
    print(first_line(attempt), flush=True)
    # Here, not above: only now it is sure that this is the frozen code.
    from mmhydra.titan.job import run_attempt

    return run_attempt(attempt)


if __name__ == "__main__":
    sys.exit(main())
