"""Attempts as a submitter freezes them, and stored code whose ranks do what a test says in place of training."""

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mmhydra
from mmhydra.config.frozen import to_yaml
from mmhydra.config.schema import RunConfig
from mmhydra.run.directory import Attempt, RunDirectory
from mmhydra.run.identity import identify
from mmhydra.run.snapshot import Snapshot, store


def freeze(folder: Path, config: RunConfig, snapshot: Snapshot | None = None) -> Attempt:
    """The next attempt of the run in a folder, with no data."""
    run = RunDirectory(folder)
    run.create(identify(config, {}, None))
    text = to_yaml(config)
    code = {} if snapshot is None else {"snapshot_sha256": snapshot.sha256}
    provenance: dict[str, Any] = {
        "mmhydra": mmhydra.__version__,
        "run_id": folder.name,
        "run_name": config.name,
        "config_sha256": hashlib.sha256(text).hexdigest(),
        "git": {"commit": "c" * 40, "branch": "main", "dirty": False, "patch_sha256": "0" * 64, **code},
        "snapshot": None if snapshot is None else str(snapshot.path),
        "manifests": {},
    }
    attempt = run.new_attempt()
    attempt.freeze(text, ("tag=x",), provenance, {"code.patch": b"diff\n"})
    return attempt


def store_ranks(outputs: Path, text: str) -> Snapshot:
    """Stored code that is that of now, but for what a rank does: `text` in place of mmhydra/titan/job.py."""

    def export(folder: Path) -> None:
        ignore = shutil.ignore_patterns("__pycache__", "titan")
        shutil.copytree(Path(mmhydra.__file__).parent, folder / "mmhydra", ignore=ignore)
        (folder / "mmhydra" / "titan").mkdir()
        (folder / "mmhydra" / "titan" / "__init__.py").touch()
        (folder / "mmhydra" / "titan" / "job.py").write_text(text)

    return store(outputs, "code", export)


def begin_job(attempt: Attempt, *, job: str = "7", nodes: tuple[str, ...] = ("n1", "n2"), step: int = 0) -> Attempt:
    """What the batch script writes when an attempt starts."""
    attempt.job.write_text(json.dumps({"job_id": job, "nodes": nodes, "step": step}))
    return attempt


def wait_for(condition: Callable[[], object], what: str, timeout_s: float = 30) -> None:
    """Returns when the condition holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.02)
