import time
from datetime import datetime
from pathlib import Path

import pytest
from fake_slurm import INVALID, NO_ACCOUNTING, UNREACHABLE, FakeSlurm, squeue_row

from mmhydra.errors import UserError
from mmhydra.slurm import JobState, Scheduler, SchedulerError

# Lines that SLURM 22.05 printed, shortened where they say nothing.
SCONTROL_RUNNING = (
    "JobId=4711 JobName=a b=c.sh UserId=root(0) JobState=RUNNING Reason=None Dependency=(null) Requeue=1 "
    "Restarts=1 BatchFlag=1 Reboot=0 ExitCode=0:0 RunTime=1-00:00:03 TimeLimit=00:10:00 "
    "SubmitTime=2026-11-25T16:17:03 StartTime=2026-11-25T16:17:05 EndTime={end} Partition=main "
    "NodeList=127.0.0.[12-13] BatchHost=127.0.0.12 NumNodes=2 Command=/x/j.sh WorkDir=/x Power= \n"
)
SCONTROL_TASK = (
    "JobId=4715 ArrayJobId=4713 ArrayTaskId=0 JobName=j.sh JobState=FAILED Reason=NonZeroExitCode Restarts=0 "
    "ExitCode=7:0 RunTime=00:00:01 TimeLimit=UNLIMITED StartTime=2026-11-25T16:17:22 EndTime=2026-11-25T16:17:23 "
    "NodeList=127.0.0.12\n"
)


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    fake = FakeSlurm(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(fake.folder))
    return fake


def state(job_id: str = "7", **settings: float) -> JobState | None:
    return Scheduler(**settings).state(job_id)


def known(job_id: str = "7") -> JobState:
    found = state(job_id)
    assert found is not None
    return found


def test_a_running_job_by_squeue_alone(slurm: FakeSlurm) -> None:
    row = squeue_row("7", "RUNNING", nodes="gpu[01-02]", used="1-02:03:04", left="9:59", restarts=2)
    slurm.has(row)
    job = known()
    assert job == JobState("7", "RUNNING", None, ["gpu01", "gpu02"], None, 93784, 599, 2, None)
    assert job.is_active
    assert not job.is_pending
    assert [call.split()[0] for call in slurm.calls] == ["squeue"]  # nobody else is asked


def test_a_waiting_job_has_a_reason_and_an_estimate(slurm: FakeSlurm) -> None:
    slurm.has(
        squeue_row("7", "PENDING", reason="ReqNodeNotAvail, UnavailableNodes:gpu[1-2]", start="2026-11-25T16:17:05")
    )
    job = known()
    assert job.is_pending
    assert job.is_active
    assert job.reason == "ReqNodeNotAvail, UnavailableNodes:gpu[1-2]"
    assert job.start_estimate == datetime(2026, 11, 25, 16, 17, 5).astimezone()
    assert job.time_left_s is None


@pytest.mark.parametrize("word", ["CONFIGURING", "COMPLETING", "SUSPENDED", "REQUEUED", "REQUEUE_HOLD", "RESIZING"])
def test_what_may_still_run_is_active(slurm: FakeSlurm, word: str) -> None:
    slurm.has(squeue_row("7", word))
    assert known().is_active


@pytest.mark.parametrize("word", ["COMPLETED", "CANCELLED", "NODE_FAIL", "TIMEOUT", "OUT_OF_MEMORY", "DEADLINE"])
def test_what_ended_is_not(slurm: FakeSlurm, word: str) -> None:
    slurm.has(squeue_row("7", word))
    assert not known().is_active


@pytest.mark.parametrize(("status", "code"), [(0, 0), (1792, 7), (75 << 8, 75), (9, 137), (9 | 0x80, 137)])
def test_exit_codes_of_squeue_are_those_of_wait(slurm: FakeSlurm, status: int, code: int) -> None:
    slurm.has(squeue_row("7", "FAILED", status=status))
    assert known().exit_code == code


def test_an_array_is_its_task_that_runs(slurm: FakeSlurm) -> None:
    rows = [
        squeue_row("4713_[2-3%1]", "PENDING", reason="JobArrayTaskLimit"),
        squeue_row("4713_0", "COMPLETED"),
        squeue_row("4713_1", "RUNNING"),
    ]
    slurm.has(*rows)
    assert known("4713").job_id == "4713_1"
    slurm.has(rows[0], rows[1])
    assert known("4713").is_pending
    slurm.has(rows[1])
    assert known("4713_0").state == "COMPLETED"
    assert slurm.calls[-1].startswith("squeue -h -t all -j 4713_0 -O ")


def test_scontrol_is_asked_where_squeue_is_missing_or_broken(slurm: FakeSlurm) -> None:
    end = datetime.fromtimestamp(time.time() + 100).isoformat(timespec="seconds")
    slurm.answer("scontrol", SCONTROL_RUNNING.format(end=end))
    job = known("4711")
    assert (job.state, job.restarts, job.elapsed_s) == ("RUNNING", 1, 86403)
    assert job.nodes == ["127.0.0.12", "127.0.0.13"]
    assert 95 <= (job.time_left_s or 0) <= 100
    slurm.answer("squeue", err="squeue: error: Invalid user\n", code=1)
    slurm.answer("scontrol", SCONTROL_TASK)
    job = known("4713_0")
    assert (job.job_id, job.exit_code, job.reason) == ("4713_0", 7, "NonZeroExitCode")


def test_a_site_with_sacct_alone(slurm: FakeSlurm) -> None:
    slurm.answer("sacct", "7|RUNNING|None|0:0|60|10|2026-11-25T16:17:05|gpu[1-2]\n")
    assert known() == JobState("7", "RUNNING", None, ["gpu1", "gpu2"], None, 60, 540, None, None)
    slurm.answer("sacct", "7|CANCELLED by 1000|None|0:15|60|UNLIMITED|2026-11-25T16:17:05|None assigned\n")
    job = known()
    assert (job.state, job.reason, job.exit_code, job.nodes) == ("CANCELLED", "by 1000", 143, [])
    slurm.answer("sacct")
    assert state() is None


def test_accounting_knows_what_the_controller_forgot(slurm: FakeSlurm) -> None:
    slurm.forgets()
    assert state() is None
    slurm.answer("sacct", "7|NODE_FAIL|None|0:0|60|10|2026-11-25T16:17:05|gpu1\n")
    assert known().state == "NODE_FAIL"
    # A record that nobody closed; the controller knows better what runs.
    slurm.answer("sacct", "7|RUNNING|None|0:0|60|10|2026-11-25T16:17:05|gpu1\n")
    assert state() is None


def test_no_output_without_an_error_is_an_unknown_job(slurm: FakeSlurm) -> None:
    slurm.answer("squeue")
    assert state() is None


def test_a_controller_that_is_down_is_no_unknown_job(slurm: FakeSlurm) -> None:
    slurm.is_down()
    with pytest.raises(SchedulerError) as caught:
        state()
    told = str(caught.value)
    assert told.splitlines()[0] == "SLURM can't be asked about job 7:"
    assert f"squeue: {UNREACHABLE}" in told
    assert f"sacct: {NO_ACCOUNTING}" in told
    assert isinstance(caught.value, UserError)
    slurm.answer("sacct")  # accounting that has not heard of the job yet proves nothing
    with pytest.raises(SchedulerError, match="sacct: knows no such job"):
        state()


def test_a_controller_that_hangs_is_given_up(slurm: FakeSlurm) -> None:
    slurm.answer("squeue", hangs=True)
    slurm.answer("scontrol", hangs=True)
    slurm.answer("sacct", err=NO_ACCOUNTING, code=1)
    began = time.monotonic()
    with pytest.raises(SchedulerError, match=r"squeue: no answer within 0\.3 s"):
        state(timeout_s=0.3)
    assert time.monotonic() - began < 5
    assert [call.split()[0] for call in slurm.calls] == ["squeue", "sacct"]  # scontrol would wait for the same one


def test_no_tools_at_all(slurm: FakeSlurm) -> None:
    assert not Scheduler().is_available
    with pytest.raises(SchedulerError, match="neither squeue, scontrol nor sacct is on PATH"):
        state()
    slurm.answer("sacct")
    assert Scheduler().is_available


def test_scontrol_that_does_not_know_the_job(slurm: FakeSlurm) -> None:
    slurm.answer("scontrol", err=INVALID, code=1)
    assert state() is None


@pytest.mark.parametrize("job_id", ["", "abc", "7;rm", "7_", "-1", "7,8"])
def test_no_job_id(slurm: FakeSlurm, job_id: str) -> None:
    with pytest.raises(SchedulerError, match="is no job id"):
        state(job_id)
    with pytest.raises(SchedulerError, match="is no job id"):
        Scheduler().cancel(job_id)
    assert slurm.calls == []


def test_cancel_and_requeue(slurm: FakeSlurm) -> None:
    slurm.answer("scancel")
    slurm.answer("scontrol")
    Scheduler().cancel("7_1")
    Scheduler().requeue("7")
    assert slurm.calls == ["scancel 7_1", "scontrol requeue 7"]
    slurm.answer("scancel", err="scancel: error: Kill job error on job id 7: Access/permission denied\n", code=1)
    with pytest.raises(SchedulerError, match=r"scancel 7: .*permission denied"):
        Scheduler().cancel("7")
    slurm.answer("scontrol", out="Job is no longer pending execution for job 7\n", code=1)
    with pytest.raises(SchedulerError, match="scontrol requeue 7: Job is no longer"):
        Scheduler().requeue("7")
    slurm.remove("scancel")
    with pytest.raises(SchedulerError, match="scancel: is not on PATH"):
        Scheduler().cancel("7")


def test_the_tools_get_the_sites_configuration_and_nobodys_taste(
    slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SQUEUE_PARTITION", "SQUEUE_FORMAT", "SLURM_TIME_FORMAT", "SACCT_FORMAT"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("SLURM_CLUSTERS", "north")
    slurm.has(squeue_row("7", "RUNNING"))
    assert Scheduler(Path("/site/slurm.conf")).state("7") is not None
    given = slurm.environment_of("squeue")
    assert given["SLURM_CONF"] == "/site/slurm.conf"
    assert given["SLURM_CLUSTERS"] == "north"
    assert not [name for name in given if name.startswith(("SQUEUE_", "SACCT_", "SLURM_TIME"))]


def test_expand_is_there_for_those_who_have_a_scheduler() -> None:
    assert Scheduler.expand("gpu[1-2]") == ["gpu1", "gpu2"]
