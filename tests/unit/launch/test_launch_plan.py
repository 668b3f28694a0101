"""Whether a run is complete."""

import pytest
from fake_run import FakeRun

from mmhydra.compose import Request
from mmhydra.compose.request import LazyProvenance
from mmhydra.config.explain import Provenance
from mmhydra.launch.freeze import Plan, run_directory
from mmhydra.run.identity import identify
from mmhydra.run.status import Status


@pytest.fixture
def plan(tmp_path, default_config, change):
    def make(**leaves: object) -> Plan:
        dotted = {name.replace("__", "."): value for name, value in leaves.items()}
        config = change(default_config, {"paths.outputs": str(tmp_path), **dotted})
        request = Request(config, (), None, confirm=False, origins=LazyProvenance(lambda: Provenance([])))
        identity = identify(config, {}, None)
        plan = Plan(request, {}, identity, run_directory(config, identity))
        plan.run.create(plan.identity)
        return plan

    return make


def save(plan: Plan, *steps: int) -> None:
    run = FakeRun(plan.config, plan.run, {})
    run.save(run.start(), *steps)


def end(plan: Plan, state: str) -> None:
    plan_attempt = plan.run.new_attempt()
    Status(state=state, exit_code=None, step=1, message="").write(plan_attempt.status)


def test_the_folder_is_named_after_the_identity(plan, tmp_path):
    one = plan()
    assert one.run.path == tmp_path / "debug" / one.identity.run_id


def test_a_run_is_complete_when_its_last_step_is_stamped(plan):
    one = plan(training__steps=300)
    assert not one.is_complete
    save(one, 100, 200)
    assert not one.is_complete
    save(one, 300)
    assert one.is_complete


@pytest.mark.parametrize("name", ["stamp.json", "__0_0.distcp", ".metadata"])
def test_a_run_whose_last_checkpoint_is_damaged_is_not_complete(plan, name):
    one = plan(training__steps=300)
    save(one, 300)
    (one.run.checkpoints / "step-00000300" / name).write_text("{}")
    assert not one.is_complete


def test_a_good_end_without_the_last_stamp_is_not_complete(plan):
    one = plan(training__steps=300)
    end(one, "done")
    save(one, 200)
    assert not one.is_complete


def test_a_token_budget_ends_at_a_step_too(plan):
    one = plan(training__steps=None, training__tokens=2049)
    save(one, 2)
    assert one.is_complete


def test_a_seed_checkpoint_is_a_complete_run_of_no_steps(plan):
    one = plan(training__steps=0)
    assert not one.is_complete
    save(one, 0)
    assert one.is_complete


def test_an_evaluation_saves_nothing_and_is_complete_when_it_ended_well(plan):
    one = plan(training__steps=0, checkpoint__init_from="/seed")
    end(one, "failed")
    assert not one.is_complete
    end(one, "done")
    assert one.is_complete


def test_without_checkpoints_the_newest_attempt_decides(plan):
    one = plan(checkpoint__enabled=False)
    assert not one.is_complete
    end(one, "done")
    assert one.is_complete
    end(one, "failed")
    assert not one.is_complete
    one.run.new_attempt()  # killed before its first status
    assert not one.is_complete
