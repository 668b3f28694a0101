"""A search on a real SLURM, driven by a job of its own that is killed and cancelled on the way."""

import json
import os
import re
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from slurm_place import ENDED, NO_PREFLIGHT, ONE, SlurmPlace

from mmhydra.launch.search.book import Book
from mmhydra.sweep.study.files import read_study

pytestmark = pytest.mark.slow

STUDY = """
question: Which rate is best?
stop_rule: After six trials.
overrides: OVERRIDES
search:
  space:
    optim.lr: {low: 1e-3, high: 1e-2, log: true}
  num_trials: 6
  concurrency: 2
  sampler: {kind: random, seed: 3}
  driver: {where: job, time_limit_min: 20}
"""
SHORT = ("training.steps=6", "checkpoint.interval=6", "training.validation_interval=3", "training.validation_batches=1")


def driver(place: SlurmPlace) -> dict[str, Any]:
    return dict(json.loads((place.outputs / "sweeps/rates/search/driver.json").read_text()))


def started(place: SlurmPlace) -> list[Path]:
    """Attempts that were submitted."""
    return sorted(place.outputs.glob("*/*/attempts/*/submitted.json"))


def driver_log(place: SlurmPlace) -> str:
    logs = sorted((place.outputs / "sweeps/rates/search").glob("*_log.*"))
    return "\n".join(f"--- {log.name}\n{log.read_text()}" for log in logs)


def wait_for(place: SlurmPlace, number: int) -> None:
    """Until so many attempts were submitted."""
    place.cluster.wait_for(lambda: len(started(place)) >= number, 240, f"{number} runs\n{driver_log(place)}")


def test_a_search_goes_on_whatever_becomes_of_the_job_that_drives_it(place, tmp_path) -> None:
    overrides = [text for text in (*ONE, NO_PREFLIGHT) if not text.startswith("training.validation_interval")]
    study = tmp_path / "lab" / "sweeps" / "rates.yaml"
    study.parent.mkdir(parents=True)
    study.write_text(STUDY.replace("OVERRIDES", json.dumps([*overrides, *SHORT])))
    command = ("--config-dir", str(tmp_path / "lab"), "-m", "sweep=rates")
    submitted = place.run(*command)
    assert submitted.code == 0, submitted.text
    job_id = driver(place)["job_id"]
    assert f"the search is driven by job {job_id}" in submitted.out
    again = place.run(*command)
    assert again.code == 0, again.text
    assert driver(place)["job_id"] == job_id
    wait_for(place, 1)

    # Its time is up: it puts itself into the queue again.
    place.cluster.run("scancel", "--signal=USR2", job_id)
    begun = "goes on with"
    place.cluster.wait_for(lambda: begun in driver_log(place), 120, f"the next time of the driver\n{driver_log(place)}")
    assert "the time of this job is up" in driver_log(place)

    # Its process is killed: the job has failed, its runs go on, the same command submits another driver.
    holder = json.loads((place.outputs / "sweeps/rates/lease.json").read_text())
    os.kill(int(holder["pid"]), signal.SIGKILL)
    place.cluster.wait_for(lambda: place.cluster.state(job_id) in ENDED, 60, "the end of the driver")
    resumed = place.run(*command)
    assert resumed.code == 0, resumed.text
    second = driver(place)["job_id"]
    assert second != job_id
    wait_for(place, 3)

    # It is cancelled: then a person goes on by hand.
    place.cluster.run("scancel", second)
    place.cluster.wait_for(lambda: place.cluster.state(second) in ENDED, 60, "the end of the driver")
    time.sleep(2)
    assert place.cluster.state(second) in ENDED  # it has not put itself into the queue again
    finished = place.run("rates", module="mmhydra.drive", timeout_s=500)
    assert finished.code == 0, finished.text + driver_log(place)

    sweep = place.outputs / "sweeps" / "rates"
    search = read_study(sweep / "study.yaml").search
    assert search is not None
    trials = Book(sweep / "search" / "journal.log", search, "minimize").trials
    assert [(trial.number, trial.state) for trial in trials] == [(number, "done") for number in range(1, 7)]
    assert Counter(file.parent.parent.parent.name for file in started(place)) == {
        trial.notes["run_id"]: 1 for trial in trials
    }
    assert re.search(r"best: trial \d, val_loss", finished.out)
    points = json.loads((sweep / "sweep.json").read_text())["points"]
    assert [point["number"] for point in points] == [1, 2, 3, 4, 5, 6]
