"""The submit side of SLURM, with sbatch and squeue as processes that say what SLURM would."""

import json
import os
import re
from pathlib import Path

import pytest
from fake_slurm import FakeSlurm, squeue_row

from mmhydra import paths
from mmhydra.compose import compose
from mmhydra.config.problems import ConfigError
from mmhydra.errors import UserError
from mmhydra.launch.dry_run import script_of
from mmhydra.launch.freeze import Plan, freeze, read_origin
from mmhydra.launch.slurm import SubmissionError, batch_job, require_no_job, submit_attempt
from mmhydra.launch.submit import require_startable
from mmhydra.run.directory import RunDirectory
from mmhydra.run.identity import identify

CONF = "/site/slurm.conf"


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Tools alone on PATH, so no git either: the code is copied as if it were installed."""
    fake = FakeSlurm(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(fake.folder))
    monkeypatch.delenv("SLURM_CONF", raising=False)
    monkeypatch.setattr(paths, "checkout", lambda: None)
    fake.answer("sbatch", "Submitted batch job 4711\n")
    return fake


@pytest.fixture
def request_of(tmp_path):
    def make(*overrides: str, cluster: str = "slurm_dev", slurm_conf: object = CONF):
        folders = [f"paths.outputs={tmp_path / 'outputs'}", f"paths.data={tmp_path / 'data'}"]
        conf = [f"cluster.slurm.slurm_conf={slurm_conf}"] if cluster != "local" else []
        size = ["cluster.nodes=2", "cluster.gpus_per_node=1"] if cluster != "local" else []
        return compose([f"cluster={cluster}", *conf, *size, *folders, *overrides])

    return make


@pytest.fixture
def frozen(tmp_path, slurm, request_of):
    """An attempt of a run, frozen but not yet submitted."""

    def make(*overrides: str):
        request = request_of(*overrides)
        identity = identify(request.config, {}, None)
        run = RunDirectory(tmp_path / "outputs" / "debug" / identity.run_id)
        return freeze(Plan(request, {}, identity, run), read_origin(request, run)), request.config

    return make


def submit(frozen) -> str:
    attempt, config = frozen
    return submit_attempt(attempt, batch_job(attempt, config))


# ---------------------------------------------------------------- sbatch


def test_a_submission_is_written_down(frozen, slurm):
    attempt, _ = given = frozen()
    assert submit(given) == "4711"
    document = json.loads(attempt.submitted.read_text())
    assert (document["job_id"], document["cluster"]) == ("4711", "slurm_dev")
    script = Path(document["script"])
    assert script == attempt.run.slurm / "4711_submission.sh"
    provenance = attempt.provenance()
    text = script.read_text()
    for part in (
        str(attempt.path),
        provenance["snapshot"],
        f"config={provenance['config_sha256']}",
        f"code={provenance['git']['snapshot_sha256']}",
        "#SBATCH --nodes=2",
        "#SBATCH --partition=main",
    ):
        assert part in text
    assert (attempt.run.slurm / "4711_submitted.pkl").is_file()
    assert [call.split()[0] for call in slurm.calls] == ["sbatch"]


def test_slurm_conf_is_set_for_the_call_alone(frozen, slurm, monkeypatch):
    submit(frozen())
    assert slurm.environment_of("sbatch")["SLURM_CONF"] == CONF
    assert "SLURM_CONF" not in os.environ
    monkeypatch.setenv("SLURM_CONF", "/mine")
    slurm.answer("sbatch", err="sbatch: error: no\n", code=1)
    with pytest.raises(SubmissionError):
        submit(frozen())
    assert slurm.environment_of("sbatch")["SLURM_CONF"] == CONF
    assert os.environ["SLURM_CONF"] == "/mine"


def test_no_variable_of_the_shell_replaces_what_the_script_says(frozen, slurm, monkeypatch):
    monkeypatch.setenv("SBATCH_PARTITION", "other")
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "4096")
    submit(frozen())
    assert not {"SBATCH_PARTITION", "SLURM_MEM_PER_CPU"} & slurm.environment_of("sbatch").keys()
    assert os.environ["SBATCH_PARTITION"] == "other"


@pytest.mark.parametrize(
    "said",
    [
        "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified",
        "sbatch: error: invalid partition specified: nope",
        "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)",
    ],
)
def test_what_sbatch_refuses_is_told_in_its_words(frozen, slurm, said):
    attempt, _ = given = frozen()
    slurm.answer("sbatch", err=f"{said}\n", code=1)
    with pytest.raises(SubmissionError) as refusal:
        submit(given)
    assert str(refusal.value) == f"cluster=slurm_dev did not take the job, sbatch says: {said}"
    assert not attempt.submitted.exists()


def test_an_answer_without_a_job_id_is_told(frozen, slurm):
    given = frozen()
    slurm.answer("sbatch", "welcome to our cluster\n")
    with pytest.raises(SubmissionError, match="did not take the job"):
        submit(given)


def test_an_sbatch_that_went_away_is_told(frozen, slurm):
    given = frozen()
    slurm.remove("sbatch")
    with pytest.raises(SubmissionError, match="sbatch"):
        submit(given)


# ---------------------------------------------------------------- who may start


def test_without_sbatch_or_its_configuration_a_start_is_refused_before_all_else(slurm, request_of, tmp_path):
    with pytest.raises(ConfigError, match=r"/site/slurm.conf does not exist; type its path"):
        require_startable(request_of())
    with pytest.raises(ConfigError, match=r"does not exist; type scripts/slurm-dev start"):
        require_startable(request_of(slurm_conf=tmp_path / ".slurm-dev" / "slurm.conf"))
    there = tmp_path / "slurm.conf"
    there.touch()
    require_startable(request_of(slurm_conf=there))
    slurm.remove("sbatch")
    with pytest.raises(ConfigError, match="reached by sbatch, which is not on the PATH of this machine"):
        require_startable(request_of(slurm_conf=there))


@pytest.fixture
def submitted(frozen):
    attempt, _ = given = frozen()
    submit(given)
    return attempt


def test_a_run_that_was_never_submitted_asks_nobody(frozen, slurm):
    attempt, _ = frozen()
    require_no_job(attempt.run)
    assert slurm.calls == []


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "COMPLETING", "REQUEUED", "SUSPENDED"])
def test_a_job_that_is_active_is_in_the_way(submitted, slurm, state):
    slurm.has(squeue_row("4711", state))
    with pytest.raises(UserError) as refusal:
        require_no_job(submitted.run)
    text = str(refusal.value)
    assert f"is under way as SLURM job 4711 ({state})" in text
    assert re.search(r"-m mmhydra\.status \S+\nto end it\n  \S+ -m mmhydra\.cancel \S+$", text)
    assert slurm.environment_of("squeue")["SLURM_CONF"] == CONF


@pytest.mark.parametrize("state", ["COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"])
def test_a_job_that_is_over_is_not(submitted, slurm, state):
    slurm.has(squeue_row("4711", state))
    require_no_job(submitted.run)


def test_a_job_that_slurm_forgot_is_not_in_the_way(submitted, slurm):
    slurm.forgets()
    require_no_job(submitted.run)


def test_where_slurm_can_t_be_asked_a_start_is_refused(submitted, slurm):
    slurm.is_down()
    with pytest.raises(UserError, match=r"(?s)may be under way as SLURM job 4711, and SLURM can't be asked"):
        require_no_job(submitted.run)


@pytest.mark.parametrize(("requeue", "refused"), [(True, True), (False, False)])
def test_where_slurm_can_t_be_asked_the_last_outcome_tells(submitted, slurm, requeue, refused):
    slurm.is_down()
    submitted.outcome.write_text(json.dumps({"exit_code": 1, "requeue": requeue}))
    if refused:
        with pytest.raises(UserError, match="may be under way"):
            require_no_job(submitted.run)
    else:
        require_no_job(submitted.run)


# ---------------------------------------------------------------- dry_run=sbatch


def test_a_dry_run_needs_no_data_and_writes_nothing(slurm, request_of, tmp_path, capsys):
    text = script_of(request_of("dry_run=sbatch"))
    assert text.startswith("#!/bin/bash\n")
    assert f"{tmp_path}/outputs/debug/pending/attempts/0001" in text
    err = capsys.readouterr().err
    assert "run id: pending" in err
    assert "MMHYDRA_SUBMITTED_ATTEMPT=" in err
    assert f"MMHYDRA_CODE={tmp_path}/outputs/.store/code/" in text
    assert not (tmp_path / "outputs").exists()
    assert slurm.calls == []


def test_a_dry_run_needs_no_slurm(slurm, request_of):
    slurm.remove("sbatch")
    assert "srun" in script_of(request_of("dry_run=sbatch"))


def test_the_script_of_a_dry_run_is_that_of_the_submission(frozen, request_of):
    attempt, _ = given = frozen()
    submit(given)
    real = next(attempt.run.slurm.glob("*_submission.sh")).read_text()
    planned = script_of(request_of("dry_run=sbatch"))
    run_id = attempt.run.path.name
    options = [[line for line in text.splitlines() if line.startswith("#SBATCH")] for text in (planned, real)]
    assert options[0] == [line.replace(run_id, "pending") for line in options[1]]


def test_a_local_cluster_has_no_script(slurm, request_of):
    with pytest.raises(ConfigError, match="cluster=local has no batch script; type cluster=NAME"):
        script_of(request_of(cluster="local"))
