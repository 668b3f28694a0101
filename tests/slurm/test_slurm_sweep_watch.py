"""A sweep's jobs on a real SLURM, watched and cancelled all together."""

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from slurm_place import NO_PREFLIGHT, ONE, SlurmPlace

pytestmark = pytest.mark.slow

HELD = "++cluster.slurm.additional_parameters={hold: true}"  # so that none of them costs a run


def verb(place: SlurmPlace, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        place.command(*arguments, module=f"mmhydra.{module}"),
        env=place.environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def status(place: SlurmPlace, wanted: str) -> dict[str, Any]:
    done = verb(place, "status", wanted, "--json")
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_three_jobs_are_seen_and_cancelled_together(place: SlurmPlace) -> None:
    submitted = place.run("-m", *ONE, NO_PREFLIGHT, HELD, "optim.lr=1e-3,2e-3,3e-3")
    assert submitted.code == 0, submitted.text
    (folder,) = (place.outputs / "sweeps").iterdir()
    name = folder.name

    seen = status(place, name)
    assert seen["counts"] == {"pending": 3}
    assert seen["active"] is True
    assert {point["remark"] for point in seen["points"]} == {"held by its owner; `scontrol release` lets it go"}
    assert seen["planned_gpu_hours"] > 0
    array = seen["points"][0]["job_id"].partition("_")[0]
    assert status(place, array)["sweep"] == name, "the id of an array means its sweep"

    cancelled = verb(place, "cancel", name)
    assert cancelled.returncode == 0, cancelled.stderr
    assert cancelled.stdout.splitlines()[0] == "3 jobs being cancelled; they were 3 pending"
    deadline = time.monotonic() + 60
    while status(place, name)["active"] and time.monotonic() < deadline:
        time.sleep(0.5)
    seen = status(place, name)
    assert seen["counts"] == {"cancelled": 3}
    assert verb(place, "cancel", name).stdout == "nothing to cancel: nothing of this sweep is at work\n"


def test_states_of_an_array_that_nobody_noted(place: SlurmPlace) -> None:
    # As a submitter leaves it that is killed between sbatch and its record.
    submitted = place.run("-m", *ONE, NO_PREFLIGHT, HELD, "optim.lr=1e-3,2e-3")
    assert submitted.code == 0, submitted.text
    (folder,) = (place.outputs / "sweeps").iterdir()
    record = folder / "arrays/0001/array.json"
    document = json.loads(record.read_text())
    record.write_text(json.dumps({**document, "state": "submitting", "job_id": None}))
    for task in document["tasks"]:
        Path(task["attempt"], "submitted.json").unlink()

    seen = status(place, folder.name)
    assert seen["counts"] == {"frozen": 2}
    assert all("the same command again finds out" in point["remark"] for point in seen["points"])
    cancelled = verb(place, "cancel", folder.name)
    told = f"array {document['name']}, whose submitter was killed, is being cancelled: {document['job_id']}"
    assert cancelled.stdout.splitlines() == [told], cancelled.stderr
    place.cluster.wait_for(
        lambda: not place.cluster.run("squeue", "-h", "-j", str(document["job_id"])).stdout.strip(), 60, "the end"
    )
