"""Rules of folders."""

import os
from collections.abc import Iterator
from pathlib import Path

from mmhydra.config.base import unfit_path
from mmhydra.config.facts import Facts
from mmhydra.config.problems import Problem
from mmhydra.config.schema import RunConfig


def folders(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Jobs start in other folders, so every path is absolute; and short enough for a system to take it."""
    named = {
        "paths.data": config.paths.data,
        "paths.outputs": config.paths.outputs,
        "checkpoint.init_from": config.checkpoint.init_from,
        "checkpoint.extend_from": config.checkpoint.extend_from,
    }
    for key, folder in named.items():
        if folder is None:
            continue
        if fault := unfit_path(folder):
            yield Problem((key,), fault)
        elif not Path(folder).is_absolute():
            cure = f"type {key}={_absolute(folder)}"
            yield Problem((key,), f"{folder!r} is no absolute path, and jobs start in other folders; {cure}")


def _absolute(folder: str) -> Path:
    return Path(os.path.expanduser(folder)).absolute()  # unlike Path.expanduser, it lets the ~ of nobody be
