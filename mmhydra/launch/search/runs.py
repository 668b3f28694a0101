"""The runs of trials: SLURM's, or processes of this machine; both live on when the driver does not."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmhydra.launch.points import Point
from mmhydra.launch.search.trials import Candidate
from mmhydra.launch.sweeps.freezing import SweepOrigin, freeze_points
from mmhydra.launch.sweeps.recording import Key
from mmhydra.run.directory import Attempt
from mmhydra.run.outcome import tail
from mmhydra.slurm import SchedulerError
from mmhydra.sweep.record import SweepDirectory
from mmhydra.sweep.state.asking import scheduler
from mmhydra.sweep.state.states import PointState

Submit = Callable[[SweepDirectory, Sequence[Point], SweepOrigin], None]


@dataclass(frozen=True)
class _Process:
    attempt: Attempt
    process: "subprocess.Popen[bytes]"
    log: Path


@dataclass
class MachineRuns:
    """Starts each run where its config says. `concurrency` local ones share the processors of this machine."""

    sweep: SweepDirectory
    origin: SweepOrigin
    concurrency: int
    submit: Submit
    _processes: dict[Key, _Process] = field(default_factory=dict)

    def start(self, candidates: Sequence[Candidate]) -> None:
        """Freezes and starts or submits. Raises UserError for a run that somebody has, or that SLURM does not take."""
        for own in self._processes.values():
            own.process.poll()  # nobody asks about one whose trial was told: it would stay a zombie
        slurm = [each for each in candidates if each.point.config.cluster.kind == "slurm"]
        local = [each for each in candidates if each.point.config.cluster.kind != "slurm"]
        if local:
            attempts = freeze_points(self.sweep, [each.point for each in local], self.origin)
            for candidate, attempt in zip(local, attempts, strict=True):
                self._processes[candidate.run] = self._process(candidate, attempt)
        if slurm:
            self.submit(self.sweep, [each.point for each in slurm], self.origin)

    def starting(self, candidate: Candidate) -> bool:
        """Whether a process of ours has not yet ended. How its run is, its files say."""
        own = self._processes.get(candidate.run)
        return own is not None and own.process.poll() is None

    def refusal(self, candidate: Candidate) -> str | None:
        """The last words of a process that ended without beginning its run."""
        own = self._processes.get(candidate.run)
        if own is None or (own.process.poll() or 0) <= 0 or own.attempt.outcome.exists() or own.attempt.status.exists():
            return None
        said = (tail(own.log, 1) or "").removeprefix("error: ")
        return said or f"its process ended with code {own.process.returncode}, see {own.log}"

    def end(self, state: PointState) -> None:
        """Asks a run to save and end; a job that is not running has nothing to save, and is cancelled."""
        run = self.sweep.run(state.point)
        cancelled = False
        if state.state in ("pending", "waiting") and state.job_id is not None:
            try:
                scheduler(state.slurm_conf).cancel(state.job_id)
                cancelled = True
            except SchedulerError as error:  # then the file ends it as soon as it runs
                print(f"warning: {error}", file=sys.stderr)
        if not (state.state == "pending" and cancelled):
            run.trigger("stop").touch()

    def _process(self, candidate: Candidate, attempt: Attempt) -> _Process:
        log = self.sweep.search / f"trial-{candidate.recorded.number:04d}.log"
        with open(log, "ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "mmhydra.launch.search.local", str(attempt.path)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment(candidate),
                start_new_session=True,  # Ctrl-C at the driver, and its death, are none of a trial's business
            )
        return _Process(attempt, process, log)

    def _environment(self, candidate: Candidate) -> dict[str, str]:
        processes = candidate.point.config.world_size * self.concurrency
        variables: Mapping[str, str] = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // processes))}
        return {**variables, **os.environ, **self.origin.snapshot.variables(os.environ)}
