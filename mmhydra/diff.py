"""`python -m mmhydra.diff A B [overrides]`: what differs between two runs, checkpoints, command lines or revisions.

A and B are each one of: a run, an attempt or a checkpoint; a command line in quotes ("" is the default one); a git
revision of conf/, or the word `worktree` for conf/ as it is now. Overrides after them go to each side that is
composed. Without overrides, two versions of conf/ are compared by all their experiments and models.
"""

import argparse
import json
import os.path
import shlex
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from mmhydra.checkpoint.compare import NO_DIFFERENCE, Comparison, Side, compare, of_attempt, of_checkpoint
from mmhydra.checkpoint.stamp import STAMP
from mmhydra.checkpoint.verify import resolve
from mmhydra.compose import compose
from mmhydra.compose.from_run import newest_frozen
from mmhydra.compose.revisions import Conf, extracted, find_commit, why_no_revisions
from mmhydra.errors import ExitCode, UserError, refuse
from mmhydra.run.directory import Attempt, RunDirectoryError, find_run

WORKTREE = "worktree"
_SHORT_COMMIT = 10


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0, with --exit-code 1 if what makes the numbers differs, or 2 for what can't be compared."""
    options = _parser().parse_intermixed_args(arguments)
    try:
        with ExitStack() as stack:
            sides = [_side(text, options, stack) for text in (options.a, options.b)]
            report = _report(sides[0], sides[1], options.overrides)
    except UserError as error:
        return refuse(error)
    if options.json:
        print(json.dumps(report.document, indent=2, ensure_ascii=False, default=str))
    else:
        print("\n".join(report.lines))
    return ExitCode.FAILED if options.exit_code and report.differs else ExitCode.DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mmhydra.diff", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("a", metavar="A", help="a path, a command line, a revision or worktree")
    parser.add_argument("b", metavar="B", help="the other one")
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="key=value, for each side that is composed")
    parser.add_argument("--config-dir", "-cd", type=Path, help="a folder of your own groups")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--exit-code", action="store_true", help="1 if what makes the numbers differs")
    return parser


def _side(text: str, options: argparse.Namespace, stack: ExitStack) -> Side | Conf:
    """What a word of the command line names. Raises UserError if that is nothing."""
    folders = (options.config_dir,) if options.config_dir else ()
    path = os.path.expanduser(text)
    if text and os.path.exists(path) and (side := _of_path(Path(path).absolute())) is not None:
        return side
    if not text or "=" in text:
        return _of_command_line(text, options.overrides, folders)
    if (commit := find_commit(text)) is not None:
        root = stack.enter_context(extracted(commit))
        return Conf(f"conf/ of {text} ({commit[:_SHORT_COMMIT]})", root, folders)
    if text == WORKTREE:
        return Conf("conf/ as it is now", None, folders)
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
    config = compose(words, config_dirs).config
    title = f"command line `{' '.join(words)}`" if words else "the default command line"
    return Side(title, config.model_dump(mode="json"))


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


class _Report(NamedTuple):
    lines: list[str]
    document: dict[str, Any]
    differs: bool


def _report(left: Side | Conf, right: Side | Conf, overrides: Sequence[str]) -> _Report:
    titles = {"a": left.title, "b": right.title}
    if isinstance(left, Conf) and isinstance(right, Conf) and not overrides:
        return _overview(titles, left, right)
    if overrides and all(isinstance(side, Side) and side.run_id for side in (left, right)):
        raise UserError(f"{' '.join(overrides)} would change nothing, as both sides are frozen; leave it out")
    found = compare(_composed(left, overrides), _composed(right, overrides))
    return _Report(found.text, {**titles, "notes": found.notes, **found.document}, bool(found.identity))


def _composed(side: Side | Conf, overrides: Sequence[str]) -> Side:
    if isinstance(side, Side):
        return side
    config, notes = side.compose(overrides)
    return Side(side.title, config, notes=notes)


def _overview(titles: dict[str, str], left: Conf, right: Conf) -> _Report:
    """All runs of two versions of conf/; those that differ alike are told together."""
    runs = (left.runs(), right.runs())
    found = {run: _compared(run, left, right, runs) for run in dict.fromkeys([*runs[0], *runs[1]])}
    notes = list(dict.fromkeys(note for result in found.values() for note in _notes(result)))
    alike: dict[tuple[str, ...], list[str]] = {}
    for run, result in found.items():
        if isinstance(result, str) or not result.is_equal:
            fields = result.splitlines() if isinstance(result, str) else result.fields
            alike.setdefault(tuple(fields), []).append(run or "the default command line")
    lines = [f"{left.title} -> {right.title}", *(f"note: {note}" for note in notes)]
    for shared, names in alike.items():
        lines += [f"{', '.join(names)}:", *(f"  {line}" for line in shared)]
    equal = len(found) - sum(len(names) for names in alike.values())
    lines.append(f"{NO_DIFFERENCE} in {equal} of {len(found)} runs")
    documents = {
        run: {"problem": result} if isinstance(result, str) else result.document for run, result in found.items()
    }
    differs = any(isinstance(result, str) or result.identity for result in found.values())
    return _Report(lines, {**titles, "notes": notes, "runs": documents}, differs)


def _notes(result: Comparison | str) -> list[str]:
    return [] if isinstance(result, str) else result.notes


def _compared(run: str, left: Conf, right: Conf, runs: tuple[list[str], list[str]]) -> Comparison | str:
    """What differs in one run, or why that can't be said."""
    for side, its_runs in ((left, runs[0]), (right, runs[1])):
        if run not in its_runs:
            return f"not in {side.title}"
    words = run.split()
    try:
        return compare(_composed(left, words), _composed(right, words))
    except UserError as error:
        return str(error)


if __name__ == "__main__":
    sys.exit(main())
