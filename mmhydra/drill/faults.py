"""What a drill breaks: a node, a rank, or the peace of a job. Only where everything runs on this host."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mmhydra import paths
from mmhydra.errors import UserError
from mmhydra.run.directory import Attempt
from mmhydra.slurm.job_state import JobState

_BLOCKER_S = 8  # how long the job lasts that takes the nodes away


class DrillError(UserError):
    """A fault that can't be made here."""


@dataclass(frozen=True)
class Target:
    """A run on the development SLURM, at the moment of the fault."""

    attempt: Attempt
    job: JobState
    slurm_conf: Path

    @property
    def nodes(self) -> list[str]:
        """Of the job, in the order of its ranks."""
        return self.job.nodes


@dataclass(frozen=True)
class Fault:
    """Something to break. `make` returns what it did, in words."""

    name: str
    make: Callable[[Target], str]


def kill_node(node: str | None) -> Fault:
    """The end of a node, as a power cut: slurmd, the steps, and all that they started. Default: the last node."""

    def make(target: Target) -> str:
        victim = node or target.nodes[-1]
        if victim not in target.nodes:
            raise DrillError(f"{victim} is no node of job {target.job.job_id}; its nodes: {', '.join(target.nodes)}")
        _slurm_dev(target, "kill-node", victim)
        return f"killed node {victim}"

    return Fault("kill-node", make)


def preempt() -> Fault:
    """A job of a higher partition that wants the same nodes."""

    def make(target: Target) -> str:
        wanted = [f"--nodes={len(target.nodes)}", f"--nodelist={','.join(target.nodes)}", "--exclusive"]
        script = ["--output=/dev/null", "--job-name=drill", f"--wrap=sleep {_BLOCKER_S}"]
        said = _ask(target, ["sbatch", "--parsable", "--partition=high", *wanted, *script])
        return f"job {said.strip()} of partition high takes {', '.join(target.nodes)} for {_BLOCKER_S} s"

    return Fault("preempt", make)


def kill_rank(rank: int | None) -> Fault:
    """SIGKILL for one rank, as the kernel does when memory is short. Default: the last rank."""

    def make(target: Target) -> str:
        workers = _workers(target.attempt)
        if not workers:
            raise DrillError(f"no rank of {target.attempt.path} runs on this host")
        victim = max(workers) if rank is None else rank
        if victim not in workers:
            raise DrillError(f"there is no rank {victim}; legal: 0 to {max(workers)}")
        os.kill(workers[victim], signal.SIGKILL)
        return f"killed rank {victim} (process {workers[victim]})"

    return Fault("kill-rank", make)


def require_development(slurm_conf: Path | None) -> Path:
    """The slurm.conf of a cluster that scripts/slurm-dev made. Raises DrillError for any other: it may have users."""
    if slurm_conf is None or not (slurm_conf.parent / "cluster.json").is_file():
        where = "the site's own SLURM" if slurm_conf is None else str(slurm_conf)
        raise DrillError(
            f"a drill breaks things, so it wants the development SLURM of scripts/slurm-dev, not {where}; "
            "type scripts/slurm-dev start, and submit the run with cluster=slurm_dev"
        )
    return slurm_conf


def _slurm_dev(target: Target, *arguments: str) -> None:
    root = paths.checkout()
    if root is None or not (root / "scripts" / "slurm-dev").is_file():
        raise DrillError("scripts/slurm-dev is part of the checkout; start the drill from there")
    script = [sys.executable, str(root / "scripts" / "slurm-dev")]
    _ask(target, [*script, *arguments, "--dir", str(target.slurm_conf.parent)])


def _ask(target: Target, command: list[str]) -> str:
    environment = {**os.environ, "SLURM_CONF": str(target.slurm_conf)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise DrillError(f"{Path(command[0]).name} says: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def _workers(attempt: Attempt) -> dict[int, int]:
    """Processes of this host that run ranks of an attempt, by rank."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            variables = (folder / "environ").read_bytes().split(b"\0")
        except OSError:  # ended meanwhile, or another user's
            continue
        if b"mmhydra.worker" not in words or os.fsencode(attempt.path) not in words:
            continue
        ranks = [variable[len(b"RANK=") :] for variable in variables if variable.startswith(b"RANK=")]
        if ranks:
            found[int(ranks[0])] = int(folder.name)
    return found
