"""Feeds the records of one attempt to sinks after the fact."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped, unused-ignore]

from mmhydra.track.jsonl import read_jsonl
from mmhydra.track.registry import build_sinks
from mmhydra.track.sink import RunInfo, TrackError


def load_run_info(attempt_dir: Path) -> RunInfo:
    """The run and attempt of `attempt_dir`, from its provenance.json and config.yaml.

    Raises:
        TrackError: a file is missing, unreadable or lacks a key.
    """
    provenance = _load(attempt_dir / "provenance.json")
    config = _load(attempt_dir / "config.yaml")
    git = provenance.get("git")
    commit = git.get("commit") if isinstance(git, Mapping) else None
    try:
        return RunInfo(
            run_id=str(provenance["run_id"]),
            run_name=str(provenance["run_name"]),
            model=str(config["model"]["name"]),
            config=config,
            config_sha256=str(provenance["config_sha256"]),
            git_commit=None if commit is None else str(commit),
            attempt=int(provenance["attempt"]),
        )
    except KeyError as exc:
        raise TrackError(f"{attempt_dir}: provenance.json or config.yaml has no key {exc}") from exc
    except (TypeError, ValueError) as exc:
        raise TrackError(f"{attempt_dir}: provenance.json or config.yaml: {exc}") from exc


def replay(attempt_dir: Path, settings: Mapping[str, Mapping[str, Any] | None]) -> dict[str, int]:
    """Feed metrics.jsonl of `attempt_dir` to the sinks in `settings` (see build_sinks), one after the other.

    Replaying again doubles nothing. In Aim, where all attempts share one run, steps that a newer attempt
    beside this one logged again are left out: the newest attempt holds.

    Returns:
        by sink, the number of records delivered.

    Raises:
        TrackError: the folder holds no attempt, or a sink is set up wrongly or missing.
        Exception: whatever a sink raises.
    """
    metrics = attempt_dir / "metrics.jsonl"
    if not metrics.is_file():
        raise TrackError(f"no metrics.jsonl in {attempt_dir}; name an attempt: .../<run id>/attempts/0001")
    builders = build_sinks(settings, load_run_info(attempt_dir), attempt_dir)
    num_delivered: dict[str, int] = {}
    for name, build in builders.items():
        superseded = _steps_of_newer_attempts(attempt_dir) if name == "aim" else set()
        num_delivered[name] = 0
        sink = build()
        try:
            for record in read_jsonl(metrics):
                if _key(record) not in superseded:
                    sink.write(record)
                    num_delivered[name] += 1
        finally:
            sink.close()
    return num_delivered


def _steps_of_newer_attempts(attempt_dir: Path) -> set[tuple[str, str]]:
    own = attempt_dir.resolve()
    if not own.name.isdigit():
        return set()
    others = [other for other in own.parent.iterdir() if other.name.isdigit()]
    files = [other / "metrics.jsonl" for other in others if int(other.name) > int(own.name)]
    return {_key(record) for file in files if file.is_file() for record in read_jsonl(file)}


def _key(record: Mapping[str, Any]) -> tuple[str, str]:
    return str(record.get("kind")), str(record.get("step"))


def _load(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except OSError as exc:
        raise TrackError(f"cannot read {path}: {exc.strerror}") from exc
    except (ValueError, yaml.YAMLError) as exc:
        raise TrackError(f"cannot read {path}: {' '.join(str(exc).split())}") from exc
    if not isinstance(content, dict):
        raise TrackError(f"{path} should hold a mapping")
    return content
