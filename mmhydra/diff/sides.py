"""What a word of the command line names: a run, a command line, or a version of conf/."""

import os.path
import shlex
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from mmhydra.checkpoint.compare import Side, of_attempt, of_checkpoint
from mmhydra.checkpoint.stamp import STAMP
from mmhydra.checkpoint.verify import resolve
from mmhydra.compose import compose
from mmhydra.compose.revisions import Conf, extracted, find_commit, why_no_revisions
from mmhydra.errors import UserError
from mmhydra.launch.verify import refuse_secrets
from mmhydra.run.directory import Attempt, RunDirectoryError, find_run, newest_frozen

WORKTREE = "worktree"
_SHORT_COMMIT = 10


def side_of(text: str, overrides: Sequence[str], config_dirs: tuple[Path, ...], stack: ExitStack) -> Side | Conf:
    """What a word names; `overrides` go to a command line. `stack` holds what was extracted.

    Raises UserError if that is nothing.
    """
    path = os.path.expanduser(text)
    if text and os.path.exists(path) and (side := _of_path(Path(path).absolute())) is not None:
        return side
    if not text or "=" in text:
        return _of_command_line(text, overrides, config_dirs)
    if (commit := find_commit(text)) is not None:
        root = stack.enter_context(extracted(commit))
        return Conf(f"conf/ of {text} ({commit[:_SHORT_COMMIT]})", root, config_dirs)
    if text == WORKTREE:
        return Conf("conf/ as it is now", None, config_dirs)
    raise UserError(_no_side(text, path))


def _of_path(path: Path) -> Side | None:
    """The attempt or checkpoint that a path leads to; of a run the newest attempt. None outside of runs."""
    folder = path if path.is_dir() else path.parent
    if (folder / STAMP).is_file():
        return of_checkpoint(folder)  # also a copy that lies in no run
    try:
        run = find_run(path)
    except RunDirectoryError:
        return None
    kind, *inside = (*path.relative_to(run.path).parts, "")
    if kind == run.checkpoints.name:
        return of_checkpoint(resolve(run.checkpoints / inside[0]))
    if kind == "attempts" and inside[0]:
        return of_attempt(Attempt(run.path / kind / inside[0]))
    return of_attempt(newest_frozen(run))


def _of_command_line(text: str, overrides: Sequence[str], config_dirs: tuple[Path, ...]) -> Side:
    try:
        words = [*shlex.split(text), *overrides]
    except ValueError as error:
        raise UserError(f"{text}: no command line: {error}") from error
    request = compose(words, config_dirs)
    refuse_secrets(request)
    title = f"command line `{' '.join(words)}`" if words else "the default command line"
    return Side(title, request.config.model_dump(mode="json"))


def _no_side(text: str, path: str) -> str:
    what = "a folder in no run" if os.path.isdir(path) else "a file in no run" if os.path.exists(path) else "no path"
    reason = why_no_revisions()
    revision = f"not here: {reason}" if reason else "HEAD~3, main, a tag"
    return "\n".join(
        [
            f"{text} is nothing that can be compared: {what}, no command line and no git revision. Give",
            "  a run, an attempt or a checkpoint: outputs/NAME/RUN_ID, and a folder inside",
            "  a command line in quotes: 'model=1b optim.lr=3e-4', or '' for the default one",
            f"  a git revision of conf/: {revision}",
            f"  {WORKTREE}: conf/ as it is now",
        ]
    )
