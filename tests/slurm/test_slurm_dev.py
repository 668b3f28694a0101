"""scripts/slurm-dev: the cluster that it starts does what the clusters of our users do, and goes away again."""

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_cluster import SLURM_DEV, SlurmCluster, slurm_dev

# Each task writes what happens to it; on USR2 it ends with 75, and then the batch script asks for a requeue: SLURM
# requeues by itself only a job that is still there when the grace time is over.
WATCHED_JOB = """\
#!/bin/bash
trap "" TERM
echo "batch restart=${SLURM_RESTART_COUNT:-0} on $SLURM_JOB_NODELIST"
srun bash -c '
    trap "echo task $SLURM_PROCID got USR2; exit 75" USR2
    echo task $SLURM_PROCID runs restart=${SLURM_RESTART_COUNT:-0}
    while true; do sleep 0.1; done'
[ $? = 75 ] && scontrol requeue $SLURM_JOB_ID
"""


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder for a cluster of the test's own; what runs there is ended."""
    with tempfile.TemporaryDirectory(prefix="slurm-") as name:
        folder = Path(name) / "d"
        yield folder
        assert slurm_dev("stop", "--dir", folder).returncode == 0


def processes_that_name(text: str) -> list[str]:
    """Command lines of live processes in which the text stands, and those that hold a file below it open."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                files = [os.readlink(descriptor) for descriptor in (entry / "fd").iterdir()]
            except OSError:
                continue
            if text in command or any(file.startswith(text) for file in files):
                found.append(f"{entry.name} {command}")
    return found


def test_all_nodes_are_idle_and_status_shows_them(slurm: SlurmCluster) -> None:
    slurm.wait_for(lambda: slurm.node_states() == dict.fromkeys(slurm.nodes, "idle"), 10)
    shown = slurm.do("status")
    assert "no jobs" in shown
    for node in slurm.nodes:
        assert any(line.split()[:2] == [node, "idle"] and line.split()[2].isdigit() for line in shown.splitlines())


def test_srun_on_two_nodes_sees_its_gpus(slurm: SlurmCluster) -> None:
    command = "echo $SLURMD_NODENAME $SLURM_LOCALID $CUDA_VISIBLE_DEVICES"
    done = slurm.run("srun", "--nodes=2", "--ntasks-per-node=2", "--gres=gpu:4", "bash", "-c", command)
    rows = sorted(line.split() for line in done.stdout.splitlines())
    assert [row[1:] for row in rows] == [[local, "0,1,2,3"] for local in ("0", "1", "0", "1")]
    assert len({row[0] for row in rows}) == 2


def test_a_second_start_says_that_it_runs(slurm: SlurmCluster) -> None:
    before = slurm.do("status").splitlines()[0]
    assert f"export SLURM_CONF={slurm.conf}" in slurm.do("start")
    assert "already running" in slurm.do("start")
    assert slurm.do("status").splitlines()[0] == before


def test_an_unknown_node_is_refused_with_the_names(slurm: SlurmCluster) -> None:
    done = slurm_dev("kill-node", "127.0.0.99", "--dir", slurm.folder)
    assert done.returncode == 2
    assert done.stderr == f"error: 127.0.0.99 is no node; nodes: {', '.join(slurm.nodes)}\n"


@pytest.mark.slow
def test_preemption_reaches_the_tasks_and_requeues(slurm: SlurmCluster, tmp_path: Path) -> None:
    output = tmp_path / "out.txt"
    options = ("--nodes=4", "--ntasks-per-node=1", "--cpus-per-task=4", "--requeue", "--signal=USR2@60")
    low = slurm.submit(WATCHED_JOB, tmp_path, *options)
    slurm.wait_for(lambda: output.exists() and output.read_text().count("runs restart=0") == 4, 20)
    high = slurm.run(
        "sbatch",
        "--parsable",
        "--partition=high",
        "--nodes=4",
        "--cpus-per-task=4",
        "--output=/dev/null",
        "--wrap=true",
    ).stdout.strip()
    slurm.wait_for_state(high, "COMPLETED")
    assert {f"task {rank} got USR2" for rank in range(4)} <= set(output.read_text().splitlines())
    slurm.wait_for(lambda: output.read_text().count("runs restart=1") == 4, 30, "running again")
    assert slurm.job(low)["Restarts"] == "1"


def test_missing_packages_are_named_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / "srun").symlink_to("/bin/true")
    folder = tmp_path / "d"
    done = slurm_dev("start", "--dir", folder, environment={"PATH": str(tmp_path)})
    assert done.returncode == 2
    assert "slurmctld, slurmd, sbatch" in done.stderr
    assert "srun" not in done.stderr
    assert done.stderr.rstrip().endswith("apt-get install --no-install-recommends slurmctld slurmd slurm-client")
    assert done.stderr.count("\n") == 1
    assert not folder.exists()


def test_a_folder_that_is_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    done = slurm_dev("start", "--dir", tmp_path / ("x" * 100))
    assert done.returncode == 2
    assert "too long" in done.stderr
    assert "--dir /tmp/slurm-dev" in done.stderr


def test_stop_leaves_no_process_even_of_jobs_that_resist(short_folder: Path, tmp_path: Path) -> None:
    cluster = SlurmCluster.start(short_folder, num_nodes=1)
    # A task that ignores signals, and a process that left its session and its parent.
    resists = f"trap '' TERM USR2 INT; (setsid tail -F {tmp_path}/job.sh &); tail -f {tmp_path}/job.sh"
    cluster.submit(f'#!/bin/bash\nsrun bash -c "{resists}"\n', tmp_path)
    cluster.wait_for(lambda: any(" tail -F /" in line for line in processes_that_name(str(tmp_path))), 20)
    cluster.wait_for(lambda: any(" tail -f /" in line for line in processes_that_name(str(tmp_path))), 20)
    controller = int(cluster.do("status").split()[1])
    os.kill(controller, signal.SIGKILL)
    assert "no cluster runs" in slurm_dev("status", "--dir", short_folder).stderr
    assert "stopped" in cluster.do("stop")
    assert processes_that_name(str(short_folder)) == []
    assert processes_that_name(str(tmp_path)) == []
    assert "nothing runs" in cluster.do("stop")


def test_start_cleans_up_after_a_cluster_that_crashed(short_folder: Path) -> None:
    cluster = SlurmCluster.start(short_folder, num_nodes=1)
    old = cluster.do("status").split()[1]
    os.kill(int(old), signal.SIGKILL)
    assert "an earlier cluster left" in cluster.do("start", "--nodes", "1")
    assert cluster.do("status").split()[1] != old
    assert cluster.node_states() == {"127.0.0.2": "idle"}


def test_a_failed_start_shows_the_log_and_leaves_nothing(short_folder: Path, tmp_path: Path) -> None:
    # A slurmd that dies at once stands before the real one on PATH.
    fake = tmp_path / "slurmd"
    fake.write_text("#!/bin/sh\necho this slurmd is broken >&2\nexit 1\n")
    fake.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = slurm_dev("start", "--dir", short_folder, environment=environment)
    assert done.returncode == 1
    assert "this slurmd is broken" in done.stderr
    assert "Traceback" not in done.stderr
    assert processes_that_name(str(short_folder)) == []


def test_two_clusters_side_by_side(slurm: SlurmCluster, short_folder: Path) -> None:
    other = SlurmCluster.start(short_folder, num_nodes=1)
    try:
        assert other.run("srun", "hostname").returncode == 0
    finally:
        other.stop()
    assert slurm.run("srun", "true").returncode == 0


def test_the_program_runs_by_its_name() -> None:
    assert subprocess.run([SLURM_DEV, "--help"], capture_output=True, check=False).returncode == 0
