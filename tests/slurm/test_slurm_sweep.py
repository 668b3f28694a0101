"""Sweeps on a real SLURM: arrays, repeating, killed submitters, points that were removed, stages."""

import json
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from slurm_place import ENDED, NO_PREFLIGHT, ONE, SlurmPlace, Submitted
from workplace import records

pytestmark = pytest.mark.slow

HELD = "++cluster.slurm.additional_parameters={hold: true}"
PLAIN = tuple(one for one in ONE if not one.startswith(("optim.warmup_steps", "training.validation_interval")))
TINY = (NO_PREFLIGHT, "optim.warmup_steps=1", "training.validation_interval=null", "checkpoint.interval=3")
THREE = "training.steps=3"
# Two resource classes: the time limit is no part of what a run is.
TWO_CLASSES = [{"optim.lr": ["1e-3", "2e-3"], "cluster.time_limit_min": [5, 6]}]

Study = Callable[..., str]


@pytest.fixture
def study(tmp_path) -> Study:
    """Writes a study, and returns its name; `lab` beside it is the folder to give to --config-dir."""

    def write(name: str, **parts: Any) -> str:
        file = tmp_path / "lab" / "sweeps" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        document = {"question": "Does it work?", "stop_rule": "When all have ended.", **parts}
        file.write_text(yaml.safe_dump(document, sort_keys=False))
        return name

    return write


@pytest.fixture
def lab(tmp_path) -> tuple[str, str]:
    return ("--config-dir", str(tmp_path / "lab"))


def sweep(place: SlurmPlace, name: str) -> dict[str, Any]:
    return dict(json.loads((place.outputs / "sweeps" / name / "sweep.json").read_text()))


def tasks(place: SlurmPlace, name: str) -> list[str]:
    """`JOB_TASK STATE` of all tasks of a sweep that SLURM knows and that have not ended."""
    rows = place.cluster.run("squeue", "-h", "-r", "-o", "%i %T %j").stdout.splitlines()
    return [row for row in rows if row.split()[2].startswith(f"{name}-")]


def attempts(place: SlurmPlace, name: str) -> dict[str, list[Path]]:
    """Attempts of each run."""
    runs = {point["run_id"]: place.outputs / point["name"] / point["run_id"] for point in sweep(place, name)["points"]}
    return {run_id: sorted((path / "attempts").iterdir()) for run_id, path in runs.items()}


def require_one_job_each(place: SlurmPlace, name: str) -> None:
    """Each run has one task that waits, and that is the one that it names."""
    found = attempts(place, name)
    named = {json.loads((each[-1] / "submitted.json").read_text())["job_id"] for each in found.values()}
    assert len(named) == len(found)
    assert sorted(row.split()[0] for row in tasks(place, name)) == sorted(named)
    scripts = [file.read_text() for file in (place.outputs / "sweeps" / name).glob("arrays/*/tasks.tsv")]
    assert scripts


def test_plain_points_share_an_array_by_what_they_ask_for(place) -> None:
    steps = ("training.steps=6", "checkpoint.interval=3")
    points = place.run("-m", *ONE, NO_PREFLIGHT, *steps, "seed.model=1,2", "hydra.launcher.timeout_min=7")
    assert points.code == 0, points.text
    assert "2 points submitted" in points.out
    rows = place.cluster.run("squeue", "-h", "-r", "-t", "all", "-o", "%i %l %j").stdout.splitlines()
    jobs = [row.split() for row in rows if "multirun-" in row and row.split()[1] == "7:00"]
    assert len({job_id.partition("_")[0] for job_id, _, _ in jobs}) == 1
    assert len(jobs) == 2
    for job_id, _, _ in jobs:
        place.cluster.wait_for(lambda job_id=job_id: place.cluster.state(job_id) in ENDED, 180, f"job {job_id}")
        assert place.cluster.state(job_id) == "COMPLETED"
    assert len(list(place.outputs.glob("debug/*/checkpoints/step-00000006/stamp.json"))) == 2
    assert len(list(place.outputs.glob(".store/code/*"))) == 1, "the code is stored once"

    again = place.run("-m", *ONE, NO_PREFLIGHT, *steps, "seed.model=1,2", "hydra.launcher.timeout_min=7")
    assert again.code == 0, again.text
    assert "2: 2 done" in again.out
    assert len(list(place.outputs.glob("debug/*/attempts/*"))) == 2

    wrong = place.run("-m", *ONE, *steps, "seed.model=3,4", "model.dim=128,129")
    assert wrong.code == 2
    assert "2 of 4 points can't run, so none is started" in wrong.err
    assert "submitted" not in wrong.out


def test_a_frozen_script_is_left_to_a_person_who_may_submit_it_again(place) -> None:
    frozen = place.run(*ONE, NO_PREFLIGHT, "training.steps=6", "checkpoint.interval=3", "dry_run=freeze")
    assert frozen.code == 0, frozen.text
    assert "frozen, not submitted" in frozen.out
    run = Submitted(place.cluster, place, place.newest_run())
    script = run.path / "slurm" / "submit.sh"
    assert not place.cluster.run("squeue", "-h", "-n", f"debug-{run.path.name}").stdout
    first = place.cluster.run("sbatch", "--parsable", str(script)).stdout.strip()
    run.wait_for_step(1)
    assert run.attempts == ["0001"]
    place.cluster.run("scancel", first)
    again = place.cluster.run("sbatch", "--parsable", str(script)).stdout.strip()
    place.cluster.wait_for(lambda: place.cluster.state(again) in ENDED, 120, f"job {again}\n{run.logs()}")
    assert place.cluster.state(again) == "COMPLETED", run.logs()
    assert run.document("job.json")["job_id"] == again
    assert sorted(run.losses()) == [1, 2, 3, 4, 5, 6]


def test_the_same_command_again_submits_what_is_missing_and_prune_takes_away(place, study, lab) -> None:
    common = {"overrides": [*PLAIN, *TINY, THREE, HELD], "zip": TWO_CLASSES}
    command = ("-m", *lab, f"sweep={study('grow', **common, axes={'seed.data': [1, 2, 3]})}")
    first = place.run(*command)
    assert first.code == 0, first.text
    assert "6 points submitted" in first.out
    assert Counter(row.split()[0].partition("_")[0] for row in tasks(place, "grow")).most_common(1)[0][1] == 3
    require_one_job_each(place, "grow")
    before = tasks(place, "grow")
    again = place.run(*command)
    assert again.code == 0, again.text
    assert "submitted  nothing" in again.out
    assert tasks(place, "grow") == before

    study("grow", **common, axes={"seed.data": [1, 2, 4]})
    changed = place.run(*command)
    assert changed.code == 0, changed.text
    assert "not in the study any more" in changed.out
    assert "2 points submitted" in changed.out
    assert len(tasks(place, "grow")) == 8
    assert [point["number"] for point in sweep(place, "grow")["points"]] == [1, 2, 3, 4, 7, 8, 5, 6]
    pruned = place.run(*command, "--prune")
    assert pruned.code == 0, pruned.text
    assert "2 jobs are cancelled" in pruned.out
    assert "submitted  nothing" in pruned.out
    assert len(sweep(place, "grow")["points"]) == 6
    require_one_job_each(place, "grow")
    assert len(list(place.outputs.glob("debug/*/attempts/0001"))) == 8, "runs stay"


def test_a_submitter_that_is_killed_anywhere_leaves_no_duplicate(place, study, lab, tmp_path) -> None:
    """Ten times -9 at a random moment, and twice just after sbatch has taken an array; then the command again."""
    study("killed", overrides=[*PLAIN, *TINY, THREE, HELD], zip=TWO_CLASSES, axes={"seed.data": [1, 2, 3, 4, 5]})
    began = time.monotonic()
    assert place.run("-m", *lab, "sweep=killed", "tag=whole").code == 0
    whole_s = time.monotonic() - began
    place.cluster.clear()
    wrapper = tmp_path / "bin" / "sbatch"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/bash\n{shutil.which("sbatch")} "$@" && kill -KILL $PPID\n')
    wrapper.chmod(0o755)
    draw = random.Random(7)
    moments = [None, None, *(draw.uniform(0.4 * whole_s, whole_s) for _ in range(10))]
    for number, moment in enumerate(moments):
        command = ("-m", *lab, "sweep=killed", f"tag=t{number}")
        environment = dict(place.environment)
        if moment is None:
            environment["PATH"] = f"{wrapper.parent}:{environment['PATH']}"
        process = subprocess.Popen(
            place.command(*command), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            code = process.wait(moment if moment is not None else 120)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            code = process.wait()
        assert code == -signal.SIGKILL or moment is not None
        again = place.run(*command)
        assert again.code == 0, again.text
        (folder,) = [
            path.parent
            for path in place.outputs.glob("sweeps/killed-*/sweep.json")
            if f"tag=t{number}" in path.read_text()
        ]
        require_one_job_each(place, folder.name)
        assert len(attempts(place, folder.name)) == 10
        assert all(len(each) <= 2 for each in attempts(place, folder.name).values())
        place.cluster.clear()


def test_children_wait_for_their_parents_and_the_best_go_on(place, study, lab) -> None:
    validated = [*PLAIN, NO_PREFLIGHT, "optim.warmup_steps=1", "checkpoint.interval=3"]
    study(
        "staged",
        overrides=[*validated, "optim=adamw_wsd", "training.validation_interval=3", "training.validation_batches=1"],
        metric="val_loss",
        stages={
            "stable": {"overrides": ["training.steps=3"], "axes": {"optim.lr": ["1e-3", "3e-3"]}},
            "decay": {"after": "stable", "start": "extend", "overrides": ["training.steps=6"]},
            "large": {"after": "decay", "start": "init", "best": 1, "overrides": ["training.steps=3", "tag=large"]},
        },
    )
    command = ("-m", *lab, "sweep=staged")
    first = place.run(*command)
    assert first.code == 0, first.text
    assert "4 points submitted" in first.out
    assert "2 unchosen" in first.out
    by_stage: dict[str, list[dict[str, Any]]] = {}
    for point in sweep(place, "staged")["points"]:
        by_stage.setdefault(point["stage"], []).append(point)
    early = by_stage["stable"] + by_stage["decay"]
    ids = [
        json.loads((place.outputs / point["name"] / point["run_id"] / "attempts/0001/submitted.json").read_text())[
            "job_id"
        ]
        for point in early
    ]
    place.cluster.wait_for(lambda: all(place.cluster.state(one) in ENDED for one in ids), 300, "the first two stages")
    assert {place.cluster.state(one) for one in ids} == {"COMPLETED"}
    for point in by_stage["decay"]:
        run = place.outputs / point["name"] / point["run_id"]
        assert sorted(records(run)) == [4, 5, 6], "it goes on where its parent ended"
    second = place.run(*command)
    assert second.code == 0, second.text
    assert "1 point submitted" in second.out
    (chosen,) = [
        point for point in by_stage["large"] if (place.outputs / point["name"] / point["run_id"] / "attempts").is_dir()
    ]
    assert chosen["label"]["optim.lr"] == "3e-3", "the larger rate learns more in three steps"


def test_two_thousand_points_are_two_arrays_and_a_rerun_submits_nothing(place, study, lab) -> None:
    """MaxArraySize of this SLURM is 1001; the jobs are held, so none runs."""
    study("big", overrides=[*PLAIN, *TINY, THREE, HELD], zip=TWO_CLASSES, axes={"seed.data": list(range(1000))})
    command = ("-m", *lab, "sweep=big")
    first = place.run(*command)
    assert first.code == 0, first.text
    assert "2,000 points submitted" in first.out
    assert len(first.out.splitlines()) < 60
    arrays = Counter(row.split()[0].partition("_")[0] for row in tasks(place, "big"))
    assert sorted(arrays.values()) == [1000, 1000]
    again = place.run(*command)
    assert again.code == 0, again.text
    assert "submitted  nothing" in again.out
    assert len(tasks(place, "big")) == 2000
    require_one_job_each(place, "big")
