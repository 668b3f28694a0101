"""What shipped files amount to, one leaf a line, so that a changed default shows each run that it touches.

`make golden` writes the files anew.
"""

import json
from pathlib import Path

import pytest

from mmhydra import paths
from mmhydra.compose import compose
from mmhydra.config.frozen import flatten, from_yaml
from mmhydra.config.schema import RunConfig
from mmhydra.run.identity import excluded_fields, identify

FOLDER = Path(__file__).parent / "golden"
FROZEN = sorted((Path(__file__).parent / "frozen").glob("*.yaml"))
RUNS = {
    "default": [],
    **{
        f"{group}_{path.stem}": [f"{group}={path.stem}"]
        for group in ("model", "experiment")
        for path in sorted((paths.config_dir() / group).glob("*.yaml"))
    },
}


@pytest.fixture
def composed(monkeypatch):
    monkeypatch.delenv("MMHYDRA_CLUSTER", raising=False)
    monkeypatch.delenv("MMHYDRA_REMOTE", raising=False)
    monkeypatch.setenv("MMHYDRA_DATA", "/data")
    monkeypatch.setenv("MMHYDRA_OUTPUTS", "/outputs")
    return lambda name: compose(RUNS[name]).config


@pytest.mark.parametrize("name", RUNS)
def test_the_resolved_config(composed, golden, name):
    leaves = flatten(composed(name).model_dump())
    golden(f"{name}.txt", "".join(f"{key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in leaves.items()))


def test_what_is_no_identity_and_why(golden):
    golden("not_identity.txt", "".join(f"{key}: {why}\n" for key, why in excluded_fields(RunConfig).items()))


def test_the_ids_of_shipped_runs(composed, golden):
    """With no data: the digests of the manifests make them the real ids. An id that changes orphans old runs."""
    ids = {name: identify(composed(name), {}, None).run_id for name in RUNS}
    golden("run_ids.txt", "".join(f"{name}: {run_id}\n" for name, run_id in ids.items()))


def test_no_golden_file_is_left_over():
    assert {file.name for file in FOLDER.iterdir()} == {
        *(f"{name}.txt" for name in RUNS),
        "cell_reasons.txt",
        "cells.txt",
        "frozen_ids.txt",
        "not_identity.txt",
        "run_ids.txt",
    }


def test_a_config_that_an_earlier_version_froze_opens_under_its_old_id(composed, golden):
    """Fields that came later have their legacy values, which stay out of the id. These files never change."""
    ids = {file.stem: identify(from_yaml(file.read_bytes()), {}, None).run_id for file in FROZEN}
    golden("frozen_ids.txt", "".join(f"{name}: {run_id}\n" for name, run_id in ids.items()))
    now = {name: identify(composed(name), {}, None).run_id for name in RUNS}
    # What `default` is fed has changed since, and so has its id.
    same = {name: run_id for name, run_id in now.items() if f"v0.1.0_{name}" in ids and name != "default"}
    assert same == {name: ids[f"v0.1.0_{name}"] for name in same}
    assert len(same) == 3
