"""Arrays on a real SLURM: each task is a run, with all that a job of its own would have."""

import json
import os
import random
import secrets
import shutil

import pytest
from fake_slurm import FakeSlurm
from slurm_array import Array
from slurm_place import ENDED, NO_PREFLIGHT, ONE

from mmhydra.compose import compose
from mmhydra.launch.array import ArrayJob, adopt_array, max_array_size, submit_array
from mmhydra.launch.batch import BatchJob
from mmhydra.launch.slurm import SubmissionError
from mmhydra.run.directory import Attempt
from mmhydra.run.snapshot import Snapshot
from mmhydra.slurm import Scheduler

pytestmark = pytest.mark.slow

SHORT = ("training.steps=4", "checkpoint.interval=2")
LONG = ("training.steps=5000", "checkpoint.interval=5000")
HELD = "+cluster.slurm.additional_parameters.hold=true"


def point(*overrides: str) -> str:
    """A point as the submitter takes it."""
    return " ".join([*ONE, NO_PREFLIGHT, *overrides])


@pytest.fixture
def array(place):
    """Makes an array of points."""

    made: list[Array] = []

    def make(*points: str, **settings) -> Array:
        folder = place.outputs / "sweeps" / "study" / "arrays" / f"{len(made) + 1:04d}"
        made.append(Array(place, folder, f"study-{folder.name}-{secrets.token_hex(4)}", points, **settings))
        return made[-1]

    return make


def test_three_runs_in_one_array(array) -> None:
    done = array(*(" ".join([*ONE, *SHORT, f"seed.model={seed}"]) for seed in (1, 2, 3))).submit()
    done.wait_for_end()
    tasks = done.tasks
    assert [done.state(index) for index in range(3)] == ["COMPLETED"] * 3, done.logs()
    for index, task in enumerate(tasks):
        assert sorted(task.losses()) == [1, 2, 3, 4]
        job = task.document("job.json")
        assert (job["job_id"], job["array"]) == (f"{done.job_id}_{index}", done.job_id)
        assert [report.stem for report in task.path.glob("attempts/0001/preflight/*.json")] == job["nodes"]
        hashes = task.document("provenance.json")
        assert done.comment(index) == (
            f"mmhydra run={hashes['run_id']} config={hashes['config_sha256']} code={hashes['git']['snapshot_sha256']}"
        )
    assert len({tuple(task.losses().values()) for task in tasks}) == 3, "three seeds"
    by_job = done.place.run(f"{done.job_id}_1", module="mmhydra.status")
    assert by_job.code == 0, by_job.text
    assert tasks[1].path.name in by_job.out


def test_each_task_ends_in_its_own_way(array) -> None:
    """One is done, one can't run, one is cancelled, and one leaves its node: nobody else is touched by that."""
    points = [point(HELD, *steps, f"seed.model={seed}") for seed, steps in enumerate([SHORT, SHORT, LONG, LONG])]
    held = array(*points).submit()
    done, edited, cancelled, drained = held.tasks
    with open(edited.path / "attempts/0001/config.yaml", "a") as file:
        file.write("# a person was here\n")
    held.place.cluster.run("scontrol", "release", held.job_id)

    drained.wait_for_step(2)  # the last task is SLURM's own record of the array: its number is the array's
    (drained.path / "drain").touch()
    cancelled.wait_for_step(1)
    said = cancelled.verb("cancel")
    assert said.returncode == 0, said.stdout + said.stderr
    cancelled.wait_for_end("CANCELLED")
    done.wait_for_end("COMPLETED")
    edited.wait_for_end("FAILED")
    assert held.place.cluster.job(edited.job_id)["ExitCode"] == "2:0"
    assert "was changed after it was frozen" in edited.verb("status").stdout

    held.place.cluster.wait_for(lambda: len(drained.attempts) == 2, 60, f"another attempt\n{held.logs()}")
    outcome = drained.document("outcome.json", 0)
    assert (outcome["exit_code"], outcome["requeue"]) == (75, True)
    drained.wait_for_step(outcome["step"] + 1)
    job = drained.document("job.json")
    assert (job["job_id"], job["restart"], job["step"]) == (drained.job_id, 1, outcome["step"])
    assert held.comment(3) == f"mmhydra {held.comment(3).partition(' ')[2]}"
    assert f"run={drained.path.name}" in held.comment(3)
    assert [task.attempts for task in (done, edited, cancelled)] == [["0001"]] * 3, "they were not requeued with it"
    assert held.state(3) == "RUNNING"


def test_logs_of_a_task_whose_ranks_did_not_start(array) -> None:
    gone = array(point(HELD, *SHORT)).submit()
    (task,) = gone.tasks
    shutil.rmtree(task.path / "attempts/0001/logs")
    (task.path / "lease.json").unlink(missing_ok=True)
    (task.path / "lease.json").mkdir()  # no start can take it
    gone.place.cluster.run("scontrol", "release", gone.job_id)
    task.wait_for_end("FAILED")
    printed = task.verb("logs")
    assert printed.returncode == 0, printed.stderr
    assert "error: " in printed.stdout
    assert f"the batch script of job {gone.job_id}_0" in printed.stderr
    assert "can't be taken" in printed.stdout
    shown = task.verb("status").stdout
    assert "can't be taken" in shown, shown


def test_a_task_waits_for_the_task_of_the_same_number(array) -> None:
    parents = array(point(*SHORT, "seed.model=1"), point(*LONG, "seed.model=2")).submit()
    children = array(
        *(point(*SHORT, f"seed.model={seed}") for seed in (11, 12)),
        depends_on=f"aftercorr:{parents.job_id}",
    ).submit()
    first, second = parents.tasks
    second.wait_for_step(1)
    assert second.verb("cancel").returncode == 0
    second.wait_for_end("CANCELLED")
    children.wait_for_end()
    assert [children.state(index) for index in range(2)] == ["COMPLETED", "CANCELLED"]
    began = children.tasks[0].path / "attempts/0001/job.json"
    assert began.stat().st_mtime_ns > (first.path / "attempts/0001/outcome.json").stat().st_mtime_ns
    assert not (children.tasks[1].path / "attempts/0001/job.json").exists()


@pytest.fixture
def deadly(tmp_path) -> dict[str, str]:
    """Variables of a submitter that is killed as soon as SLURM has the array."""
    folder = tmp_path / "deadly"
    folder.mkdir()
    wrapper = folder / "sbatch"
    wrapper.write_text(f'#!/bin/bash\n{shutil.which("sbatch")} "$@" && kill -KILL $PPID\n')
    wrapper.chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def test_an_array_whose_submitter_was_killed_is_found_again(array, deadly) -> None:
    killed = array(*(point(HELD, *SHORT, f"seed.model={seed}") for seed in (1, 2)), variables=deadly)
    assert killed.start().returncode == -9
    assert (killed.record["state"], killed.record["job_id"]) == ("submitting", None)
    assert not any((task.path / "attempts/0001/submitted.json").exists() for task in killed.tasks)

    adopted = adopt_array(killed.folder)
    assert adopted is not None
    assert adopt_array(killed.folder) == adopted, "a second time there is nothing to do"
    assert (killed.record["state"], killed.job_id) == ("submitted", adopted)
    assert [task.job_id for task in killed.tasks] == [f"{adopted}_0", f"{adopted}_1"]
    listed = killed.place.cluster.run("squeue", "-h", "-n", killed.name, "-o", "%F").stdout.split()
    assert listed == [adopted]


def test_of_an_array_that_was_submitted_twice_one_runs(array, deadly, tmp_path, monkeypatch) -> None:
    twice = array(*(point(HELD, *SHORT, f"seed.model={seed}") for seed in (1, 2)), variables=deadly)
    assert twice.start().returncode == -9
    (first,) = twice.place.cluster.run("squeue", "-h", "-n", twice.name, "-o", "%F").stdout.split()
    forgetful = FakeSlurm(tmp_path / "forgetful")
    forgetful.answer("squeue")
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(forgetful.folder))
        assert adopt_array(twice.folder) is None
    second = submit_array(twice.again)
    assert second != first
    twice.place.cluster.run("scontrol", "release", first, second)
    twice.wait_for_end()
    for index, task in enumerate(twice.tasks):
        assert twice.state(index) == "COMPLETED"
        assert task.document("job.json")["job_id"] == f"{second}_{index}"
        assert task.attempts == ["0001"]
        lost = f"{first}_{index}"
        twice.place.cluster.wait_for(lambda lost=lost: twice.place.cluster.state(lost) in ENDED, 60, lost)
        assert twice.place.cluster.state(lost) == "COMPLETED"
        assert f"those of array {second}" in (twice.folder / f"{lost}_0_log.err").read_text()


@pytest.fixture
def many(place, tmp_path):
    """An array of so many attempts that nobody will run."""
    config = compose(
        [
            *ONE,
            HELD,
            f"paths.outputs={tmp_path}",
            f"cluster.slurm.slurm_conf={place.cluster.conf}",
            *("cluster.slurm.array_parallelism=7",),
        ]
    ).config

    def make(indices: range, name: str) -> ArrayJob:
        jobs = []
        for index in indices:
            attempt = Attempt(tmp_path / f"{name}-runs" / f"{index}" / "attempts" / "0001")  # of one array each
            attempt.path.mkdir(parents=True)
            snapshot = Snapshot(tmp_path, "5" * 64)
            jobs.append(BatchJob(config, f"{index:012x}", "c" * 64, attempt.run.path, attempt.path, snapshot))
        return ArrayJob(tmp_path / name, name, tuple(jobs), tuple(indices))

    return make


def test_as_many_tasks_as_slurm_takes(many, slurm) -> None:
    scheduler = Scheduler(slurm.conf)
    size = max_array_size(many(range(1), "one").jobs[0].config)
    assert size == 1001

    over = many(range(1, size + 1), "over")
    with pytest.raises(SubmissionError, match="Invalid job array specification"):
        submit_array(over)
    refused = over.jobs[-1].attempt_path
    assert json.loads((refused / "outcome.json").read_text())["reason"] == "it was not submitted"

    array = many(range(size), "full")
    job_id = submit_array(array)
    assert "ArrayTaskThrottle=7" in slurm.run("scontrol", "show", "job", job_id).stdout
    names = [f"{job_id}_{index}" for index in array.indices]
    assert {json.loads(Attempt(job.attempt_path).submitted.read_text())["job_id"] for job in array.jobs} == set(names)
    assert scheduler.find_by_name("full") == [job_id]

    gone = random.Random(0).sample(names[1:-1], 500)  # in no order that a list of tasks could be short for
    scheduler.cancel_many(gone)
    states = scheduler.states([*names, "1"])
    assert {name for name, job in states.items() if job is not None and job.state == "PENDING"} == {*names} - {*gone}
    # SLURM forgets a waiting task that is taken out of its array.
    assert all(states[name] is None for name in (*gone, "1"))
    assert scheduler.state(gone[0]) is None
    for name in (names[0], names[-1]):
        alone, among = scheduler.state(name), states[name]
        assert alone is not None
        assert (alone.job_id, alone.state, alone.reason) == (among.job_id, among.state, among.reason)
    scheduler.cancel_many([*gone, "1"])  # what is over, or was never there, is no error
