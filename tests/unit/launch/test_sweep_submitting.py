"""A sweep against a SLURM of scripts: what is recorded when, what a second command does, what a refusal says."""

import json

import pytest
from fake_slurm import squeue_row
from sweep_place import finish, newest, words

from mmhydra.errors import ExitCode, UserError
from mmhydra.files import read_object
from mmhydra.launch.slurm import SubmissionError
from mmhydra.launch.sweeps import submitting
from mmhydra.launch.sweeps.freezing import Frozen, kept_origin
from mmhydra.launch.sweeps.holding import holding
from mmhydra.launch.sweeps.replaying import points_of
from mmhydra.launch.sweeps.submitting import submit_points
from mmhydra.run.directory import Attempt, RunDirectory
from mmhydra.run.lease import HeldError, hold
from mmhydra.sweep.record import sweep_directory

CLASSES = "zip: [{optim.lr: [1e-3, 2e-3, 3e-3], cluster.time_limit_min: [5, 6, 7]}]\naxes: {seed.data: [1, 2]}\n"


def test_a_class_is_an_array_and_the_same_command_again_submits_nothing(tools, submit, capsys):
    sweep = submit(CLASSES)
    assert tools.num_submitted == 3
    out = capsys.readouterr().out
    assert "sweep mine: 6 points submitted" in out
    assert "101 (2 points), 102 (2 points), 103 (2 points)" in " ".join(out.split())
    tools.queue(sweep)
    assert words(sweep) == ["pending"] * 6
    before = sweep.record.read_bytes()
    submit(CLASSES)
    assert tools.num_submitted == 3
    assert "submitted  nothing" in capsys.readouterr().out
    assert json.loads(before)["points"] == json.loads(sweep.record.read_bytes())["points"]
    assert [attempt.number for attempt in newest(sweep)] == [1] * 6


def test_patches_and_provenance_are_those_of_the_sweep_and_links_to_one_file(tools, submit):
    sweep = submit(CLASSES)
    attempts = newest(sweep)
    assert len({attempt.code_patch.stat().st_ino for attempt in attempts}) == 1
    provenances = [attempt.provenance() for attempt in attempts]
    assert {provenance["sweep"] for provenance in provenances} == {"mine"}
    assert len({provenance["snapshot"] for provenance in provenances}) == 1
    assert sweep.read().code["snapshot"] == provenances[0]["snapshot"]
    for attempt, point in zip(attempts, sweep.read().points, strict=True):
        assert attempt.read_frozen()[1]
        assert attempt.provenance()["config_sha256"] == point.config_sha256
        assert attempt.provenance()["run_id"] == point.run_id


def test_a_refusal_in_the_middle_says_what_is_left_and_the_same_command_goes_on(tools, submit, tmp_path):
    tools.refused.write_text("2")
    with pytest.raises(SubmissionError) as raised:
        submit(CLASSES)
    told = str(raised.value)
    assert "QOSMaxSubmitJobPerUserLimit" in told
    assert "2 points are submitted (101), 4 are left; the same command goes on with these" in told
    sweep = sweep_directory(tmp_path / "outputs", "mine")
    tools.queue(sweep)
    assert words(sweep).count("pending") == 2
    submit(CLASSES)
    tools.queue(sweep)
    assert tools.num_submitted == 4
    assert words(sweep) == ["pending"] * 6
    ids = [json.loads(attempt.submitted.read_text())["job_id"] for attempt in newest(sweep)]
    assert len(set(ids)) == 6
    assert [attempt.number for attempt in newest(sweep)] == [1] * 6, "what was not submitted is no attempt"
    assert not any(attempt.outcome.exists() or attempt.status.exists() for attempt in newest(sweep))


def test_what_was_frozen_and_not_submitted_is_taken_as_it_is(tools, submit, monkeypatch, tmp_path):
    def stop(array):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("mmhydra.launch.sweeps.submitting.submit_array", stop)
        with pytest.raises(KeyboardInterrupt):
            submit(CLASSES)
    sweep = sweep_directory(tmp_path / "outputs", "mine")
    assert words(sweep) == ["frozen"] * 6
    submit(CLASSES)
    assert [attempt.number for attempt in newest(sweep)] == [1] * 6


def test_points_that_are_gone_are_told_and_pruned(tools, submit, capsys):
    sweep = submit("axes: {seed.data: [1, 2, 3]}\n")
    tools.queue(sweep)
    submit("axes: {seed.data: [1, 4]}\n")
    tools.queue(sweep)
    out = capsys.readouterr().out
    assert "note: not in the study any more: seed.data=2, seed.data=3; --prune" in " ".join(out.split())
    assert [(point.number, point.in_study) for point in sweep.read().points] == [
        (1, True),
        (4, True),
        (2, False),
        (3, False),
    ]
    assert not (tools.folder / "cancelled").exists()
    submit("axes: {seed.data: [1, 4]}\n", prune=True)
    assert "2 points are taken out of the sweep" in capsys.readouterr().out
    assert "101_[1-2]" in (tools.folder / "cancelled").read_text()
    assert [point.number for point in sweep.read().points] == [1, 4]


def test_too_dear_a_sweep_is_refused_before_anything_is_written(tools, submit, tmp_path):
    with pytest.raises(UserError, match=r"(?s)slurm_dev: 6 points, at most 0\.6 GPU-hours.*needs confirm=true"):
        submit(CLASSES, "cluster.confirm_gpu_hours=0.5")
    assert not (tmp_path / "outputs" / "sweeps").exists()
    assert tools.num_submitted == 0
    submit(CLASSES, "cluster.confirm_gpu_hours=0.5", "confirm=true")
    assert tools.num_submitted == 3


def test_one_command_at_a_time(tools, submit):
    sweep = submit(CLASSES)
    with holding(sweep), pytest.raises(UserError, match="the sweep mine is being submitted or driven, started"):
        submit(CLASSES)


def test_frozen_scripts_are_told_in_the_order_in_which_they_are_submitted(tools, submit, capsys):
    stages = (
        "stages:\n  a: {axes: {optim.lr: [1e-3, 2e-3]}}\n"
        "  b: {after: a, start: none, overrides: [tag=b], axes: {seed.data: [1, 2, 3]}}\n"
    )
    sweep = submit(stages, "dry_run=freeze")
    out = capsys.readouterr().out
    assert tools.num_submitted == 0
    assert "ARRAY_0001=$(sbatch --parsable " in out
    assert out.index("arrays/0001/array.sh") < out.index("--dependency=afterok:${ARRAY_0001}_0")
    assert words(sweep)[:2] == ["frozen"] * 2


def test_a_met_stop_rule_submits_nothing_more(tools, submit, capsys):
    sweep = submit("axes: {seed.data: [1]}\n")
    tools.queue(sweep)
    (attempt,) = newest(sweep)
    attempt.metrics.write_text('{"kind": "validation", "step": 100, "val_loss": 1.5}\n')
    submit("axes: {seed.data: [1, 2]}\nstop: {metric_below: 2.0}\n")
    assert tools.num_submitted == 1
    assert "the study's stop rule is met (val_loss 1.5000 is below 2)" in capsys.readouterr().out


# ---------------------------------------------------------------- runs that somebody else has


def test_a_run_in_an_array_whose_submitter_was_killed_is_not_submitted_by_another_sweep(
    tools, submit, monkeypatch, tmp_path, capsys
):
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("mmhydra.launch.array._settle", killed)
        with pytest.raises(KeyboardInterrupt):
            submit("axes: {seed.data: [1, 2]}\n")
    assert tools.num_submitted == 1
    other = submit("axes: {seed.data: [2, 3]}\n", name="other")
    assert tools.num_submitted == 2
    assert "note: not submitted: the sweep mine is submitting the run " in capsys.readouterr().out
    assert [attempt.submitted.exists() for attempt in newest(other)] == [False, True]

    tools._script("squeue", f'case "$*" in *--name=mine*) echo 101 ;; *) cat {tools.folder}/queue 2>/dev/null ;; esac')
    mine = submit("axes: {seed.data: [1, 2]}\n")
    tools.queue(mine, other)
    assert [json.loads(attempt.submitted.read_text())["job_id"] for attempt in newest(mine)] == ["101_0", "101_1"]
    submit("axes: {seed.data: [2, 3]}\n", name="other")
    assert tools.num_submitted == 2, "each run once"


def test_a_run_of_an_array_that_slurm_never_got_is_free_for_another_sweep(tools, submit, monkeypatch):
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("mmhydra.launch.array.executor_of_array", killed)
        with pytest.raises(KeyboardInterrupt):
            submit("axes: {seed.data: [1]}\n")
    other = submit("axes: {seed.data: [1]}\n", name="other")
    assert tools.num_submitted == 0
    submit("axes: {seed.data: [3]}\n")  # the command again, with its study edited: what it has not any more it gives up
    submit("axes: {seed.data: [1]}\n", name="other")
    assert tools.num_submitted == 2
    assert [attempt.number for attempt in newest(other)] == [1]


def test_a_run_that_is_held_does_not_keep_the_others_from_being_submitted(tools, submit, capsys):
    stages = "stages:\n  a: {axes: {seed.data: [1, 2]}}\n  b: {after: a, start: none, overrides: [optim.lr=2e-3]}\n"
    sweep = submit(stages)
    assert tools.num_submitted == 2
    tools.queue(sweep, state="CANCELLED")
    held, free, child_of_held, child_of_free = (sweep.run(point) for point in sweep.read().points)
    owner = {"host": "n1", "pid": 7, "since": "2026-01-01T00:00:00", "attempt": 1, "released": False, "job": "101_0"}
    held.lease.write_text(json.dumps(owner))  # by a job that was cancelled a moment ago
    capsys.readouterr()
    submit(stages)
    told = f"note: not submitted: the run {held.path} is under way, started by SLURM job 101_0"
    assert told in capsys.readouterr().out

    def job_of(run: RunDirectory) -> str | None:
        return read_object(run.attempts[-1].submitted).get("job_id")

    assert [job_of(run) for run in (held, free, child_of_free)] == ["101_0", "103_0", "104_0"]
    assert job_of(child_of_held) is None, "it can't wait for a job that is not there"
    held.lease.write_text(json.dumps({**owner, "released": True}))
    (tools.folder / "queue").write_text("".join(f"{squeue_row(job, 'PENDING')}\n" for job in ("103_0", "104_0")))
    submit(stages)
    assert [job_of(run) for run in (held, free, child_of_held, child_of_free)] == ["105_0", "103_0", "106_0", "104_0"]


def test_a_new_run_is_frozen_by_one_command_at_a_time(tools, submit, monkeypatch):
    freeze, held = Attempt.freeze, []

    def freezing(self: Attempt, *arguments: object) -> None:
        with pytest.raises(HeldError), hold(self.run):
            pass
        held.append(self)
        freeze(self, *arguments)

    monkeypatch.setattr(Attempt, "freeze", freezing)
    submit("axes: {seed.data: [1, 2]}\n")
    assert len(held) == 2


def test_a_run_that_another_sweep_submits_while_this_one_looks_is_submitted_once(tools, submit, monkeypatch, capsys):
    freeze_free, rivals = submitting.freeze_free, ["other"]

    def overtaken(*arguments: object) -> Frozen:
        if rivals:
            submit("axes: {seed.data: [1]}\n", name=rivals.pop())
        return freeze_free(*arguments)

    monkeypatch.setattr(submitting, "freeze_free", overtaken)
    mine = submit("axes: {seed.data: [1, 2]}\n")
    assert tools.num_submitted == 2
    assert "was started meanwhile, attempt 1, job 101_0" in capsys.readouterr().out
    assert [read_object(attempt.submitted)["job_id"] for attempt in newest(mine)] == ["101_0", "102_0"]


def test_points_that_slurm_took_without_a_word_are_not_submitted_again(tools, submit):
    sweep = submit("axes: {seed.data: [1]}\n")
    finish(sweep, sweep.read().points[0], code=ExitCode.FAILED)
    origin = kept_origin(sweep)
    points = points_of(sweep.read(), origin)
    tools._script("sbatch", f"echo x >> {tools.folder}/count; echo 'Socket timed out' >&2; exit 1")
    tools._script("squeue", "echo 'Unable to contact slurm controller' >&2; exit 1")
    with pytest.raises(SubmissionError, match="can't be found out"):
        submit_points(sweep, points, origin)
    assert (tools.num_submitted, words(sweep)) == (2, ["frozen"])

    tools._script("squeue", f'case "$*" in *--name=*) echo 102 ;; *) echo "{squeue_row("102_0", "PENDING")}" ;; esac')
    submit_points(sweep, points, origin)
    assert (tools.num_submitted, words(sweep)) == (2, ["pending"])
    assert [attempt.number for attempt in newest(sweep)] == [2]


def test_an_attempt_that_was_refused_and_that_another_sweep_takes_up_is_submitted_once(tools, submit, monkeypatch):
    one = "axes: {seed.data: [1]}\n"
    tools.refused.write_text("1")
    with pytest.raises(SubmissionError):
        submit(one)
    freeze_free, rivals = submitting.freeze_free, ["other"]

    def overtaken(*arguments: object) -> Frozen:
        if rivals:
            submit(one, name=rivals.pop())
        return freeze_free(*arguments)

    monkeypatch.setattr(submitting, "freeze_free", overtaken)
    mine = submit(one)
    assert tools.num_submitted == 2, "the one that was refused, and one that was not"
    assert [read_object(attempt.submitted)["job_id"] for attempt in newest(mine)] == ["102_0"]
    assert [attempt.number for attempt in newest(mine)] == [1]
