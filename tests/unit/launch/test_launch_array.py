"""Arrays from the submitter's side, with sbatch, squeue and sacct as processes that say what SLURM would."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from fake_slurm import NO_ACCOUNTING, UNREACHABLE, FakeSlurm

from mmhydra.compose import compose
from mmhydra.config.frozen import config_sha256, to_yaml
from mmhydra.launch.array import (
    ArrayError,
    ArrayJob,
    adopt_array,
    array_state,
    drop_array,
    executor_of_array,
    is_free_again,
    max_array_size,
    require_no_array,
    resource_class,
    submit_array,
    write_array,
)
from mmhydra.launch.batch import BatchJob
from mmhydra.launch.slurm import SubmissionError, script_of
from mmhydra.run.claim import claim
from mmhydra.run.directory import Attempt, RunDirectory
from mmhydra.run.lease import HeldError
from mmhydra.run.snapshot import Snapshot
from mmhydra.slurm import Scheduler, SchedulerError

CONF = "/site/slurm.conf"


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Tools alone on PATH; SLURM knows no job yet and has no accounting."""
    fake = FakeSlurm(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(fake.folder))
    monkeypatch.delenv("SLURM_CONF", raising=False)
    fake.answer("sbatch", "Submitted batch job 40\n")
    fake.answer("squeue")
    fake.answer("sacct", err=NO_ACCOUNTING, code=1)
    fake.answer("scancel")
    return fake


@pytest.fixture(scope="session")
def slurm_config():
    return compose(["cluster=slurm_dev", f"cluster.slurm.slurm_conf={CONF}", "parallel=tp2pp2"]).config


@pytest.fixture
def job_of(tmp_path, slurm_config, change):
    """The job of a run that is frozen."""

    def make(seed: int, **leaves: object) -> BatchJob:
        folders = {"paths.outputs": str(tmp_path / "outputs"), "paths.data": str(tmp_path / "data")}
        changed = {key.replace("__", "."): value for key, value in leaves.items()}
        config = change(slurm_config, {**folders, "seed.model": seed, **changed})
        run = RunDirectory(tmp_path / "outputs" / config.name / f"{seed:012x}")
        (run.path / "attempts").mkdir(parents=True)
        attempt = run.new_attempt()
        text = to_yaml(config)
        snapshot = Snapshot(tmp_path / "outputs" / ".store" / "code" / "1", "5" * 64)
        provenance = {
            "run_id": run.path.name,
            "config_sha256": config_sha256(text),
            "snapshot": str(snapshot.path),
            "git": {"snapshot_sha256": snapshot.sha256},
        }
        attempt.freeze(text, (), provenance, {})
        return BatchJob(config, run.path.name, config_sha256(text), run.path, attempt.path, snapshot)

    return make


@pytest.fixture
def array(tmp_path, job_of) -> ArrayJob:
    folder = tmp_path / "outputs" / "sweeps" / "study" / "arrays" / "0001"
    return ArrayJob(folder, "study-0001-abcd", tuple(job_of(seed) for seed in (1, 2, 3)), (0, 4, 5), "aftercorr:30")


def record(array: ArrayJob) -> dict:
    return json.loads((array.folder / "array.json").read_text())


def job_ids(array: ArrayJob) -> list[str | None]:
    """What the attempts were told of their jobs."""
    files = [job.attempt_path / "submitted.json" for job in array.jobs]
    return [json.loads(file.read_text())["job_id"] if file.exists() else None for file in files]


def outcomes(array: ArrayJob) -> list[bool]:
    return [(job.attempt_path / "outcome.json").exists() for job in array.jobs]


# ---------------------------------------------------------------- submission


def test_what_is_written_before_sbatch_is_called(array, slurm):
    write_array(array)
    assert slurm.calls == []
    assert array_state(array.folder) == "submitting"
    assert job_ids(array) == [None, None, None]
    rows = [line.split("\t") for line in (array.folder / "tasks.tsv").read_text().splitlines()]
    assert [(int(row[0]), Path(row[1]), Path(row[2]), row[3]) for row in rows] == [
        (index, job.attempt_path, job.snapshot.path, job.comment)
        for index, job in zip(array.indices, array.jobs, strict=True)
    ]
    text = (array.folder / "array.sh").read_text()
    assert text == f"{script_of(executor_of_array(array)).rstrip()}\n"
    assert "#SBATCH --array=0,4-5\n" in text


def test_a_submission_is_written_down_in_each_attempt(array, slurm):
    assert submit_array(array) == "40"
    assert array_state(array.folder) == "submitted"
    assert (record(array)["job_id"], record(array)["name"]) == ("40", "study-0001-abcd")
    assert job_ids(array) == ["40_0", "40_4", "40_5"]
    attempt = Attempt(array.jobs[1].attempt_path)
    document = json.loads(attempt.submitted.read_text())
    assert document["cluster"] == "slurm_dev"
    assert Path(document["script"]).is_file()
    assert attempt.batch_output == array.folder
    assert (array.folder / "claimed").read_text() == "40\n"
    assert [call.split()[0] for call in slurm.calls] == ["sbatch"]
    assert slurm.environment_of("sbatch")["SLURM_CONF"] == CONF
    assert submit_array(array) == "40"
    assert [call.split()[0] for call in slurm.calls] == ["sbatch"], "once is enough"
    assert (array.folder / "40_submission.sh").read_text().rstrip() == (array.folder / "array.sh").read_text().rstrip()


def test_what_sbatch_refuses_is_told_and_concludes_the_attempts(array, slurm):
    said = "sbatch: error: Batch job submission failed: Invalid job array specification"
    slurm.answer("sbatch", err=f"{said}\n", code=1)
    with pytest.raises(
        SubmissionError, match=r"cluster=slurm_dev did not take the job, sbatch says: .*array spec"
    ) as raised:
        submit_array(array)
    assert "max_array_size" not in str(raised.value), "that would not help"
    assert (array_state(array.folder), job_ids(array)) == ("refused", [None, None, None])
    for job in array.jobs:
        outcome = json.loads((job.attempt_path / "outcome.json").read_text())
        assert (outcome["exit_code"], outcome["requeue"], outcome["reason"]) == (2, False, "it was not submitted")
    assert adopt_array(array.folder) is None


def test_an_array_that_was_refused_runs_nothing_should_slurm_take_it_all_the_same(array, slurm):
    slurm.answer("sbatch", err="sbatch: error: Batch job submission failed: Socket timed out on send/recv\n", code=1)
    with pytest.raises(SubmissionError, match="Socket timed out"):
        submit_array(array)
    assert (array_state(array.folder), outcomes(array)) == ("refused", [True] * 3)
    assert claim(array.folder / "claimed", "40") == "nobody", "what its tasks are told"
    slurm.answer("squeue", "40\n")
    assert adopt_array(array.folder) is None
    num_calls = len(slurm.calls)
    with pytest.raises(ArrayError, match="was given up"):
        submit_array(array)
    assert len(slurm.calls) == num_calls


def test_an_array_that_begins_while_sbatch_refuses_it_is_kept(array, slurm, monkeypatch):
    slurm.answer("sbatch", err="sbatch: error: Batch job submission failed: Socket timed out on send/recv\n", code=1)
    asked = Scheduler.find_by_name

    def begins(self, *arguments):
        found = asked(self, *arguments)
        claim(array.folder / "claimed", "40")  # SLURM has taken it after it was asked
        return found

    monkeypatch.setattr(Scheduler, "find_by_name", begins)
    assert submit_array(array) == "40"
    assert (array_state(array.folder), outcomes(array)) == ("submitted", [False] * 3)


@pytest.mark.parametrize(
    "said",
    [
        "sbatch: error: QOSMaxSubmitJobPerUserLimit",
        "sbatch: error: AssocMaxSubmitJobLimit",
        "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, ...)",
    ],
)
def test_an_array_that_is_larger_than_the_queue_of_an_account_is_told_what_to_type(array, slurm, said):
    slurm.answer("sbatch", err=f"{said}\n", code=1)
    with pytest.raises(SubmissionError, match=r"3 tasks .*smaller cluster\.slurm\.max_array_size.*slurm_dev\.yaml"):
        submit_array(array)


def test_where_nobody_can_tell_whether_sbatch_took_it_the_attempts_are_left_alone(array, slurm):
    slurm.answer("sbatch", err="sbatch: error: Batch job submission failed: Socket timed out on send/recv\n", code=1)
    slurm.answer("squeue", err=UNREACHABLE, code=1)
    with pytest.raises(SubmissionError, match=r"(?s)Socket timed out.*can't be found out.*type the same command again"):
        submit_array(array)
    assert (array_state(array.folder), outcomes(array)) == ("submitting", [False] * 3)
    with pytest.raises(SchedulerError, match="SLURM can't be asked about jobs of the name study-0001-abcd"):
        adopt_array(array.folder)
    slurm.answer("squeue", "40\n40\n")
    assert adopt_array(array.folder) == "40"
    assert job_ids(array) == ["40_0", "40_4", "40_5"]


def test_an_array_that_slurm_took_though_sbatch_said_otherwise(array, slurm):
    slurm.answer("sbatch", err="sbatch: error: Batch job submission failed: Socket timed out on send/recv\n", code=1)
    slurm.answer("squeue", "40\n")
    assert submit_array(array) == "40"
    assert (array_state(array.folder), outcomes(array)) == ("submitted", [False] * 3)


def test_a_path_that_no_line_can_hold_is_refused(array, tmp_path, slurm):
    odd = replace(array.jobs[0], attempt_path=tmp_path / "a\tb" / "attempts" / "0001")
    with pytest.raises(ArrayError, match="has a tab or a line break"):
        write_array(replace(array, jobs=(odd, *array.jobs[1:])))
    assert array_state(array.folder) == "empty"


# ---------------------------------------------------------------- a submitter that was killed


def test_an_array_that_slurm_knows_is_adopted_by_its_name(array, slurm):
    write_array(array)
    slurm.answer("squeue", "40\n")
    assert adopt_array(array.folder) == "40"
    assert slurm.calls == ["squeue -h -t all --name=study-0001-abcd -o %F"]
    assert slurm.environment_of("squeue")["SLURM_CONF"] == CONF
    assert (array_state(array.folder), job_ids(array)) == ("submitted", ["40_0", "40_4", "40_5"])
    assert adopt_array(array.folder) == "40"
    assert len(slurm.calls) == 1, "nobody is asked again"


def test_an_array_that_only_accounting_remembers(array, slurm):
    write_array(array)
    slurm.answer("sacct", "40_0\n40_4\n40_5\n")
    assert adopt_array(array.folder) == "40"
    assert "--name=study-0001-abcd" in slurm.calls[-1]


def test_an_array_whose_task_has_begun_needs_no_slurm(array, slurm):
    write_array(array)
    claim(array.folder / "claimed", "40")
    slurm.is_down()
    assert adopt_array(array.folder) == "40"
    assert job_ids(array) == ["40_0", "40_4", "40_5"]


@pytest.mark.parametrize("written", range(4))
def test_records_that_were_written_in_part_are_completed(array, slurm, written):
    submit_array(array)
    whole = [(job.attempt_path / "submitted.json").read_text() for job in array.jobs]
    (array.folder / "array.json").write_text(json.dumps({**record(array), "state": "submitting"}))
    for job in array.jobs[written:]:
        (job.attempt_path / "submitted.json").unlink()
    assert adopt_array(array.folder) == "40"
    assert [(job.attempt_path / "submitted.json").read_text() for job in array.jobs] == whole
    assert [call.split()[0] for call in slurm.calls] == ["sbatch"]


def test_an_array_that_slurm_never_got_is_submitted_again(array, slurm):
    write_array(array)
    assert adopt_array(array.folder) is None
    assert submit_array(array) == "40"
    assert job_ids(array) == ["40_0", "40_4", "40_5"]


def test_a_folder_without_an_array(tmp_path, slurm):
    assert (array_state(tmp_path), adopt_array(tmp_path), drop_array(tmp_path)) == ("empty", None, None)
    assert slurm.calls == []


@pytest.mark.parametrize("look", [array_state, adopt_array, drop_array])
def test_a_record_that_can_not_be_read_gives_nothing_up(array, slurm, look):
    write_array(array)
    written = (array.folder / "array.json").read_bytes()
    (array.folder / "array.json").write_bytes(b"{")
    with pytest.raises(ArrayError, match=r"array\.json can't be read .*`squeue --name` shows none"):
        look(array.folder)
    assert not (array.folder / "claimed").exists()
    (array.folder / "array.json").write_bytes(written)
    slurm.answer("squeue", "40\n")
    assert adopt_array(array.folder) == "40"


def test_nothing_looks_for_an_array_that_was_never_written(tmp_path, slurm):
    assert adopt_array(tmp_path) is None
    assert slurm.calls == []


# ---------------------------------------------------------------- submitted twice


def test_of_two_arrays_of_one_name_the_older_is_kept(array, slurm):
    write_array(array)
    slurm.answer("squeue", "41\n40\n41\n")
    assert adopt_array(array.folder) == "40"
    assert [call for call in slurm.calls if call.startswith("scancel")] == ["scancel 41"]


def test_an_array_that_began_before_the_other_was_submitted_is_kept(array, slurm):
    write_array(array)
    claim(array.folder / "claimed", "39")  # SLURM had it, and did not say so
    assert submit_array(array) == "39"
    assert job_ids(array) == ["39_0", "39_4", "39_5"]
    assert slurm.calls[-1] == "scancel 40"


def test_a_second_array_that_can_t_be_cancelled_ends_by_itself(array, slurm):
    write_array(array)
    claim(array.folder / "claimed", "39")
    slurm.answer("scancel", err="scancel: error: no\n", code=1)
    assert submit_array(array) == "39"


def test_an_array_that_was_given_up_runs_nothing_should_it_turn_up(array, slurm):
    write_array(array)
    assert drop_array(array.folder) is None
    assert array_state(array.folder) == "dropped"
    assert claim(array.folder / "claimed", "40") == "nobody", "what its tasks are told"
    slurm.answer("squeue", "40\n")
    assert adopt_array(array.folder) is None
    with pytest.raises(ArrayError, match="was given up"):
        submit_array(array)


def test_giving_an_array_up_is_completed_after_a_kill(array, slurm):
    write_array(array)
    claim(array.folder / "claimed", "nobody")  # killed before it wrote that down
    with pytest.raises(ArrayError, match="was given up"):
        submit_array(array)
    slurm.answer("squeue", "40\n41\n")  # and SLURM had it
    assert adopt_array(array.folder) is None
    assert (array_state(array.folder), job_ids(array)) == ("dropped", [None, None, None])
    assert [call for call in slurm.calls if call.startswith("sc")] == ["scancel 40", "scancel 41"]


# ---------------------------------------------------------------- an attempt that two arrays want


def other_array(array: ArrayJob) -> ArrayJob:
    """Of another sweep that has the second run too."""
    folder = array.folder.parents[2] / "other" / "arrays" / "0001"
    return replace(array, folder=folder, name="other-0001-1234", jobs=array.jobs[1:2], indices=(0,))


def run_of(array: ArrayJob) -> RunDirectory:
    return Attempt(array.jobs[1].attempt_path).run


def test_an_attempt_is_a_task_of_the_first_array_that_wants_it(array, slurm):
    write_array(array)
    other = other_array(array)
    with pytest.raises(SubmissionError, match=rf"is being submitted by another command, as a task of {array.folder}"):
        submit_array(other)
    assert array_state(other.folder) == "dropped"
    assert slurm.calls == []
    assert submit_array(array) == "40"


def test_a_run_in_an_array_that_may_be_submitted_is_held(array, slurm):
    require_no_array(run_of(array))
    write_array(array)
    with pytest.raises(HeldError, match=r"(?s)the sweep study is submitting the run .*type that command again"):
        require_no_array(run_of(array))
    (array.folder / "array.json").unlink()  # its submitter was killed a moment before it was written
    with pytest.raises(HeldError):
        require_no_array(run_of(array))
    assert not is_free_again(Attempt(array.jobs[1].attempt_path))
    drop_array(array.folder)
    require_no_array(run_of(array))
    assert is_free_again(Attempt(array.jobs[1].attempt_path))


def test_a_run_in_an_array_that_was_submitted_is_no_longer_the_array_s(array, slurm):
    submit_array(array)
    require_no_array(run_of(array))
    assert not is_free_again(Attempt(array.jobs[1].attempt_path))


def test_an_array_that_turns_up_while_it_is_given_up_is_kept(array, slurm):
    write_array(array)
    claim(array.folder / "claimed", "40")
    assert drop_array(array.folder) == "40"
    assert (array_state(array.folder), job_ids(array)) == ("submitted", ["40_0", "40_4", "40_5"])


# ---------------------------------------------------------------- limits and classes


def test_limits_are_what_the_cluster_says_or_else_slurm(job_of, slurm):
    assert max_array_size(job_of(1, cluster__slurm__max_array_size=50).config) == 50
    config = job_of(2).config
    slurm.answer("scontrol", "MaxArraySize            = 1001\nMaxDBDMsgs = 20024\n")
    assert max_array_size(config) == 1001
    assert slurm.calls[-1] == "scontrol show config"
    slurm.answer("scontrol", err=UNREACHABLE, code=1)
    with pytest.raises(SchedulerError, match=r"Unable to contact.*type cluster\.slurm\.max_array_size=N"):
        max_array_size(config)
    slurm.answer("scontrol", "MaxArraySize            = 0\n")
    with pytest.raises(SchedulerError, match="takes no job arrays"):
        max_array_size(config)
    slurm.remove("scontrol")
    with pytest.raises(SchedulerError, match="is not on PATH"):
        max_array_size(config)


def test_runs_that_ask_for_the_same_share_a_class(job_of):
    one, two = job_of(1), job_of(2, name="other", training__steps=7, optim__lr=0.5)
    assert resource_class(one) == resource_class(two)


@pytest.mark.parametrize(
    "leaves",
    [
        {"cluster__time_limit_min": 31},
        {"cluster__nodes": 1},
        {"cluster__partition": "high"},
        {"cluster__name": "other"},
        {"cluster__slurm__environment": {"A": "b"}},
        {"cluster__slurm__setup": ["module load cuda"]},
        {"cluster__slurm__python": "/usr/bin/python3"},
        {"cluster__slurm__requeue": False},
        {"cluster__slurm__comment": "mine"},
        {"cluster__slurm__dependency": "afterok:7"},
        {"cluster__slurm__slurm_conf": "/other"},
        {"cluster__slurm__array_parallelism": 3},
        {"cluster__slurm__preflight_timeout_s": 1},
        {"cluster__slurm__additional_parameters": {"nice": 1}},
        {"cluster__slurm__container_image": "x.sqsh"},
    ],
    ids=lambda leaves: next(iter(leaves)),
)
def test_runs_that_ask_for_other_things_do_not(job_of, leaves):
    assert resource_class(job_of(1)) != resource_class(job_of(2, **leaves))


def test_bad_nodes_are_kept_away_from_all_tasks(array, tmp_path):
    file = tmp_path / "outputs" / ".cluster" / "slurm_dev" / "exclude"
    file.parent.mkdir(parents=True)
    file.write_text("gpu07  # it was bad\n")
    write_array(array)
    assert "#SBATCH --exclude=gpu07\n" in (array.folder / "array.sh").read_text()
