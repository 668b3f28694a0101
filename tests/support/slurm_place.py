"""Runs of the command line on the development SLURM, for tests: where they are, how they get on, how they end."""

import json
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from git_repository import git
from slurm_cluster import SlurmCluster
from workplace import Workplace, records

CHECKOUT = Path(__file__).resolve().parents[2]
SMALL = (
    "cluster=slurm_dev",
    "data.builder.corpus_mb=1",
    "data.builder.media=16",
    "data.builder.heldout_fraction=0.2",
    "training.validation_interval=null",
    "track.log_interval=1",
    "optim.warmup_steps=5",
)
ONE = (*SMALL, "parallel=single", "cluster.nodes=1", "cluster.gpus_per_node=1")
TWO = (*SMALL, "parallel=fsdp", "cluster.nodes=2", "cluster.gpus_per_node=1")  # one rank on each of two nodes
NO_PREFLIGHT = "cluster.slurm.preflight_timeout_s=0"
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")


@dataclass(frozen=True)
class Submitted:
    """A run that was submitted."""

    cluster: SlurmCluster
    place: Workplace
    path: Path

    @property
    def job_id(self) -> str:
        """The id of its job."""
        return str(json.loads((self.path / "attempts/0001/submitted.json").read_text())["job_id"])

    @property
    def step(self) -> int:
        """The newest logged step."""
        return max(records(self.path), default=0)

    @property
    def attempts(self) -> list[str]:
        """Names of its attempts."""
        return sorted(path.name for path in (self.path / "attempts").iterdir())

    def wait_for_step(self, step: int, timeout_s: float = 120) -> None:
        """Returns when a step is logged."""
        self.cluster.wait_for(lambda: self.step >= step or self._is_over(), timeout_s, f"step {step}\n{self.logs()}")
        assert self.step >= step, self.logs()

    def wait_for_end(self, state: str = "COMPLETED", timeout_s: float = 240) -> None:
        """Returns when the job is over; it has to be in this state."""
        self.cluster.wait_for(self._is_over, timeout_s, f"the end of job {self.job_id}")
        found = self.cluster.state(self.job_id)
        assert found == state, f"{found}\n{self.logs()}"

    def _is_over(self) -> bool:
        submitted = (self.path / "attempts/0001/submitted.json").exists()  # else by a person, by hand
        return submitted and self.cluster.state(self.job_id) in ENDED

    def document(self, name: str, attempt: int = -1) -> dict[str, Any]:
        """A JSON file of an attempt."""
        return dict(json.loads((self.path / "attempts" / self.attempts[attempt] / name).read_text()))

    def losses(self) -> dict[int, tuple[float, float]]:
        """Loss and gradient norm by step."""
        return {step: (float(one["loss"]), float(one["grad_norm"])) for step, one in records(self.path).items()}

    def verb(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs `python -m mmhydra.<name> RUN ...`."""
        return subprocess.run(
            self.place.command(str(self.path), *arguments, module=f"mmhydra.{name}"),
            env={**self.place.environment, "COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=300,
        )

    def logs(self) -> str:
        """The ends of all logs, for a failing test."""
        logs = sorted([*self.path.glob("slurm/*log.*"), *self.path.glob("attempts/*/logs/*.log")])
        return "\n".join(f"--- {log.relative_to(self.path)}\n{log.read_text(errors='replace')[-1200:]}" for log in logs)


@dataclass(frozen=True)
class SlurmPlace(Workplace):
    """A workplace whose commands reach a cluster; `checkout` is where they are started, if not in this one."""

    cluster: SlurmCluster = field(kw_only=True)
    checkout: Path | None = None

    @property
    def environment(self) -> dict[str, str]:
        """That of the tests, with this cluster, and the code of this checkout."""
        code = {} if self.checkout is None else {"PYTHONPATH": str(self.checkout), "PYTHONSAFEPATH": "1"}
        return {**super().environment, **self.cluster.environment, **self._folders(), **code}

    def _folders(self) -> dict[str, str]:
        return {"MMHYDRA_DATA": str(self.data), "MMHYDRA_OUTPUTS": str(self.outputs)}

    def submit(self, *overrides: str) -> Submitted:
        """Submits one run."""
        finished = self.run(*overrides)
        assert finished.code == 0, finished.text
        assert "submitted as job" in finished.out
        return Submitted(self.cluster, self, self.newest_run())


def own_checkout(folder: Path) -> Path:
    """A checkout with the code of now, in which a test may edit."""
    for name in ("mmhydra", "conf", "launchers"):
        if (CHECKOUT / name).is_dir():
            shutil.copytree(CHECKOUT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(CHECKOUT / "pyproject.toml", folder)
    (folder / ".gitignore").write_text("__pycache__/\n")
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "-c", "user.name=A", "-c", "user.email=a@example.org", "commit", "--quiet", "-m", "all of it")
    return folder


def edit(file: Path, old: str, new: str) -> None:
    """Replaces a text that has to be there once."""
    text = file.read_text()
    assert text.count(old) == 1, f"{file} has {text.count(old)} times {old!r}"
    file.write_text(text.replace(old, new))
