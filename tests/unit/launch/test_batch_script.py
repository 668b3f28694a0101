"""Batch scripts: as text, as what bash reads, and run in bash. Only the processes that they start are faked.

What is said of a job holds for a task of an array as well: `run` makes each test one of both.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from golden_files import Golden, golden_in

from mmhydra.compose import compose
from mmhydra.config.facts import Facts
from mmhydra.config.rules import check
from mmhydra.config.schema import RunConfig
from mmhydra.launch.array import ArrayJob, executor_of_array, write_array
from mmhydra.launch.batch import BatchJob
from mmhydra.launch.slurm import script, script_of
from mmhydra.run.snapshot import Snapshot

FOLDER = Path(__file__).parent / "golden"
BASH = shutil.which("bash") or "/bin/bash"
RUN_ID = "0123456789ab"
ODD = 'it\'s "quoted" $HOME `date` \\ \u00fc\u4e16 *'
EVERYTHING = {
    "name": "all",
    "cluster.slurm.account": "lab",
    "cluster.slurm.qos": "high",
    "cluster.slurm.constraint": "h100&ib",
    "cluster.slurm.exclude": ["gpu[01-03]", "gpu9"],
    "cluster.slurm.nodelist": ["gpu07"],
    "cluster.slurm.dependency": "afterok:1234:1235,singleton",
    "cluster.slurm.comment": ODD,
    "cluster.slurm.exclusive": True,
    "cluster.slurm.cpus_per_task": 4,
    "cluster.slurm.mem_gb": 100.5,
    "cluster.slurm.requeue": False,
    "cluster.slurm.additional_parameters": {"reservation": "maint", "nice": 100, "hold": True, "mail_type": "END"},
    "cluster.slurm.srun_args": ["--cpu-bind=none", "--mpi=none"],
    "cluster.slurm.setup": ["module() { :; }", "module load 'cuda 12'"],
    "cluster.slurm.environment": {"NCCL_DEBUG": "INFO", "ODD": ODD},
    "cluster.slurm.container_image": "nvcr.io#nvidia/pytorch:25.01-py3",
    "cluster.slurm.container_mounts": ["/scratch:/scratch:ro", "/a b:/c"],
    "cluster.slurm.python": "/opt/a b/python",
    "cluster.slurm.exclude_file": "/outputs/bad nodes",
    "cluster.slurm.slurm_conf": "/etc/slurm/slurm.conf",
}


@pytest.fixture(scope="module")
def configs() -> dict[str, RunConfig]:
    """The mission, and the smallest run, with fixed folders."""
    lines = {
        "h100_256": ["cluster=h100_256", "model=10b", "parallel=tp4pp8", "data=mix_v0.2"],
        "slurm_dev": ["cluster=slurm_dev", "parallel=tp2pp2"],
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("SLURM_CONF", raising=False)
        patch.setenv("MMHYDRA_DATA", "/data")
        patch.setenv("MMHYDRA_OUTPUTS", "/outputs")
        return {name: compose(line).config for name, line in lines.items()}


def job_of(config: RunConfig, outputs: Path, run: Path | None = None) -> BatchJob:
    run = run or outputs / config.name / RUN_ID
    snapshot = Snapshot(outputs / ".store" / "code" / "0" / "x", "5" * 64)
    return BatchJob(config, RUN_ID, "c" * 64, run, run / "attempts" / "0001", snapshot)


def array_script(config: RunConfig) -> str:
    """Of an array of three runs."""
    folder = Path("/outputs/sweeps/it's a study/arrays/0001")
    jobs = [replace(job_of(config, Path("/outputs")), run_id=run_id * 12) for run_id in "abc"]
    array = ArrayJob(folder, "study-0001-t0k3n", tuple(jobs), (0, 2, 3), "aftercorr:77")
    return script_of(executor_of_array(array))


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Compares text with a golden file beside this test, or writes it."""
    return golden_in(FOLDER, request.config)


@pytest.mark.parametrize("name", ["h100_256", "slurm_dev", "everything", "array"])
def test_the_script(configs, change, golden, name):
    config = change(configs["slurm_dev"], EVERYTHING) if name in ("everything", "array") else configs[name]
    assert [str(problem) for problem in check(config, Facts()) if not problem.is_note] == []
    text = array_script(config) if name == "array" else script(job_of(config, Path("/outputs")))
    read = subprocess.run([BASH, "-n"], input=text, capture_output=True, text=True, check=False)
    assert (read.returncode, read.stderr) == (0, "")
    golden(f"{name}.sh", text.replace(shlex.quote(sys.executable), "PYTHON"))


def test_no_golden_script_is_left_over():
    assert sorted(file.name for file in FOLDER.iterdir()) == [
        *("array.sh", "everything.sh", "h100_256.sh", "slurm_dev.sh")
    ]


def options(text: str) -> dict[str, str]:
    """What sbatch is told, by option; a flag has no text."""
    lines = [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH ")]
    words = [shlex.split(line) for line in lines]
    assert all(len(word) == 1 for word in words), "one option a line, quoted as one word"
    return {name: value for (word,) in words for name, _, value in [word.removeprefix("--").partition("=")]}


def test_what_sbatch_is_told(configs, change):
    told = options(script(job_of(change(configs["slurm_dev"], EVERYTHING), Path("/outputs"))))
    expected = {
        "account": "lab",
        "qos": "high",
        "constraint": "h100&ib",
        "exclude": "gpu[01-03],gpu9",
        "nodelist": "gpu07",
        "dependency": "afterok:1234:1235,singleton",
        "exclusive": "",
        "cpus-per-task": "4",
        "mem": "102912M",
        "no-requeue": "",
        "reservation": "maint",
        "nice": "100",
        "hold": "",
        "mail-type": "END",
        "nodes": "2",
        "ntasks-per-node": "4",
        "gpus-per-node": "4",
        "time": "30",
        "signal": "USR2@60",
        "job-name": f"all-{RUN_ID}",
        "chdir": f"/outputs/all/{RUN_ID}",
    }
    assert {name: told.get(name) for name in expected} == expected
    assert told["comment"].startswith(f"{ODD} mmhydra run={RUN_ID} config=")
    assert "requeue" not in told
    assert "wckey" not in told


def test_what_sbatch_is_told_of_an_array(configs, change):
    config = change(configs["slurm_dev"], {**EVERYTHING, "cluster.slurm.array_parallelism": 5})
    told, alone = options(array_script(config)), options(script(job_of(config, Path("/outputs"))))
    folder = "/outputs/sweeps/it's a study/arrays/0001"
    expected = {
        "array": "0,2-3%5",
        "job-name": "study-0001-t0k3n",
        "dependency": "afterok:1234:1235,singleton,aftercorr:77",
        "kill-on-invalid-dep": "yes",
        "chdir": folder,
        "comment": f"{ODD} mmhydra array=study-0001-t0k3n",
        "output": f"{folder}/%A_%a_0_log.out",
        "error": f"{folder}/%A_%a_0_log.err",
    }
    assert {name: told[name] for name in expected} == expected
    assert {name: told[name] for name in told.keys() - expected} == {
        name: alone[name] for name in alone.keys() - expected
    }
    text = array_script(change(config, {"cluster.slurm.dependency": None, "cluster.slurm.array_parallelism": None}))
    assert (options(text)["array"], options(text)["dependency"]) == ("0,2-3", "aftercorr:77")


def test_options_stand_before_the_first_command(configs, change):
    lines = script(job_of(change(configs["slurm_dev"], EVERYTHING), Path("/outputs"))).splitlines()
    commands = [number for number, line in enumerate(lines) if line and not line.startswith("#")]
    assert max(number for number, line in enumerate(lines) if line.startswith("#SBATCH")) < commands[0]


# ---------------------------------------------------------------- run

FAKE = """#!/bin/bash
here={here}
printf '%q ' {tool} "$@" | sed 's/ $/\\n/' >> "$here/calls"
answer() {{ cat "$here/$1.out" 2>/dev/null; [ ! -e "$here/$1.code" ] || exit "$(<"$here/$1.code")"; exit 0; }}
{body}
"""
BODIES = {
    # What srun starts is the interpreter and what follows it.
    "srun": """
while [ $# -gt 0 ] && [ "$1" != {python} ]; do shift; done
[[ "$*" == *submitit* && -e "$here/srun.killed" ]] && kill -KILL $$
"$@"
""",
    "scontrol": """
case "$*" in
*"show job"*) answer show ;;
requeue*) answer requeue ;;
update*) answer update ;;
esac
exit 9
""",
    "python": """
case "$*" in
"-m mmhydra.job begin "*) answer begin ;;
"-m mmhydra.job preflight "*) answer preflight ;;
"-m mmhydra.job end "*) answer end ;;
*submitit.core._submit*) env -0 > "$here/environment"; answer ranks ;;
esac
exit 9
""",
}


@dataclass(frozen=True)
class Ended:
    """How a script ended, what it called, and what the ranks saw."""

    code: int
    calls: list[list[str]]
    environment: dict[str, str]
    err: str
    job_id: str

    @property
    def steps(self) -> list[str]:
        """The calls in short: `begin`, `preflight`, `ranks`, `end CODE STATE`, `requeue JOB`, `update`.

        Without the comment that a task of an array gives itself.
        """
        found = []
        for tool, *arguments in self.calls:
            if tool == "scontrol" and arguments[0] in ("requeue", "update"):
                if not arguments[-1].startswith("Comment="):
                    found.append(" ".join(arguments).replace(self.job_id, "JOB"))
            elif tool == "python":
                found.append(
                    "ranks" if "submitit.core._submit" in arguments else " ".join([arguments[2], *arguments[4:]])
                )
        return found


Runner = Callable[..., Ended]


@pytest.fixture(params=["job", "task"])
def kind(request) -> str:
    """A job of its own, or a task of an array."""
    return request.param


@pytest.fixture
def run(tmp_path, configs, change, kind) -> Runner:
    """Runs the script of slurm_dev in bash. Answers: NAME_out, NAME_code; `leaves` are changes of the config."""
    here = tmp_path / "bin it's"
    here.mkdir()
    python = here / "python"

    def start(leaves: dict[str, object] | None = None, outputs: Path | None = None, **answers: object) -> Ended:
        for tool, body in BODIES.items():
            values = {"{python}": shlex.quote(str(python))}
            for name, value in values.items():
                body = body.replace(name, value)
            file = here / tool
            file.write_text(FAKE.format(here=shlex.quote(str(here)), tool=tool, body=body))
            file.chmod(0o755)
        show = "JobId=42 JobName=x JobState=RUNNING Reason=None EndTime=2026-01-02T03:04:05 Deadline=N/A\n"
        for name, value in {"show_out": show, "begin_out": f"{here}/attempt 2\n", **answers}.items():
            base, _, kind = name.rpartition("_")
            (here / f"{base}.{kind}").write_text(str(value))
        config = change(configs["slurm_dev"], {"cluster.slurm.python": str(python), **(leaves or {})})
        file = tmp_path / "job.sh"
        variables = {"SLURM_JOB_ID": "42"}
        if kind == "job":
            file.write_text(script(job_of(config, outputs or Path("/outputs"))))
        else:
            # The number of a task is that of the whole array in the last one, so nothing may be asked of it.
            variables |= {"SLURM_ARRAY_JOB_ID": "42", "SLURM_ARRAY_TASK_ID": "3"}
            paths = [(outputs or tmp_path) / "debug" / name for name in ("one", "two", RUN_ID, "four")]
            for path in paths:
                (path / "attempts" / "0001").mkdir(parents=True)
            jobs = tuple(job_of(config, outputs or Path("/outputs"), path) for path in paths)
            array = ArrayJob((outputs or tmp_path) / "the array's", "study", jobs, (0, 2, 3, 33))
            write_array(array)
            file.write_text((array.folder / "array.sh").read_text())
        variables = {
            **os.environ,
            **variables,
            **{"PATH": f"{here}:{os.environ['PATH']}", "SLURMD_NODENAME": "node1", "TZ": "UTC"},
            **{"RANK": "7", "PYTHONSTARTUP": "/x"},
        }
        done = subprocess.run([BASH, file], env=variables, capture_output=True, text=True, timeout=60, check=False)
        calls = [shlex.split(line) for line in (here / "calls").read_text().splitlines()]
        seen = here / "environment"
        pairs = seen.read_text().split("\0")[:-1] if seen.exists() else []
        environment = dict(pair.split("=", 1) for pair in pairs)
        return Ended(done.returncode, calls, environment, done.stderr, "42" if kind == "job" else "42_3")

    return start


def test_done(run, tmp_path):
    ended = run(end_out="0 stop\n")
    assert ended.code == 0
    assert ended.steps == ["begin", "preflight 120", "ranks", "end 0 RUNNING"]
    attempts = [call[4] for call in ended.calls if call[0] == "python" and call[3] in ("preflight", "end")]
    assert attempts == [f"{tmp_path}/bin it's/attempt 2"] * 2, "of what begin answered"
    assert ended.environment["MMHYDRA_ATTEMPT"] == f"{tmp_path}/bin it's/attempt 2"
    assert ended.environment["MMHYDRA_END_TIME"] == "1767323045"
    assert ended.environment["PYTHONPATH"] == "/outputs/.store/code/0/x"
    assert {"RANK", "PYTHONSTARTUP"}.isdisjoint(ended.environment)


def test_requeue_without_nodes_to_keep_away_from(run):
    ended = run(ranks_code=75, end_out="75 requeue\n")
    assert ended.steps[-2:] == ["end 75 RUNNING", "requeue JOB"]
    assert ended.code == 75


def test_requeue_away_from_nodes(run):
    ended = run(ranks_code=1, end_out="1 requeue gpu01,gpu02\n")
    assert ended.steps[-3:] == ["end 1 RUNNING", "requeue JOB", "update JobId=JOB ExcNodeList=gpu01,gpu02"]
    assert ended.code == 1


def test_a_requeue_that_slurm_refuses(run):
    ended = run(ranks_code=75, end_out="75 requeue gpu01\n", requeue_code=1)
    assert ended.steps[-1] == "requeue JOB"
    assert ended.code == 75


def test_a_failed_smoke_test_starts_no_rank(run):
    ended = run(preflight_code=1, end_out="1 requeue gpu01\n")
    assert ended.steps == [
        *("begin", "preflight 120", "end preflight RUNNING", "requeue JOB", "update JobId=JOB ExcNodeList=gpu01")
    ]
    assert ended.code == 1


def test_a_smoke_test_that_is_preempted(run):
    ended = run(preflight_code=75, end_out="75 requeue\n")
    assert ended.steps == ["begin", "preflight 120", "end 75 RUNNING", "requeue JOB"]
    assert ended.code == 75


def test_no_smoke_test(run):
    assert run({"cluster.slurm.preflight_timeout_s": 0}, end_out="0 stop\n").steps == [
        "begin",
        "ranks",
        "end 0 RUNNING",
    ]


@pytest.mark.parametrize("code", [1, 2])
def test_a_start_that_is_refused_ends_with_its_code(run, code):
    ended = run(begin_code=code, begin_out="")
    assert (ended.code, ended.steps) == (code, ["begin"])


@pytest.mark.parametrize("code", [1, 3, 75])
def test_an_end_that_fails_keeps_the_code_of_the_ranks(run, code):
    ended = run(ranks_code=code, end_code=2)
    assert (ended.code, ended.steps[-1]) == (code, f"end {code} RUNNING")


def test_an_end_that_says_nothing_is_no_success(run):
    assert run(end_out="").code == 1


def test_a_smoke_test_whose_end_fails(run):
    assert run(preflight_code=1, end_code=2).code == 1


def test_an_srun_that_is_killed(run):
    ended = run(srun_killed="", end_out="1 stop\n")
    assert ended.steps[-1] == f"end {128 + signal.SIGKILL} RUNNING"
    assert ended.code == 1


def test_a_controller_that_does_not_answer(run):
    ended = run(show_code=1, show_out="", end_out="0 stop\n")
    assert (ended.code, ended.steps[-1].split()) == (0, ["end", "0"])
    assert "MMHYDRA_END_TIME" not in ended.environment


def test_values_arrive_as_they_are(run, tmp_path):
    outputs = tmp_path / ODD.replace("/", "")
    environment = {"ODD": ODD, "EMPTY": "", "TAB": "a\tb", "BLANKS": "  a  b ", "BANG": "!x ${x} $(x)"}
    ended = run({"cluster.slurm.environment": environment, "paths.outputs": str(outputs)}, outputs, end_out="0 stop\n")
    assert ended.code == 0, ended.err
    assert {name: ended.environment[name] for name in environment} == environment
    assert ended.environment["PYTHONPATH"] == str(outputs / ".store/code/0/x")
    first = next(call for call in ended.calls if call[:4] == ["python", "-m", "mmhydra.job", "begin"])
    assert Path(first[4]).parent.parent.parent.parent == outputs
    ranks = next(call for call in ended.calls if call[0] == "srun" and "submitit.core._submit" in call)
    assert ranks[ranks.index("--output") + 1].startswith(str(outputs))


def test_in_a_container_every_process_of_the_job_is_started_by_srun(run):
    leaves = {
        "cluster.slurm.container_image": "a b.sqsh",
        "cluster.slurm.container_mounts": ["/s c:/d"],
        "cluster.slurm.srun_args": ["--mpi=none"],
        "cluster.slurm.requeue": True,
    }
    ended = run(leaves, ranks_code=75, end_out="75 requeue\n")
    assert ended.steps == ["begin", "preflight 120", "ranks", "end 75 RUNNING", "requeue JOB"]
    sruns = [call for call in ended.calls if call[0] == "srun"]
    assert len(sruns) == 4, "begin, preflight, ranks, end"
    for call in sruns:
        assert {"--container-image=a b.sqsh", "--mpi=none"} <= set(call)
        assert "--container-mounts=/outputs:/outputs,/data:/data,/s c:/d" in call
    assert [call[1] for call in (sruns[0], sruns[3])] == ["--nodelist=node1"] * 2


def test_setup_runs_before_anything_else(run, tmp_path):
    lines = ["export FROM_SETUP='a b'", f"echo $FROM_SETUP > {tmp_path}/setup"]
    ended = run({"cluster.slurm.setup": lines}, end_out="0 stop\n")
    assert (tmp_path / "setup").read_text() == "a b\n"
    assert ended.environment["FROM_SETUP"] == "a b"


def test_signals_of_a_preemption_do_not_end_the_script(run):
    """SLURM ends a script by SIGTERM; the ranks save meanwhile, and then the verdict is asked for."""
    ended = run({"cluster.slurm.setup": ["(sleep 0.3; kill -TERM $$) &"]}, ranks_code=75, end_out="75 requeue\n")
    assert (ended.code, ended.steps[-1]) == (75, "requeue JOB")


def test_the_comment_names_config_and_code(configs):
    job = job_of(configs["slurm_dev"], Path("/outputs"))
    assert job.comment == f"mmhydra run={RUN_ID} config={'c' * 64} code={'5' * 64}"
    assert options(script(replace(job, run_id="ffffffffffff")))["comment"].startswith("mmhydra run=ffffffffffff ")


@pytest.mark.parametrize("kind", ["task"], indirect=True)
def test_a_task_is_the_run_of_its_line(run, tmp_path):
    ended = run({"cluster.slurm.comment": ODD, "cluster.slurm.setup": [f"pwd > {tmp_path}/place"]}, end_out="0 stop\n")
    assert ended.code == 0, ended.err
    first = next(call for call in ended.calls if call[:4] == ["python", "-m", "mmhydra.job", "begin"])
    assert first[4] == f"{tmp_path}/debug/{RUN_ID}/attempts/0001"
    assert (tmp_path / "place").read_text() == f"{tmp_path}/debug/{RUN_ID}\n", "as in a job of its own"
    asked = [call for call in ended.calls if call[0] == "scontrol"]
    comment = f"{ODD} mmhydra run={RUN_ID} config={'c' * 64} code={'5' * 64}"
    assert ["scontrol", "update", "JobId=42_3", f"Comment={comment}"] in asked
    assert not [call for call in asked if "42" in call], "that would be the whole array"
    assert (tmp_path / "the array's" / "42_3_submitted.pkl").is_file()
    assert ended.environment["MMHYDRA_FOLDER"] == f"{tmp_path}/the array's"


@pytest.mark.parametrize("kind", ["task"], indirect=True)
def test_a_comment_that_slurm_refuses_ends_nothing(run):
    ended = run(update_code=1, end_out="0 stop\n")
    assert (ended.code, ended.steps[-1]) == (0, "end 0 RUNNING")
    assert "note: SLURM does not take the comment of this task: mmhydra run=" in ended.err


@pytest.mark.parametrize("kind", ["task"], indirect=True)
def test_a_task_whose_run_another_array_has_ends_well_without_it(run):
    ended = run(begin_out="")
    assert (ended.code, ended.steps) == (0, ["begin"])
