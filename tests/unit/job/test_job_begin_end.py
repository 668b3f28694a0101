"""What the batch script asks before and after its ranks: which attempt is this, what came of it, and once more?"""

import json
import os
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace

import pytest
from frozen import begin_job

from mmhydra.errors import ExitCode
from mmhydra.job.allocation import Allocation
from mmhydra.job.bad_nodes import exclude_file, excluded
from mmhydra.job.begin import AnotherArray, EndedForGood, NoProgress, begin
from mmhydra.job.end import end, end_of_preflight
from mmhydra.job.progress import attempts_without_progress
from mmhydra.job.report import Check, Report
from mmhydra.run.directory import AttemptError
from mmhydra.run.lease import JobLease, LeaseError, hold
from mmhydra.run.outcome import Failure
from mmhydra.run.status import Status, read_status

FROZEN = ("config.yaml", "config.yaml.sha256", "overrides.txt", "code.patch")


def starts(run, allocation, count: int):
    """The attempts of a job that is requeued again and again and saves nothing."""
    return [begin(run.directory.attempts[0], allocation) for _ in range(count)]


def owner(run):
    return json.loads(run.directory.lease.read_bytes())


# ---------------------------------------------------------------- begin


def test_the_first_start_is_the_submitted_attempt(make_job_run, allocation):
    run = make_job_run()
    attempt = begin(run.directory.attempts[0], allocation)
    assert attempt.number == 1
    job = json.loads(attempt.job.read_text())
    assert (job["job_id"], job["restart"], job["nodes"], job["step"]) == ("7", 0, ["n1", "n2"], 0)
    assert (owner(run)["job"], owner(run)["attempt"], owner(run)["released"]) == ("7", 1, False)


def test_a_requeue_makes_another_attempt_with_the_same_frozen_bytes(make_job_run, allocation):
    run = make_job_run()
    first, second = starts(run, allocation, 2)
    assert second.number == 2
    assert [(first.path / name).read_bytes() for name in FROZEN] == [
        (second.path / name).read_bytes() for name in FROZEN
    ]
    assert second.provenance() == {**first.provenance(), "attempt": 2, "requeued_from": 1}
    assert not second.submitted.exists()
    assert second.read_frozen() == first.read_frozen()
    assert (owner(run)["job"], owner(run)["attempt"]) == ("7", 2)


def test_it_notes_the_step_that_it_begins_with(make_job_run, allocation):
    run = make_job_run()
    run.save(run.start(), 40)
    attempt = begin(run.directory.attempts[0], allocation)
    assert (attempt.number, json.loads(attempt.job.read_text())["step"]) == (3, 40)


def test_three_vain_attempts_are_enough_also_when_their_nodes_took_them_along(make_job_run, allocation):
    run = make_job_run()
    attempts = starts(run, allocation, 3)
    with pytest.raises(NoProgress, match="3 attempts in a row ended at step 0 without a new checkpoint") as refusal:
        begin(attempts[0], allocation)
    assert refusal.value.exit_code is ExitCode.FAILED
    assert len(run.directory.attempts) == 3
    outcome = json.loads(attempts[-1].outcome.read_text())
    assert (outcome["exit_code"], outcome["requeue"]) == (1, False)
    assert "it ended without a word, maybe with its node" in outcome["message"]


def test_an_outcome_that_is_there_is_kept(make_job_run, allocation):
    run = make_job_run(max_attempts_without_progress=1)
    (attempt,) = starts(run, allocation, 1)
    attempt.outcome.write_text('{"exit_code": 75, "requeue": true}')
    with pytest.raises(NoProgress):
        begin(attempt, allocation)
    assert attempt.outcome.read_text() == '{"exit_code": 75, "requeue": true}'


def test_progress_begins_the_count_anew(make_job_run, allocation):
    run = make_job_run()
    starts(run, allocation, 2)
    assert attempts_without_progress(run.directory) == 2
    keeper = run.start()
    run.save(keeper, 10)
    begin_job(run.directory.attempts[-1], step=0)
    assert attempts_without_progress(run.directory) == 0
    starts(run, allocation, 3)
    assert attempts_without_progress(run.directory) == 3
    with pytest.raises(NoProgress, match="at step 10"):
        begin(run.directory.attempts[0], allocation)


def test_a_person_who_starts_it_again_begins_the_count_anew(make_job_run, allocation):
    run = make_job_run()
    starts(run, allocation, 3)
    JobLease(run.directory, "7", 3).release()
    run.start()
    again = run.directory.attempts[-1]
    again.submitted.write_text('{"job_id": "8"}')
    other = Allocation("8", 0, ("n1",), "n1", None)
    assert begin(again, other).number == 4
    assert attempts_without_progress(run.directory) == 1
    assert begin(again, other).number == 5


def test_another_live_job_is_not_disturbed(make_job_run, allocation, monkeypatch):
    """A start that is refused makes no attempt: the live one would take that for its successor, and end."""
    monkeypatch.setattr("mmhydra.job.begin._PATIENCE_S", 0.5)
    run = make_job_run()
    starts(run, allocation, 2)
    with pytest.raises(LeaseError, match="started by SLURM job 7"):
        begin(run.directory.attempts[0], Allocation("8", 0, ("n1",), "n1", None))
    assert [attempt.number for attempt in run.directory.attempts] == [1, 2]
    assert owner(run)["job"] == "7"


def test_a_local_run_is_not_disturbed(make_job_run, allocation, monkeypatch):
    monkeypatch.setattr("mmhydra.job.begin._PATIENCE_S", 0.5)
    run = make_job_run()
    begin_job(run.directory.attempts[0])
    with hold(run.directory), pytest.raises(LeaseError, match="is under way"):
        begin(run.directory.attempts[0], allocation)
    assert len(run.directory.attempts) == 1


def test_a_job_waits_for_the_process_that_submitted_it(make_job_run, allocation):
    run = make_job_run()
    with ThreadPoolExecutor() as pool:
        with hold(run.directory):
            begun = pool.submit(begin, run.directory.attempts[0], allocation)
            wait([begun], timeout=0.5)
            assert not begun.done()
        assert begun.result(timeout=10).number == 1


def test_an_attempt_that_was_edited_is_refused(make_job_run, allocation):
    run = make_job_run()
    attempt = begin(run.directory.attempts[0], allocation)
    (attempt.path / "config.yaml").write_text("name: x\n")
    with pytest.raises(AttemptError, match="was changed after it was frozen"):
        begin(attempt, allocation)


# ---------------------------------------------------------------- end


@pytest.mark.parametrize(
    ("code", "requeue", "reason"),
    [
        (1, True, "1 of at most 3 attempts in a row without a new checkpoint"),
        (2, False, "it would fail again"),
        (3, False, "stopped"),
        (75, True, "1 of at most 3 attempts in a row without a new checkpoint"),
        (137, True, "1 of at most 3 attempts in a row without a new checkpoint"),
    ],
)
def test_what_an_exit_code_leads_to(make_job_run, allocation, code, requeue, reason):
    run = make_job_run()
    attempt = begin(run.directory.attempts[0], allocation)
    Failure(1, 1.0, code, "why").write(attempt)
    verdict = end(attempt, code, allocation)
    assert (verdict.requeue, verdict.reason) == (requeue, reason)
    assert str(verdict) == f"{1 if code == 137 else code} {'requeue' if requeue else 'stop'}"
    outcome = json.loads(attempt.outcome.read_text())
    assert (outcome["exit_code"], outcome["requeue"]) == (int(verdict.code), requeue)
    assert read_status(attempt.status).exit_code == verdict.code
    assert owner(run)["released"] is True


def test_a_complete_run_is_not_requeued(make_job_run, allocation):
    attempt = begin(make_job_run().directory.attempts[0], allocation)
    Status("done", 0, 100, "the run is complete").write(attempt.status)
    assert str(end(attempt, 0, allocation)) == "0 stop"


def test_what_the_ranks_said_counts_more_than_srun_s_code(make_job_run, allocation):
    attempt = begin(make_job_run().directory.attempts[0], allocation)
    Failure(1, 1.0, 2, "the data is not what this run was frozen with", "Traceback").write(attempt)
    assert end(attempt, 137, allocation).code is ExitCode.CONFIG


def test_preempted_after_a_save_is_told_so(make_job_run, allocation):
    run = make_job_run()
    attempt = begin(run.directory.attempts[0], allocation)
    run.save(run.start(), 10)
    (run.directory.path / "attempts" / "0002").rename(run.directory.path / "away")  # only its checkpoint is wanted
    Failure(0, 1.0, 75, "SLURM announced the end").write(attempt)
    verdict = end(attempt, 75, allocation)
    assert (verdict.requeue, verdict.reason) == (True, "preempted, a checkpoint is saved")


def test_preempted_before_the_first_step_again_and_again_is_an_end(make_job_run, allocation):
    run = make_job_run()
    seen = []
    for _ in range(3):
        attempt = begin(run.directory.attempts[0], allocation)
        Failure(0, 1.0, 75, "SLURM announced the end").write(attempt)
        seen.append(end(attempt, 75, allocation).requeue)
    assert seen == [True, True, False]
    assert "3 attempts in a row saved no new checkpoint" in json.loads(attempt.outcome.read_text())["reason"]


@pytest.mark.parametrize("state", ["CANCELLED", "COMPLETING", "TIMEOUT", "PREEMPTED"])
def test_a_job_that_slurm_is_ending_is_left_to_it(make_job_run, allocation, state):
    attempt = begin(make_job_run().directory.attempts[0], allocation)
    Failure(1, 1.0, 1, "why").write(attempt)
    verdict = end(attempt, 1, allocation, state)
    assert str(verdict) == "1 stop", "SLURM knows whether to run it again"
    assert (verdict.requeue, state in verdict.reason) == (None, True)
    assert begin(attempt, allocation).number == 2, "it may: a node died, or a person requeued it"


def test_a_superseded_attempt_is_never_requeued(make_job_run, allocation):
    run = make_job_run()
    first, second = starts(run, allocation, 2)
    Failure(0, 1.0, 1, "attempt 2 has taken over").write(first)
    assert end(first, 1, allocation).reason == "a newer attempt has taken over this run"
    assert (owner(run)["attempt"], owner(run)["released"]) == (second.number, False)  # not its to give


def test_a_cluster_without_requeue(make_job_run, allocation):
    attempt = begin(make_job_run(requeue=False).directory.attempts[0], allocation)
    Failure(0, 1.0, 75, "time").write(attempt)
    assert str(end(attempt, 75, allocation)) == "75 stop"


def test_tasks_that_never_became_ranks_tell_by_their_log(make_job_run, allocation):
    run = make_job_run()
    attempt = begin(run.directory.attempts[0], allocation)
    run.directory.slurm.mkdir()
    (run.directory.slurm / "7_0_log.err").write_text("")
    (run.directory.slurm / "7_1_log.err").write_text("Traceback\nImportError: half an edit\n")
    end(attempt, 1, allocation)
    status = read_status(attempt.status)
    assert "before the ranks started" in status.message
    assert "ImportError: half an edit" in status.traceback


# ---------------------------------------------------------------- the smoke test


def reported(attempt, *nodes: str, wrong: str | None = None, check: str = "devices") -> None:
    for node in nodes:
        Report(node, 1.0, (Check(check, node != wrong, "broken" if node == wrong else "fine", 0.1),)).write(attempt)


def test_one_bad_node_of_two_is_excluded_and_the_job_goes_on(make_job_run, allocation):
    run = make_job_run(exclude=["n8", "n[05-06]"])
    attempt = begin(run.directory.attempts[0], allocation)
    reported(attempt, "n1", "n2", wrong="n2")
    verdict = end_of_preflight(attempt, allocation)
    assert str(verdict) == "1 requeue n8,n05,n06,n2"
    assert excluded(exclude_file(run.config)) == ["n2"]
    assert "1 of 2 nodes failed the smoke test" in json.loads(attempt.outcome.read_text())["message"]


def test_all_nodes_bad_is_an_end_and_blames_none(make_job_run, allocation):
    run = make_job_run()
    attempt = begin(run.directory.attempts[0], allocation)
    reported(attempt, "n1", wrong="n1")
    reported(attempt, "n2", wrong="n2")
    verdict = end_of_preflight(attempt, allocation)
    assert str(verdict) == "2 stop"
    assert not exclude_file(run.config).exists()
    assert "no node is to blame" in read_status(attempt.status).message


def test_a_node_that_hung_is_excluded(make_job_run, allocation):
    run = make_job_run()
    attempt = begin(run.directory.attempts[0], allocation)
    reported(attempt, "n1")
    assert str(end_of_preflight(attempt, allocation)) == "1 requeue n2"
    assert "it gave no report" in exclude_file(run.config).read_text()


@pytest.mark.parametrize(("check", "told"), [("devices", "1 requeue n1"), ("data", "2 stop")])
def test_a_single_node_is_to_blame_for_its_own(make_job_run, check, told):
    alone = Allocation("7", 0, ("n1",), "n1", None)
    attempt = begin(make_job_run().directory.attempts[0], alone)
    reported(attempt, "n1", wrong="n1", check=check)
    assert str(end_of_preflight(attempt, alone)) == told


def test_each_bad_node_is_left_out_but_the_same_again_and_again_is_an_end(make_job_run, allocation):
    run = make_job_run()
    told = []
    for wrong in ("n1", "n2", "n1", "n2", "n2"):
        attempt = begin(run.directory.attempts[0], allocation)
        reported(attempt, "n1", "n2", wrong=wrong)
        told.append(str(end_of_preflight(attempt, allocation)))
    assert told == ["1 requeue n1", *["1 requeue n1,n2"] * 3, "1 stop"]


def test_a_slow_file_server_puts_no_node_on_the_list(make_job_run, allocation):
    attempt = begin(make_job_run().directory.attempts[0], allocation)
    attempt.preflight.mkdir()
    Report("n1", 1.0, (Check("storage", True, "fine", 1.0),)).write(attempt)
    Report("n2", 1.0, (Check("storage", False, "no answer within 20 s", 20.0),)).write(attempt)
    assert str(end_of_preflight(attempt, allocation)) == "1 requeue"
    assert json.loads(attempt.outcome.read_text())["excluded"] == []


def test_a_drained_job_leaves_its_nodes(make_job_run, allocation):
    attempt = begin(make_job_run().directory.attempts[0], allocation)
    Failure(0, 1.0, 75, "a person asked to leave the nodes", order="drain").write(attempt)
    assert str(end(attempt, 75, allocation)) == "75 requeue n1,n2"


def test_a_run_that_ended_for_good_is_not_started_by_a_requeue(make_job_run, allocation):
    run = make_job_run()
    attempt = begin(run.directory.attempts[0], allocation)
    Failure(0, 1.0, 3, "a person asked to stop", order="stop").write(attempt)
    assert str(end(attempt, 3, allocation)) == "3 stop"
    with pytest.raises(EndedForGood, match="a person asked to stop") as refused:
        begin(run.directory.attempts[0], allocation)
    assert refused.value.exit_code == 3
    assert len(run.directory.attempts) == 1
    another = replace(allocation, job_id="8")  # sbatch by hand
    assert begin(run.directory.attempts[0], another).number == 2


def test_an_exclude_file_that_can_t_be_written_keeps_the_job_away_all_the_same(make_job_run, allocation, tmp_path):
    (tmp_path / "file").touch()
    attempt = begin(make_job_run(exclude_file=str(tmp_path / "file" / "bad")).directory.attempts[0], allocation)
    reported(attempt, "n1", "n2", wrong="n2")
    assert str(end_of_preflight(attempt, allocation)) == "1 requeue n2"
    assert "(not written to " in json.loads(attempt.outcome.read_text())["message"]


# ---------------------------------------------------------------- the allocation


def test_the_allocation_is_what_slurm_says():
    variables = {
        "SLURM_JOB_ID": "12",
        "SLURM_RESTART_COUNT": "2",
        "SLURM_JOB_NODELIST": "gpu[01-03]",
        "MMHYDRA_END_TIME": "1800000000",
    }
    assert Allocation.of(variables) == Allocation("12", 2, ("gpu01", "gpu02", "gpu03"), "gpu01", 1.8e9)
    assert Allocation.of({"SLURM_JOB_ID": "12", "SLURMD_NODENAME": "n9", "MMHYDRA_END_TIME": ""}) == Allocation(
        "12", 0, (), "n9", None
    )


def test_a_task_of_an_array_is_known_by_both_numbers():
    variables = {"SLURM_JOB_ID": "40", "SLURM_ARRAY_JOB_ID": "40", "SLURM_ARRAY_TASK_ID": "3", "MMHYDRA_FOLDER": "/a"}
    allocation = Allocation.of(variables)
    assert (allocation.job_id, allocation.array, allocation.output) == ("40_3", "40", "/a")
    alone = Allocation.of({"SLURM_JOB_ID": "40", "MMHYDRA_FOLDER": "/run/slurm"})
    assert (alone.job_id, alone.array, alone.output) == ("40", None, "/run/slurm")


# ---------------------------------------------------------------- tasks of arrays


@pytest.fixture
def task(tmp_path):
    (tmp_path / "array").mkdir()
    return Allocation("40_3", 0, ("n1", "n2"), "n1", None, str(tmp_path / "array"), "40")


def test_a_task_notes_where_its_script_prints_and_is_judged_by_that(make_job_run, task, tmp_path):
    attempt = begin(make_job_run().directory.attempts[0], task)
    assert attempt.batch_output == tmp_path / "array"
    (tmp_path / "array" / "40_3_0_log.err").write_text("")
    (tmp_path / "array" / "40_3_1_log.err").write_text("Traceback\nImportError: half an edit\n")
    (tmp_path / "array" / "40_31_1_log.err").write_text("Traceback\nof another task\n")
    end(attempt, 1, task)
    assert str(tmp_path / "array") in json.loads(attempt.outcome.read_text())["message"]
    (failure,) = attempt.failures.glob("*.json")
    assert "half an edit" in failure.read_text()


def test_before_a_task_begins_its_submitter_knows_where_its_script_prints(make_job_run, tmp_path):
    attempt = make_job_run().directory.attempts[0]
    assert attempt.batch_output == attempt.run.slurm
    attempt.submitted.write_text(json.dumps({"job_id": "40_3", "output": str(tmp_path)}))
    assert attempt.batch_output == tmp_path


def test_tasks_of_the_array_that_came_first_run_and_no_others(make_job_run, task):
    run = make_job_run()
    submitted = run.directory.attempts[0]
    assert begin(submitted, task).number == 1
    again = replace(task, restart=1)
    submitted.outcome.write_text('{"exit_code": 75, "requeue": true}')
    assert begin(submitted, again).number == 2, "a requeued task is still of the same array"
    with pytest.raises(AnotherArray, match="the runs of this array are those of array 40 "):
        begin(submitted, replace(task, job_id="41_3", array="41"))
    assert len(run.directory.attempts) == 2


def test_an_attempt_that_was_given_to_another_array_is_not_begun(make_job_run, task, tmp_path):
    run = make_job_run()
    submitted = run.directory.attempts[0]
    submitted.array.write_text(f"{tmp_path / 'other'}\n")
    with pytest.raises(AnotherArray, match=rf"is a task of the array in {tmp_path / 'other'}: this task ends"):
        begin(submitted, task)
    assert not submitted.job.exists()
    (tmp_path / "link").symlink_to(tmp_path)
    submitted.array.write_text(f"{tmp_path / 'link' / 'array'}\n")
    assert begin(submitted, task).number == 1, "its own, by another path"


def test_a_task_of_the_other_array_ends_well_and_says_why(make_job_run, task):
    run = make_job_run()
    submitted = run.directory.attempts[0]
    begin(submitted, task)
    variables = {"SLURM_ARRAY_JOB_ID": "41", "SLURM_ARRAY_TASK_ID": "3", "MMHYDRA_FOLDER": str(task.output)}
    done = job("begin", submitted.path, **variables)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("mmhydra: the runs of this array are those of array 40 ")


# ---------------------------------------------------------------- python -m mmhydra.job


def job(*arguments: object, full_disk: bool = False, **variables: str) -> "subprocess.CompletedProcess[str]":
    def no_byte() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
    return subprocess.run(
        [sys.executable, "-m", "mmhydra.job", *map(str, arguments)],
        env={**environment, "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[1-2]", **variables},
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=no_byte if full_disk else None,
    )


def test_a_log_on_a_full_disk_does_not_change_the_verdict(make_job_run, allocation):
    attempt = begin(make_job_run().directory.attempts[0], allocation)
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "mmhydra.job", "end", str(attempt.path), "1"],
            env={**os.environ, "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[1-2]"},
            stdout=subprocess.PIPE,
            stderr=full,
            text=True,
        )
    assert (done.returncode, done.stdout) == (0, "1 requeue\n")


def test_the_command_prints_the_attempt_and_the_verdict_alone(make_job_run):
    run = make_job_run()
    first = run.directory.attempts[0].path
    assert job("begin", first).stdout == f"{first}\n"
    ended = job("end", first, 1, "RUNNING")
    assert (ended.returncode, ended.stdout) == (0, "1 requeue\n")
    assert "mmhydra: attempt 1: " in ended.stderr
    again = job("begin", first, SLURM_RESTART_COUNT="1")
    assert again.stdout == f"{first.parent / '0002'}\n"
    assert job("end", first.parent / "0002", 1, "CANCELLED").stdout == "1 stop\n"


def test_the_command_judges_a_smoke_test(make_job_run):
    first = make_job_run().directory.attempts[0]
    assert job("begin", first.path).returncode == 0
    reported(first, "n1", "n2", wrong="n1")
    assert job("end", first.path, "preflight").stdout == "1 requeue n1\n"


def test_too_many_vain_attempts_are_exit_code_1(make_job_run):
    first = make_job_run(max_attempts_without_progress=1).directory.attempts[0].path
    assert job("begin", first).returncode == 0
    refused = job("begin", first)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("error: an attempt ended at step 0")


@pytest.mark.parametrize("disk", ["full", "fine"])
def test_a_full_disk_keeps_the_verdict(make_job_run, allocation, disk):
    attempt = begin(make_job_run().directory.attempts[0], allocation)
    Failure(0, 1.0, 75, "time").write(attempt)
    ended = job("end", attempt.path, 75, "RUNNING", full_disk=disk == "full")
    assert (ended.returncode, ended.stdout) == (0, "75 requeue\n")
    assert ("could not be written" in ended.stderr) == (disk == "full")
    assert "Traceback" not in ended.stderr


def test_a_full_disk_keeps_the_verdict_of_tasks_that_said_nothing(make_job_run, allocation):
    attempt = begin(make_job_run().directory.attempts[0], allocation)
    ended = job("end", attempt.path, 1, "RUNNING", full_disk=True)
    assert (ended.returncode, ended.stdout) == (0, "1 requeue\n")
    assert "Traceback" not in ended.stderr


def test_a_start_on_a_full_disk_says_so_without_a_traceback(make_job_run):
    begun = job("begin", make_job_run().directory.attempts[0].path, full_disk=True)
    assert begun.returncode != 0
    assert begun.stdout == ""
    assert begun.stderr.startswith("error: ")
    assert "Traceback" not in begun.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("begin",),
        ("end", "x"),
        ("end", "x", "-1"),
        ("end", "x", "1", "A", "B"),
        ("preflight", "x", "s"),
        ("go", "x"),
    ],
)
def test_other_arguments_are_told_the_usage(arguments):
    done = job(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: ")


def test_outside_of_a_job_and_without_an_attempt(tmp_path, make_job_run):
    outside = job("begin", make_job_run().directory.attempts[0].path, SLURM_JOB_ID="")
    assert (outside.returncode, outside.stderr.startswith("error: this runs inside of a SLURM job")) == (2, True)
    nowhere = job("end", tmp_path / "attempts" / "0001", 1)
    assert (nowhere.returncode, nowhere.stderr.startswith("error: ")) == (2, True)


def test_a_controller_that_does_not_answer_ends_no_run(make_job_run, allocation):
    attempt = begin(make_job_run().directory.attempts[0], allocation)
    Failure(1, 1.0, 1, "why").write(attempt)
    assert end(attempt, 1, allocation, "").requeue


def test_a_job_that_was_ended_during_the_smoke_test_blames_no_node(make_job_run, allocation):
    run = make_job_run()
    attempt = begin(run.directory.attempts[0], allocation)
    assert str(end_of_preflight(attempt, allocation, "CANCELLED")) == "1 stop"
    assert not exclude_file(run.config).exists()
