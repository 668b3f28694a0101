"""A real SLURM for tests: `scripts/slurm-dev` as a subprocess, and the questions that tests ask of a cluster."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

SLURM_DEV = Path(__file__).resolve().parents[2] / "scripts" / "slurm-dev"
POLL_S = 0.1
TAKES_JOBS = ("idle", "mixed", "allocated")


def slurm_dev(
    *arguments: str | Path, environment: dict[str, str] | None = None, timeout_s: float = 90
) -> subprocess.CompletedProcess[str]:
    """Runs scripts/slurm-dev and returns what it printed and its exit code."""
    command = [sys.executable, str(SLURM_DEV), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False)


class SlurmCluster:
    """A cluster of `num_nodes` nodes in `folder` (a short path: at most about 50 characters)."""

    def __init__(self, folder: Path, num_nodes: int = 4) -> None:
        self.folder = folder.resolve()
        self.conf = self.folder / "slurm.conf"
        self.nodes = [f"127.0.0.{index + 2}" for index in range(num_nodes)]

    @classmethod
    def start(cls, folder: Path, num_nodes: int = 4) -> "SlurmCluster":
        """Starts a cluster; returns when all nodes are idle."""
        cluster = cls(folder, num_nodes)
        cluster.do("start", "--nodes", str(num_nodes))
        return cluster

    def stop(self) -> None:
        """Ends the cluster and all its jobs."""
        self.do("stop")

    def kill_node(self, node: str, *, daemon_only: bool = False) -> None:
        """Ends all that runs on a node as a power cut would, or slurmd alone. SLURM sees it within 30 s."""
        self.do("kill-node", node, *(["--daemon-only"] if daemon_only else []))

    def start_node(self, node: str) -> None:
        """Brings a node back to work."""
        self.do("start-node", node)

    def do(self, command: str, *arguments: str) -> str:
        """Runs slurm-dev on this cluster; returns its standard output."""
        done = slurm_dev(command, *arguments, "--dir", self.folder)
        assert done.returncode == 0, f"slurm-dev {command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the tests with SLURM_CONF, free of what another cluster or job left in it."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH_"))}
        return kept | {"SLURM_CONF": str(self.conf)}

    def run(self, *command: str, timeout_s: float = 60, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs a command of SLURM on this cluster."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=timeout_s, check=False
        )
        assert done.returncode == 0 or not check, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def submit(self, script: str, folder: Path, *arguments: str) -> str:
        """Submits a batch script (its text) that runs in `folder`; returns the job id. Output goes to out.txt there."""
        path = folder / "job.sh"
        path.write_text(script)
        options = ("--parsable", "--open-mode=append", f"--output={folder}/out.txt", f"--chdir={folder}")
        return self.run("sbatch", *options, *arguments, str(path)).stdout.strip()

    def state(self, job_id: str) -> str:
        """State of a job as squeue says it (PENDING, RUNNING, ...), or "" for a job that it does not know."""
        return self.run("squeue", "-h", "-t", "all", "-j", job_id, "-o", "%T", check=False).stdout.strip()

    def job(self, job_id: str) -> dict[str, str]:
        """What `scontrol show job` says, by name. A value that holds blanks is cut at the first."""
        text = self.run("scontrol", "--oneliner", "show", "job", job_id).stdout
        return dict(word.split("=", 1) for word in text.split() if "=" in word)

    def node_states(self) -> dict[str, str]:
        """State of each node (`idle`, `mixed`, `down*`, ...)."""
        rows = self.run("sinfo", "-h", "-N", "-p", "main", "-o", "%N %T").stdout.split("\n")
        return dict(row.split() for row in rows if row)

    def wait_for(self, predicate: Callable[[], object], timeout_s: float, what: str = "") -> None:
        """Returns when the predicate holds. Fails with the queue and the end of the controller's log."""
        deadline = time.monotonic() + timeout_s
        while not predicate():
            if time.monotonic() > deadline:
                queue = self.run("squeue", "-t", "all", check=False).stdout
                log = (self.folder / "logs" / "slurmctld.log").read_text(errors="replace").splitlines()[-20:]
                raise AssertionError("\n".join([f"not within {timeout_s} s: {what or predicate}", queue, *log]))
            time.sleep(POLL_S)

    def wait_for_state(self, job_id: str, *states: str, timeout_s: float = 30) -> None:
        """Returns when the job is in one of these states."""
        self.wait_for(lambda: self.state(job_id) in states, timeout_s, f"job {job_id} {' or '.join(states)}")

    def clear(self) -> None:
        """Cancels all jobs and brings back all nodes. A node may be `completing` for 4 s more: jobs wait for it."""
        # squeue's default: what waits, runs or is about to end.
        if left := self.run("squeue", "-h", "-o", "%A").stdout.split():
            # First -9: a job that ignores SIGTERM would be given KillWait, which nobody needs here.
            self.run("scancel", "--full", "--signal=KILL", *left, check=False)
            self.run("scancel", *left, check=False)
        shown = [line.split() for line in self.do("status").splitlines()]
        alive = {row[0] for row in shown if len(row) > 2 and row[2].isdigit()}
        states = self.node_states()
        for node in self.nodes:
            if node not in alive or states.get(node) not in (*TAKES_JOBS, "completing"):
                self.start_node(node)
        self.wait_for(lambda: set(self.node_states().values()) <= {"idle", "completing"}, 30, "all nodes idle")
