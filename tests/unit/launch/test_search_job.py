"""The job that drives a search: what is known of it where sbatch says that it did not take it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_slurm import squeue_row

from mmhydra.compose import compose
from mmhydra.launch.batch import BatchJob
from mmhydra.launch.search.job import DriverJob, submit_driver
from mmhydra.launch.search.setting import Setting
from mmhydra.launch.slurm import SubmissionError
from mmhydra.run.snapshot import Snapshot
from mmhydra.sweep.record import sweep_directory
from mmhydra.sweep.study.space import Driver

REFUSED = "QOSMaxSubmitJobPerUserLimit"


@pytest.fixture
def make(tools, tmp_path) -> Callable[[], DriverJob]:
    """A driver that was never submitted, and that the first sbatch refuses."""
    tools.refused.write_text("1")
    sweep = sweep_directory(tmp_path / "outputs", "mine")
    Setting((), {}, "", "", {}).write(sweep)
    overrides = ["data.builder=null", "cluster=slurm_dev", "cluster.nodes=1", "cluster.gpus_per_node=1"]
    config = compose([*overrides, "parallel=single"]).config
    as_run = BatchJob(config, "", "", Path("run"), Path("run"), Snapshot(tmp_path / "code", "0" * 64))
    return lambda: DriverJob(sweep, Driver(where="job"), as_run)


def test_a_driver_that_slurm_took_all_the_same_is_known(tools, make):
    tools._script("squeue", 'case "$*" in *--name=mine-driver-*) echo 555 ;; esac')
    job = make()
    assert submit_driver(job) == "555"
    written = json.loads(job.file.read_text())
    assert (written["state"], written["job_id"]) == ("submitted", "555")
    assert tools.num_submitted == 1


def test_a_driver_that_was_refused_leaves_nothing(tools, make):
    job = make()
    with pytest.raises(SubmissionError, match=REFUSED):
        submit_driver(job)
    assert not job.file.exists()
    assert submit_driver(job) == "102"


def test_where_nobody_knows_the_same_command_submits_nothing_twice(tools, make):
    silent = "echo 'Unable to contact slurm controller' >&2; exit 1"
    for tool in ("squeue", "scontrol", "sacct"):
        tools._script(tool, silent)
    job = make()
    with pytest.raises(SubmissionError) as caught:
        submit_driver(job)
    assert REFUSED in str(caught.value)
    assert str(caught.value).endswith("\ntype the same command again: nothing is submitted twice")
    assert json.loads(job.file.read_text())["state"] == "submitting"
    row = squeue_row("555", "PENDING")
    tools._script("squeue", f'case "$*" in *--name=*) echo 555 ;; *) echo "{row}" ;; esac')
    assert submit_driver(job) == "555"
    assert tools.num_submitted == 1
