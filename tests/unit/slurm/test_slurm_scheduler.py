import time
from datetime import datetime
from pathlib import Path

import pytest
from fake_slurm import INVALID, NO_ACCOUNTING, UNREACHABLE, FakeSlurm, squeue_row

from mmhydra.errors import UserError
from mmhydra.slurm import JobState, Scheduler, SchedulerError
from mmhydra.slurm.answers import BULK_COLUMNS

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
    with pytest.raises(SchedulerError, match="neither squeue, scontrol nor sacct is on PATH"):
        state()


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


# ---------------------------------------------------------------- many jobs


class ListingSlurm(FakeSlurm):
    """squeue as it is asked of many jobs: first their ids as they are, then rows."""

    def lists(self, *rows: str) -> None:
        """What is there; ids as in `123_[0-3,7]`."""
        ids = "".join(f"{row.split(' ', 1)[0]}\n" for row in rows)
        self.answer("squeue", "".join(f"{row}\n" for row in rows))
        file = self.folder / "squeue"
        text = file.read_text().splitlines()
        (self.folder / "squeue.ids").write_text(ids)
        shortcut = f'[[ "$*" == *"-o %i"* ]] && {{ /bin/cat "{self.folder}/squeue.ids"; exit 0; }}'
        file.write_text("\n".join([*text[:2], shortcut, *text[2:]]) + "\n")


@pytest.fixture
def listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ListingSlurm:
    fake = ListingSlurm(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(fake.folder))
    return fake


def bulk_row(job: str, state: str, **values: object) -> str:
    return squeue_row(job, state, columns=BULK_COLUMNS, **values)


def test_many_jobs_are_two_questions(listing: ListingSlurm) -> None:
    listing.lists(
        bulk_row("40_[5-7,9-13:2%2]", "PENDING", reason="JobArrayTaskLimit"),
        bulk_row("40_0", "COMPLETED"),
        bulk_row("40_1", "RUNNING", restarts=1),
        bulk_row("40_2", "FAILED", status=512),
        bulk_row("41", "RUNNING", nodes="gpu[01-02]"),
        bulk_row("42_[0]", "CANCELLED"),
    )
    wanted = ["40_0", "40_1", "40_2", "40_5", "40_7", "40_8", "40_9", "40_10", "40_11", "40_13", "41", "42_0", "43"]
    states = Scheduler().states(iter(wanted))
    assert list(states) == wanted
    assert {name: None if job is None else job.state for name, job in states.items()} == {
        **{"40_0": "COMPLETED", "40_1": "RUNNING", "40_2": "FAILED", "41": "RUNNING", "42_0": "CANCELLED"},
        **dict.fromkeys(["40_5", "40_7", "40_9", "40_11", "40_13"], "PENDING"),
        **dict.fromkeys(["40_8", "40_10", "43"]),
    }
    assert all(job is None or job.job_id == name for name, job in states.items())
    waiting, failed, running = states["40_7"], states["40_2"], states["40_1"]
    assert waiting is not None
    assert failed is not None
    assert running is not None
    assert (waiting.reason, failed.exit_code, running.restarts) == ("JobArrayTaskLimit", 2, 1)
    assert [call.split()[0] for call in listing.calls] == ["squeue", "squeue"], "for one that is gone there is no sacct"
    assert all(" -j 40,41,42,43 " in call for call in listing.calls)
    assert listing.environment_of("squeue")["SLURM_BITSTR_LEN"] == "0"


def test_a_task_that_starts_between_the_questions_is_where_it_is(listing: ListingSlurm) -> None:
    listing.lists(bulk_row("40_0", "RUNNING"), bulk_row("40_[1]", "PENDING"))
    (listing.folder / "squeue.ids").write_text("40_[0-1]\n")
    states = Scheduler().states(["40_0", "40_1"])
    assert [job.state if job is not None else None for job in states.values()] == ["RUNNING", "PENDING"]


def test_no_jobs_are_no_question(slurm: FakeSlurm) -> None:
    assert Scheduler().states([]) == {}
    Scheduler().cancel_many([])
    assert slurm.calls == []


def test_very_many_jobs_are_asked_for_in_parts(slurm: FakeSlurm) -> None:
    slurm.answer("squeue")
    assert set(Scheduler().states(str(number) for number in range(1, 1202)).values()) == {None}
    assert len([call for call in slurm.calls if "-O" in call]) == 3


def test_what_the_controller_forgot_of_many_accounting_may_know(listing: ListingSlurm) -> None:
    listing.lists(bulk_row("40_0", "RUNNING"))
    listing.answer("sacct", "40_1|COMPLETED|None|0:0|60|10|2026-11-25T16:17:05|gpu1\n40_2|RUNNING|None|0:0|1|1||\n")
    states = Scheduler().states(["40_0", "40_1", "40_2", "40_3"])
    assert [job.state if job is not None else None for job in states.values()] == ["RUNNING", "COMPLETED", None, None]
    assert listing.calls[-1].startswith("sacct -X -n -P -j 40 -o ")


def test_many_jobs_by_scontrol_alone(slurm: FakeSlurm) -> None:
    waiting = (
        "JobId=4716 ArrayJobId=4713 ArrayTaskId=2-4%3 JobName=j.sh JobState=PENDING Reason=Resources Restarts=0 "
        "ExitCode=0:0 RunTime=00:00:00 TimeLimit=UNLIMITED StartTime=Unknown EndTime=Unknown NodeList=(null)\n"
    )
    slurm.answer("scontrol", SCONTROL_TASK + waiting)
    states = Scheduler().states(["4713_0", "4713_3", "4713_5"])
    assert [job.state if job is not None else None for job in states.values()] == ["FAILED", "PENDING", None]


def test_many_jobs_of_a_site_with_sacct_alone(slurm: FakeSlurm) -> None:
    slurm.answer("sacct", "40_0|RUNNING|None|0:0|60|10||gpu1\n40_[1-2%1]|PENDING|None|0:0|0|10||None assigned\n")
    states = Scheduler().states(["40_0", "40_1", "40_3"])
    assert [job.state if job is not None else None for job in states.values()] == ["RUNNING", "PENDING", None]


def test_a_controller_that_is_down_knows_nothing_of_many_either(slurm: FakeSlurm) -> None:
    slurm.is_down()
    with pytest.raises(SchedulerError, match=r"SLURM can't be asked about jobs 40_0, 40_1, 40_2, \.\.\.:"):
        Scheduler().states([f"40_{number}" for number in range(9)])
    slurm.answer("sacct")
    with pytest.raises(SchedulerError, match="sacct: knows no such job"):
        Scheduler().states(["40_0"])
    for tool in ("squeue", "scontrol", "sacct"):
        slurm.remove(tool)
    with pytest.raises(SchedulerError, match="neither squeue, scontrol nor sacct is on PATH"):
        Scheduler().states(["40_0"])


def test_what_is_no_job_id_is_a_job_that_slurm_does_not_know(slurm: FakeSlurm) -> None:
    """One bad record of thousands must not hide all others."""
    slurm.answer("squeue", f"{squeue_row('40_0', 'RUNNING', columns=BULK_COLUMNS)}\n")
    found = Scheduler().states(["nobody_0", "40_0", "x"])
    assert (found["nobody_0"], found["x"]) == (None, None)
    assert found["40_0"] is not None
    assert not any("nobody" in call for call in slurm.calls)


def test_a_controller_that_answers_one_of_the_questions_alone_is_no_answer(listing: ListingSlurm) -> None:
    listing.answer("squeue", err=UNREACHABLE, code=1)
    listing.answer("scontrol", err=UNREACHABLE, code=1)
    listing.answer("sacct", err=NO_ACCOUNTING, code=1)
    (listing.folder / "squeue.ids").write_text("40_[0-1]\n")
    with pytest.raises(SchedulerError, match=r"squeue: .*Unable to contact"):
        Scheduler().states(["40_0"])
    listing.lists(bulk_row("40_[0-1]", "PENDING"))
    text = (listing.folder / "squeue").read_text()
    (listing.folder / "squeue").write_text(text.replace("exit 0; }", f'echo "{UNREACHABLE}" >&2; exit 1; }}'))
    (listing.folder / "squeue.ids").write_text("")
    with pytest.raises(SchedulerError, match=r"squeue: .*Unable to contact"):
        Scheduler().states(["40_0"])


# ---------------------------------------------------------------- by name


def test_jobs_of_a_name(slurm: FakeSlurm) -> None:
    slurm.answer("squeue", "41\n9\n41\n")
    assert Scheduler().find_by_name("study-0001-abcd") == ["9", "41"]
    assert slurm.calls == ["squeue -h -t all --name=study-0001-abcd -o %F"]


def test_jobs_of_a_name_that_only_accounting_knows(slurm: FakeSlurm) -> None:
    since = datetime(2026, 11, 25, 16).astimezone()
    slurm.answer("squeue")
    slurm.answer("sacct", "41_0\n41_[1-3]\n")
    assert Scheduler().find_by_name("x", since) == ["41"]
    assert slurm.calls[-1] == "sacct -X -n -P --starttime=2026-11-25T15:00:00 --name=x -o JobID"
    slurm.answer("sacct", err=NO_ACCOUNTING, code=1)
    assert Scheduler().find_by_name("x") == [], "the controller has answered"


def test_jobs_of_a_name_where_nobody_answers(slurm: FakeSlurm) -> None:
    slurm.is_down()
    with pytest.raises(SchedulerError, match="SLURM can't be asked about jobs of the name x:"):
        Scheduler().find_by_name("x")
    slurm.answer("sacct")
    with pytest.raises(SchedulerError, match=r"squeue: .*Unable to contact"):
        Scheduler().find_by_name("x")
    slurm.remove("squeue")
    assert Scheduler().find_by_name("x") == []
    slurm.remove("sacct")
    with pytest.raises(SchedulerError, match="neither squeue nor sacct is on PATH"):
        Scheduler().find_by_name("x")


# ---------------------------------------------------------------- cancel many


def test_many_jobs_are_cancelled_by_ranges(slurm: FakeSlurm) -> None:
    slurm.answer("scancel")
    Scheduler().cancel_many(["40_3", "41", "40_0", "40_1", "42_7", "40_3"])
    assert slurm.calls == ["scancel 41 40_[0-1,3] 42_[7]"]
    slurm.answer("scancel", err="scancel: error: Access/permission denied\n", code=1)
    with pytest.raises(SchedulerError, match=r"scancel 40_\[1\]: .*permission denied"):
        Scheduler().cancel_many(["40_1"])
    with pytest.raises(SchedulerError, match="is no job id"):
        Scheduler().cancel_many(["40_1", "40_[2-3]"])
