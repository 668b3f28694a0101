"""From a request to an attempt: who may start, and what a second start finds. Nothing is trained."""

import json

import pytest

from mmhydra.compose import Request
from mmhydra.compose.request import LazyProvenance
from mmhydra.config.explain import Provenance
from mmhydra.errors import ExitCode
from mmhydra.launch import submit as module
from mmhydra.launch.freeze import Origin, Plan
from mmhydra.launch.submit import submit
from mmhydra.run.directory import RunDirectory
from mmhydra.run.identity import identify
from mmhydra.run.lease import LeaseError, hold


@pytest.fixture
def start(make_run, monkeypatch):
    """Submits a run that exists already, with one attempt; `meanwhile` happens while the code is being read."""
    run = make_run(training__steps=100)
    trained = []

    def train(attempt, config, progress) -> ExitCode:
        trained.append((attempt.number, json.loads(run.directory.lease.read_bytes())))
        return ExitCode.FAILED

    def submit_it(meanwhile=lambda run: None) -> ExitCode:
        request = Request(run.config, (), None, confirm=False, origins=LazyProvenance(lambda: Provenance([])))
        plan = Plan(request, {}, identify(run.config, {}, None), run.directory)
        git = {"commit": None, "patch_sha256": "0" * 64}

        def read_origin(request: Request, directory: RunDirectory) -> Origin:
            meanwhile(run)
            return Origin({"git": git}, {"code.patch": b""})

        monkeypatch.setattr(module, "plan", lambda request, on_progress: plan)
        monkeypatch.setattr(module, "verify_with_data", lambda request, manifests: None)
        monkeypatch.setattr(module, "read_origin", read_origin)
        monkeypatch.setattr(module, "run_local", train)
        (code,) = submit([request])
        return code

    return run, submit_it, trained


def numbers(run) -> list[int]:
    return [attempt.number for attempt in run.directory.attempts]


def test_the_lease_names_the_attempt_while_it_runs_and_is_given_back(start):
    run, submit_it, trained = start
    assert submit_it() is ExitCode.FAILED
    ((number, lease),) = trained
    assert (number, lease["attempt"], lease["released"]) == (2, 2, False)
    assert json.loads(run.directory.lease.read_bytes())["released"] is True
    assert submit_it() is ExitCode.FAILED
    assert numbers(run) == [1, 2, 3]


def test_a_run_that_somebody_holds_is_refused_and_gets_no_attempt(start):
    run, submit_it, trained = start
    with hold(run.directory), pytest.raises(LeaseError, match="is under way"):
        submit_it()
    assert (numbers(run), trained) == ([1], [])


def test_a_run_that_another_start_completed_meanwhile_is_not_trained_again(start, capsys):
    run, submit_it, trained = start
    code = submit_it(lambda run: run.save(run.start(), 100))
    assert code is ExitCode.DONE
    assert "already complete" in capsys.readouterr().out
    assert (numbers(run), trained) == ([1, 2], [])


def test_a_complete_run_reads_no_code_and_takes_no_lease(start, capsys):
    run, submit_it, _ = start
    run.save(run.start(), 100)
    assert submit_it(lambda run: pytest.fail("the code was read")) is ExitCode.DONE
    assert "already complete" in capsys.readouterr().out
    assert not run.directory.lease.exists()
