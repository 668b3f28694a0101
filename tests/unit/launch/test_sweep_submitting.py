"""A sweep against a SLURM of scripts: what is recorded when, what a second command does, what a refusal says."""

import json
import os
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_slurm import FakeSlurm, squeue_row
from fitting_dataset import write_fitting

from mmhydra.compose import compose
from mmhydra.errors import ExitCode, UserError
from mmhydra.launch.freeze import Origin, read_origin
from mmhydra.launch.slurm import SubmissionError
from mmhydra.launch.sweeps import Asked, advance, compiled, planned_points, submit_sweep
from mmhydra.launch.sweeps.submitting import holding
from mmhydra.run.directory import Attempt
from mmhydra.sweep.record import SweepDirectory, sweep_directory
from mmhydra.sweep.state.states import read_states
from mmhydra.sweep.study.files import Study, read_study

COMMON = """
question: Does it work?
stop_rule: When all have ended.
overrides:
  - data.builder=null
  - training.steps=200
  - cluster=slurm_dev
  - parallel=single
  - cluster.nodes=1
  - cluster.gpus_per_node=1
  - cluster.slurm.max_array_size=1001
"""
CLASSES = "zip: [{optim.lr: [1e-3, 2e-3, 3e-3], cluster.time_limit_min: [5, 6, 7]}]\naxes: {seed.data: [1, 2]}\n"


class Tools(FakeSlurm):
    """sbatch that numbers its jobs and may refuse one, and a queue in which all tasks wait that were submitted."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.refused = folder / "refused"
        here = shlex.quote(str(folder))
        self._script(
            "sbatch",
            f"echo x >> {here}/count; number=$(wc -l < {here}/count)",
            f'if [ "$number" = "$(cat {here}/refused 2>/dev/null)" ]; then',
            "  echo 'sbatch: error: QOSMaxSubmitJobPerUserLimit' >&2; exit 1",
            "fi",
            'echo "Submitted batch job $((number + 100))"',
        )
        self._script("squeue", f'case "$*" in *--name=*) ;; *) cat {here}/queue 2>/dev/null ;; esac')
        self._script("scancel", f'echo "$*" >> {here}/cancelled')
        self._script("sacct", "exit 0")

    def _script(self, name: str, *lines: str) -> None:
        script = self.folder / name
        script.write_text("\n".join(["#!/bin/bash", *lines, ""]))
        script.chmod(0o755)

    def queue(self, sweep: SweepDirectory) -> None:
        """All tasks that were submitted wait."""
        ids = [
            json.loads(attempt.submitted.read_text())["job_id"]
            for point in sweep.read().points
            for attempt in sweep.run(point).attempts
            if attempt.submitted.exists()
        ]
        (self.folder / "queue").write_text("".join(f"{squeue_row(each, 'PENDING')}\n" for each in ids))

    @property
    def num_submitted(self) -> int:
        file = self.folder / "count"
        return len(file.read_text().splitlines()) if file.exists() else 0


@pytest.fixture
def tools(tmp_path, monkeypatch) -> Tools:
    monkeypatch.setenv("MMHYDRA_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MMHYDRA_OUTPUTS", str(tmp_path / "outputs"))
    (tmp_path / "slurm.conf").write_text("")
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))
    fake = Tools(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{fake.folder}{os.pathsep}{os.environ['PATH']}")
    write_fitting(compose(["data.builder=null"]).config)
    known: list[Origin] = []

    def read_once(request, run) -> Origin:  # somebody may be editing the checkout that the tests run in
        if not known:
            known.append(read_origin(request, run))
        return known[0]

    monkeypatch.setattr("mmhydra.launch.sweeps.freezing.read_origin", read_once)
    return fake


@pytest.fixture
def submit(tmp_path) -> Callable[..., SweepDirectory]:
    """Submits the points of a study with these parts."""

    def submit(parts: str, *typed: str, prune: bool = False) -> SweepDirectory:
        file = tmp_path / "lab" / "sweeps" / "mine.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(COMMON + parts)
        asked = Asked("mine", typed, (typed,), (tmp_path / "lab",), prune, ("-m", "sweep=mine", *typed))
        study: Study = read_study(file)
        points = compiled(planned_points(asked, study), asked.config_dirs)
        codes = submit_sweep(asked, study, points)
        assert set(codes) == {ExitCode.DONE}
        return sweep_directory(tmp_path / "outputs", asked.name)

    return submit


def words(sweep: SweepDirectory) -> list[str]:
    return [state.state for state in read_states(sweep, sweep.read())]


def newest(sweep: SweepDirectory) -> list[Attempt]:
    return [sweep.run(point).attempts[-1] for point in sweep.read().points]


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
    with holding(sweep), pytest.raises(UserError, match="the sweep mine is being submitted, started by process"):
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


def test_later_stages_are_composed_as_they_were_or_refused(tools, submit, tmp_path):
    stages = "stages:\n  a: {axes: {optim.lr: [1e-3, 2e-3]}}\n  b: {after: a, best: 1, overrides: [tag=b]}\n"
    sweep = submit(stages)
    tools.queue(sweep)
    assert words(sweep) == ["pending", "pending", "unchosen", "unchosen"]
    assert advance(sweep)
    assert tools.num_submitted == 1
    document = json.loads(sweep.record.read_text())
    document["points"][3]["config_sha256"] = "0" * 64
    sweep.record.write_text(json.dumps(document))
    with pytest.raises(UserError, match=r"point 4 of mine .* is not composed as it was"):
        advance(sweep)


def test_a_met_stop_rule_submits_nothing_more(tools, submit, capsys):
    sweep = submit("axes: {seed.data: [1]}\n")
    tools.queue(sweep)
    (attempt,) = newest(sweep)
    attempt.metrics.write_text('{"kind": "validation", "step": 100, "val_loss": 1.5}\n')
    submit("axes: {seed.data: [1, 2]}\nstop: {metric_below: 2.0}\n")
    assert tools.num_submitted == 1
    assert "the study's stop rule is met (val_loss 1.5000 is below 2)" in capsys.readouterr().out
