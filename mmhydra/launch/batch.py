"""The batch job of a run, or of each task of an array: what submitit is told, and the shell lines around its srun.

The lines before claim the attempt (a requeued job makes the next one) and test the nodes; those after decide whether
the job runs again. The ranks have no say in that, so a dead one can't prevent it.
"""

import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmhydra.config.schema import RunConfig
from mmhydra.config.slurm import Slurm
from mmhydra.errors import ExitCode
from mmhydra.job.bad_nodes import exclude_file, excluded
from mmhydra.run.snapshot import Snapshot

# Of the shell that submits: another launcher's ranks, and what would make Python import other code.
_UNSET = (
    "MMHYDRA_ATTEMPT",
    "MMHYDRA_END_TIME",
    "RANK",
    "LOCAL_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "PYTHONSTARTUP",
)
_PREFLIGHT_START_S = 60  # beside its own limit: srun, and Python from a file server
_IMPORT_IMAGE_S = 1200  # the same, with an image of many GB
BRIDGE = "bridge.pkl"  # what a task runs; submitit's own copies are named after the jobs that it submitted


@dataclass(frozen=True)
class Subject:
    """What a batch script says of its run, or of its runs: the rest is the same for all that ask for the same.

    `first` are the script's first shell lines. They set MMHYDRA_JOB (the job's id), MMHYDRA_FOLDER (`folder`),
    MMHYDRA_SUBMITTED_ATTEMPT and MMHYDRA_CODE (the snapshot that is imported). `once_begun` come as soon as it is known
    which attempt this is.
    """

    name: str  # SLURM's job name
    comment: str
    working_dir: Path
    folder: Path  # of submitit: script, pickle and output
    first: tuple[str, ...]
    once_begun: tuple[str, ...] = ()
    dependency: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)  # of sbatch


@dataclass(frozen=True)
class BatchJob:
    """One attempt as a job. `snapshot` is the code that it runs."""

    config: RunConfig
    run_id: str
    config_sha256: str
    run_path: Path
    attempt_path: Path
    snapshot: Snapshot

    @property
    def slurm(self) -> Slurm:
        """The section that asks for it."""
        assert self.config.cluster.slurm is not None
        return self.config.cluster.slurm

    @property
    def submitit_folder(self) -> Path:
        """Where submitit keeps script, pickle and output."""
        return self.run_path / "slurm"

    @property
    def python(self) -> str:
        """The interpreter on the nodes, quoted for a shell."""
        return shlex.quote(self.slurm.python or sys.executable)

    @property
    def comment(self) -> str:
        """SLURM's comment: `squeue -o %k` and sacct tell which config and which code a job runs."""
        hashes = f"run={self.run_id} config={self.config_sha256} code={self.snapshot.sha256}"
        return f"{self.slurm.comment} mmhydra {hashes}" if self.slurm.comment else f"mmhydra {hashes}"

    @property
    def environment(self) -> dict[str, str]:
        """What the script exports, in order; the config's own come last."""
        return {"OMP_NUM_THREADS": str(self.slurm.cpus_per_task or 1), **self.slurm.environment}

    @property
    def mounts(self) -> list[str]:
        """Of a container: what the job reads and writes, in its place, and those of the config."""
        config = self.config
        starts = [start for start in (config.checkpoint.init_from, config.checkpoint.extend_from) if start is not None]
        folders = [config.paths.outputs, config.paths.data, str(exclude_file(config).parent), *starts]
        kept: list[str] = []
        for folder in dict.fromkeys(folders):
            if not any(Path(folder).is_relative_to(other) for other in kept):
                kept.append(folder)
        return [*(f"{folder}:{folder}" for folder in kept), *self.slurm.container_mounts]

    @property
    def subject(self) -> Subject:
        """The script of this run alone."""
        return Subject(
            name=f"{self.config.name}-{self.run_id}",
            comment=self.comment,
            working_dir=self.run_path,
            folder=self.submitit_folder,
            first=(
                f"# Run {self.run_id} ({self.config.name}); its config, code and data are frozen, nothing else is read",
                "MMHYDRA_JOB=$SLURM_JOB_ID",
                f"MMHYDRA_FOLDER={shlex.quote(str(self.submitit_folder))}",
                f"MMHYDRA_SUBMITTED_ATTEMPT={shlex.quote(str(self.attempt_path))}",
                f"MMHYDRA_CODE={shlex.quote(str(self.snapshot.path))}",
            ),
            dependency=self.slurm.dependency,
        )

    def parameters(self, subject: Subject) -> dict[str, Any]:
        """For `SlurmExecutor.update_parameters`."""
        cluster, slurm = self.config.cluster, self.slurm
        exclude = list(dict.fromkeys([*slurm.exclude, *excluded(exclude_file(self.config))]))
        chosen = {
            "job_name": subject.name,
            "partition": cluster.partition,
            "account": slurm.account,
            "qos": slurm.qos,
            "time": cluster.time_limit_min,
            "nodes": cluster.nodes,
            "ntasks_per_node": cluster.gpus_per_node,
            "gpus_per_node": cluster.gpus_per_node,
            "cpus_per_task": slurm.cpus_per_task,
            # At least 1: SLURM takes 0 for all there is.
            "mem": None if slurm.mem_gb is None else f"{max(1, round(slurm.mem_gb * 1024))}M",
            "exclusive": slurm.exclusive or None,
            "constraint": slurm.constraint,
            "exclude": ",".join(exclude) or None,
            "nodelist": ",".join(slurm.nodelist) or None,
            "dependency": subject.dependency,
            "comment": subject.comment,
            "signal_delay_s": slurm.signal_delay_s,
            "wckey": None,
            "setup": self._before(subject),
            "teardown": self._after(),
            "srun_args": ["--kill-on-bad-exit=1", *self._srun()],
            "additional_parameters": self._additional(subject),
        }
        return chosen

    def _additional(self, subject: Subject) -> dict[str, Any]:
        named = {name.replace("_", "-"): value for name, value in self.slurm.additional_parameters.items()}
        ours = {"requeue" if self.slurm.requeue else "no-requeue": True, "chdir": str(subject.working_dir)}
        return {**ours, **subject.options, **{name: value for name, value in named.items() if value is not False}}

    def _srun(self) -> list[str]:
        """Arguments of each srun; since SLURM 22.05 it does not inherit --cpus-per-task."""
        slurm = self.slurm
        arguments = [] if slurm.cpus_per_task is None else [f"--cpus-per-task={slurm.cpus_per_task}"]
        if self.config.cluster.device == "cuda":
            arguments.append("--gpu-bind=none")  # each rank sees all GPUs of its node, and takes that of its number
        return [*arguments, *self._container(), *slurm.srun_args]

    def _container(self) -> list[str]:
        if self.slurm.container_image is None:
            return []
        mounts = ",".join(self.mounts)
        return [f"--container-image={self.slurm.container_image}", f"--container-mounts={mounts}"]

    def _before(self, subject: Subject) -> list[str]:
        exports = [f"export {name}={shlex.quote(value)}" for name, value in self.environment.items()]
        return [
            *subject.first,
            *self.slurm.setup,
            f"unset {' '.join(_UNSET)}",
            "export SLURM_EXPORT_ENV=ALL # what is exported here reaches the ranks, whatever sbatch was told",
            "export MMHYDRA_FOLDER MMHYDRA_SUBMITTED_ATTEMPT",
            *exports,
            'export PYTHONPATH="$MMHYDRA_CODE${PYTHONPATH:+:$PYTHONPATH}" PYTHONSAFEPATH=1',
            "",
            "# SLURM ends a script by SIGTERM when it preempts its job: this one first waits for the ranks to save.",
            "trap : TERM",
            *self._functions(),
            "# When does the allocation end?",
            'ends=$(job_field EndTime) && MMHYDRA_END_TIME=$(date -d "$ends" +%s) && export MMHYDRA_END_TIME',
            "",
            "# Which attempt is this? The submitted one, or the next one of a job that was requeued.",
            'MMHYDRA_ATTEMPT=$(mmhydra_job begin "$MMHYDRA_SUBMITTED_ATTEMPT") || exit',
            "export MMHYDRA_ATTEMPT",
            *subject.once_begun,
            "",
            "# For submitit, unless it has written one for this job.",
            'pickle="$MMHYDRA_FOLDER/${MMHYDRA_JOB}_submitted.pkl"',
            f'[ -e "$pickle" ] || cp "$MMHYDRA_FOLDER/{BRIDGE}" "$pickle"',
            *self._preflight(),
        ]

    def _functions(self) -> list[str]:
        return [
            "mmhydra_job() {",
            f'    {self._alone()}{self.python} -m mmhydra.job "$@"',
            "}",
            "job_field() {",
            '    scontrol --oneliner show job "$MMHYDRA_JOB" | grep --only-matching --perl-regexp " $1=\\\\K[^ ]+"',
            "}",
            "finish() { # $1: what srun returned, or `preflight`; $2: the code if nobody can tell",
            '    verdict=$(mmhydra_job end "$MMHYDRA_ATTEMPT" "$1" "$(job_field JobState)") || verdict="$2 stop"',
            '    read -r code action nodes <<<"$verdict" # nodes: to keep away from',
            '    if [ "$action" = requeue ]; then',
            "        trap '' TERM # requeueing ends this script, which has a line to go",
            '        scontrol requeue "$MMHYDRA_JOB" || exit "$code"',
            '        [ -z "$nodes" ] || scontrol update JobId="$MMHYDRA_JOB" ExcNodeList="$nodes"',
            "    fi",
            '    exit "${code:-1}"',
            "}",
        ]

    def _alone(self) -> str:
        """What starts one process on this node; in a container only srun can."""
        if self.slurm.container_image is None:
            return ""
        arguments = ["--overlap", "--nodes=1", "--ntasks=1", *self._srun()]
        return f'srun --nodelist="$SLURMD_NODENAME" {shlex.join(arguments)} '

    def _preflight(self) -> list[str]:
        limit_s = self.slurm.preflight_timeout_s
        if limit_s == 0:
            return []
        nodes = self.config.cluster.nodes
        each = [f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1"]
        # One bad node must not end the test of the others, whatever the site's default is.
        arguments = shlex.join([*each, "--kill-on-bad-exit=0", "--wait=0", *self._srun()])
        start_s = _PREFLIGHT_START_S if self.slurm.container_image is None else _IMPORT_IMAGE_S
        return [
            "",
            "# Is each node fit to compute?",
            f"timeout --kill-after=10 {limit_s + start_s} srun {arguments} \\",
            f'    {self.python} -m mmhydra.job preflight "$MMHYDRA_ATTEMPT" {limit_s}',
            "case $? in",
            "0) ;;",
            f"{int(ExitCode.PREEMPTED)}) finish {int(ExitCode.PREEMPTED)} {int(ExitCode.PREEMPTED)} ;;",
            "*) finish preflight 1 ;;",
            "esac",
        ]

    def _after(self) -> list[str]:
        return ["code=$?", 'finish "$code" "$code"']
