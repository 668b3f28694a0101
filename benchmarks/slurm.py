"""What leaving a run to SLURM costs, and what faults cost it: a submission, and the drills, on the development SLURM.

    python benchmarks/slurm.py

Starts a cluster of its own in a temporary folder. A submission is compared with `sbatch --wrap true` on the same
cluster; a fault with the same run's own start, from sbatch to its first step.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import ROOT, progress, project_environment, write_block

FAULTS = ("--preempt", "--kill-rank", "--kill-node")
RUN = (
    "cluster=slurm_dev",
    "parallel=tp2pp2",
    "training.steps=100000",
    "checkpoint.interval=5",
    "training.validation_interval=null",
    "track.log_interval=1",
)


def main() -> None:
    """Measures, and writes the block `slurm` of docs/performance.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--submissions", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        folder = Path(scratch)
        slurm_dev("start", folder)
        try:
            body = measured(folder, options.submissions)
        finally:
            slurm_dev("stop", folder)
    write_block("slurm", "slurm.py", sys.argv[1:], body)


def slurm_dev(command: str, folder: Path) -> None:
    """Runs scripts/slurm-dev."""
    subprocess.run([sys.executable, str(ROOT / "scripts/slurm-dev"), command, "--dir", str(folder / "s")], check=True)


def measured(folder: Path, num_submissions: int) -> str:
    """The text of the block."""
    environment = {
        **project_environment(),
        "SLURM_CONF": str(folder / "s" / "slurm.conf"),
        "MMHYDRA_DATA": str(folder / "data"),
        "MMHYDRA_OUTPUTS": str(folder / "outputs"),
    }

    def timed(*command: str) -> tuple[float, str]:
        start = time.perf_counter()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{command} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return time.perf_counter() - start, done.stdout

    python = (sys.executable, "-m")
    timed(*python, "mmhydra.train", "training.steps=0")  # builds the data
    held = "+cluster.slurm.additional_parameters.hold=true"
    ours, bare = [], []
    progress(f"{num_submissions} submissions")
    for number in range(num_submissions):
        ours.append(timed(*python, "mmhydra.train", *RUN, held, f"tag=held{number}")[0])
        bare.append(timed("sbatch", "--hold", "--wrap", "true")[0])
    began = time.perf_counter()
    timed(*python, "mmhydra.train", *RUN)
    run = newest_run(folder / "outputs")
    while not (run / "attempts/0001/metrics.jsonl").exists():
        time.sleep(0.1)
    start_s = time.perf_counter() - began
    rows = []
    for fault in FAULTS:
        progress(f"drill {fault}")
        _, out = timed(*python, "mmhydra.drill", str(run), fault, "--json")
        found = json.loads(out)
        rows.append(
            f"| `{fault}` | {found['detection_s']:.1f} | {found['lost_steps']} | {found['recovery_s']:.1f} | "
            f"{found['recovery_s'] / start_s:.2f} |"
        )
    head = (
        f"A submission takes {statistics.median(ours):.2f} s until the shell is free, `sbatch` alone "
        f"{statistics.median(bare):.2f} s (medians of {num_submissions}). A run of 8 ranks over two nodes (tp2pp2, a "
        f"checkpoint each 5 steps, all on {os.cpu_count()} cores) needs {start_s:.1f} s from the command to its first "
        "logged step. A fault costs:"
    )
    table = [
        "| fault | detected after, s | steps lost | new step after, s | the same in starts |",
        "|---|---|---|---|---|",
    ]
    return "\n".join([head, "", *table, *rows])


def newest_run(outputs: Path) -> Path:
    """The run that was submitted last."""
    return max(outputs.glob("*/*/attempts/*/submitted.json"), key=lambda path: path.stat().st_mtime).parents[2]


if __name__ == "__main__":
    main()
