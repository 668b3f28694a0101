"""Metrics in a local Aim repository. Keep it on a local disk: Aim's storage is reported to break on NFS.

One run of ours is one run of Aim, whatever its number of attempts: its hash comes from the run id, and a step
logged again overwrites the earlier value, so resuming and replaying never double a point.

`aim up` indexes the run by itself; before reading a repository with Aim's SDK, index it with
`aim storage --repo REPO reindex`. The sink does not, because `aim up` gives up on a run for good when it
meets another process at the index.
"""

import atexit
import hashlib
import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aim.ext.cleanup import AutoClean
from aim.sdk.errors import MissingRunError
from aim.sdk.repo import Repo
from aim.sdk.run import Run

from mmhydra.track.sink import RunInfo, TrackError, numeric_fields, step_of, subset

# Aim's hashes are 24 hex digits.
_HASH_DIGITS = 24
# Aim remembers its list of runs for half a second.
_LIST_CACHE_S = 0.5


def aim_hash(run_id: str) -> str:
    """The hash of the Aim run that shows `run_id`: 24 hex digits."""
    return hashlib.sha256(run_id.encode()).hexdigest()[:_HASH_DIGITS]


class AimSink:
    """Writes to `repo`, a folder that holds `.aim` or that `.aim` folder itself; it is created if missing.

    Params of the Aim run: run_id, model, config (nested), config_sha256, git_commit, attempt; always those of
    the newest attempt seen. Metrics have the record's field name, its step and a context: {"subset": "train"}
    or {"subset": "val"}.
    Aim stamps a point with the time of its delivery.

    Args:
        run: what is shown.
        repo: absolute or relative path.
        force_resume: take the run over from a writer that left its lock behind, such as one killed on another
            node (on one host a living writer still cannot be pushed aside). False waits 10 s for the lock.

    Raises:
        TrackError: a bad path, or the run is locked and force_resume is False.
        Exception: whatever Aim raises.
    """

    def __init__(self, run: RunInfo, repo: str | Path, force_resume: bool = True) -> None:
        # Aim warns of corruption at every forced start; that one process writes a run is settled before this.
        logging.getLogger("aim.sdk.lock_manager").setLevel(logging.ERROR)
        # Aim's exit hook waits without end for its runs to close: a hanging disk would keep the trainer from
        # exiting. close() does the same work, and after a crash Aim's write-ahead log does. The flag keeps
        # Aim from registering the hook, however far the opening below gets.
        AutoClean._registered_with_atexit = True
        atexit.unregister(AutoClean.cleanup)
        self._run = _open_run(_open_repo(Path(repo)), aim_hash(run.run_id), force_resume)
        # An older attempt that is replayed must not pass for the newest one.
        if run.attempt >= (self._run.get("attempt", default=None) or 0):
            self._describe(run)

    def write(self, record: Mapping[str, Any]) -> None:
        """Track every number of `record`; one without a step is left out."""
        step, fields = step_of(record), numeric_fields(record)
        if step is not None and fields:
            self._run.track(fields, step=step, context={"subset": subset(record)})

    def close(self) -> None:
        """Mark the Aim run as ended, flush it and give its lock back."""
        self._run.close()  # type: ignore[no-untyped-call]

    def _describe(self, run: RunInfo) -> None:
        self._run.name = run.run_name
        # Aim takes plain JSON values only.
        self._run["config"] = json.loads(json.dumps(run.config, default=str))
        self._run["run_id"] = run.run_id
        self._run["model"] = run.model
        self._run["config_sha256"] = run.config_sha256
        self._run["git_commit"] = run.git_commit
        self._run["attempt"] = run.attempt


def _open_repo(path: Path) -> Repo:
    root = path.parent if path.name == ".aim" else path
    if root.suffix == ".aim":
        # Aim cuts the ending off and would write beside the folder that was asked for.
        raise TrackError(f"Aim repository {path}: name the folder that holds .aim, with no ending .aim of its own")
    # VERSION is written last: without it the repository was never finished.
    exists = (root / ".aim" / "VERSION").exists()
    repo: Repo = Repo.from_path(str(root), init=not exists)
    return repo


def _open_run(repo: Repo, run_hash: str, force_resume: bool) -> Run:
    # Aim opens a run of a given hash only if its folder exists, and makes up the hash of a new one itself.
    (Path(repo.path) / "meta" / "chunks" / run_hash).mkdir(parents=True, exist_ok=True)
    for is_last in (False, True):
        try:
            run: Run = Run(
                run_hash,
                repo=repo,
                force_resume=force_resume,
                system_tracking_interval=None,
                log_system_params=False,
                capture_terminal_logs=False,
            )
            return run
        except MissingRunError:
            if is_last:
                raise
            time.sleep(2 * _LIST_CACHE_S)
        except TimeoutError as exc:
            raise TrackError(
                f"another process writes Aim run {run_hash} in {repo.path}; if none does (it was killed on "
                "another node), add --force"
            ) from exc
    raise AssertionError("unreachable")
