import os

import pytest
from fake_slurm import FakeSlurm, squeue_row

from mmhydra import cancel


@pytest.fixture
def told(scene, capsys: pytest.CaptureFixture[str]):
    def told(code: int = 0) -> str:
        assert cancel.main([str(scene.path)]) == code
        captured = capsys.readouterr()
        return captured.err if code else captured.out

    return told


def test_an_active_job_is_cancelled_and_its_checkpoint_kept(scene, slurm: FakeSlurm, told) -> None:
    scene.started()
    scene.saved(400)
    slurm.has(squeue_row("123", "RUNNING", nodes="gpu[01-02]"))
    slurm.answer("scancel")
    lines = told().splitlines()
    assert lines[0] == "job 123 is being cancelled; it was RUNNING on 2 nodes"
    assert lines[1] == "the checkpoint of step 400 is kept; this goes on from it:"
    assert "-m mmhydra.train resume=outputs/debug/" in lines[2]
    assert slurm.calls[-1] == "scancel 123"


def test_a_job_that_waits_has_no_checkpoint(scene, slurm: FakeSlurm, told) -> None:
    scene.submitted()
    slurm.has(squeue_row("123", "PENDING", reason="Resources"))
    slurm.answer("scancel")
    assert told().splitlines() == ["job 123 is being cancelled; it was PENDING", "there is no checkpoint yet"]


def test_an_earlier_job_that_is_still_there_goes_too(scene, slurm: FakeSlurm, told) -> None:
    scene.started("122")
    scene.started("123")
    slurm.has(squeue_row("122", "PENDING"))
    slurm.answer("scancel")
    told()
    assert [call for call in slurm.calls if call.startswith("scancel")] == ["scancel 123", "scancel 122"]


def test_nothing_to_cancel(scene, slurm: FakeSlurm, told) -> None:
    assert told() == "nothing to cancel: nothing of this run is at work\n"
    scene.started()
    slurm.has(squeue_row("123", "COMPLETED"))
    assert told() == "nothing to cancel: job 123 is COMPLETED\n"
    slurm.forgets()
    assert told() == "nothing to cancel: job 123 is no longer known to SLURM\n"
    assert not [call for call in slurm.calls if call.startswith("scancel")]


def test_a_local_run_is_told_how_to_end(scene, slurm: FakeSlurm, told) -> None:
    scene.attempt()
    scene.local()
    assert f"kill {os.getpid()}" in told().splitlines()
    scene.local(pid=77, host="elsewhere")
    lines = told().splitlines()
    assert "ssh elsewhere kill 77" in lines
    assert lines[-1].startswith("touch outputs/debug/")
    scene.local(released=True)
    assert told().startswith("nothing to cancel")


def test_slurm_that_refuses_or_is_down(scene, slurm: FakeSlurm, told) -> None:
    scene.started()
    slurm.has(squeue_row("123", "RUNNING"))
    slurm.answer("scancel", err="scancel: error: Kill job error on job id 123: Access/permission denied", code=1)
    assert "permission denied" in told(2)
    slurm.is_down()
    assert "SLURM can't be asked about job 123" in told(2)


def test_no_run(slurm: FakeSlurm, capsys: pytest.CaptureFixture[str]) -> None:
    assert cancel.main(["/nowhere/at/all"]) == 2
    assert "does not exist" in capsys.readouterr().err
