"""What is printed: one comparison, or one for each run of two versions of conf/."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from mmhydra.checkpoint.compare import NO_DIFFERENCE, Comparison, Side, compare
from mmhydra.compose.revisions import Conf
from mmhydra.errors import UserError


class Report(NamedTuple):
    """Lines for people, a document for programs, and whether what makes the numbers differs."""

    lines: list[str]
    document: dict[str, Any]
    differs: bool


def report(left: Side | Conf, right: Side | Conf, overrides: Sequence[str]) -> Report:
    """Compares both sides. Raises UserError if one can't be composed, or overrides would change nothing."""
    titles = {"a": left.title, "b": right.title}
    if isinstance(left, Conf) and isinstance(right, Conf) and not overrides:
        return _overview(titles, left, right)
    if overrides and all(isinstance(side, Side) and side.run_id for side in (left, right)):
        raise UserError(f"{' '.join(overrides)} would change nothing, as both sides are frozen; leave it out")
    found = compare(_composed(left, overrides), _composed(right, overrides))
    return Report(found.text, {**titles, "notes": found.notes, **found.document}, bool(found.identity))


def _composed(side: Side | Conf, overrides: Sequence[str]) -> Side:
    if isinstance(side, Side):
        return side
    config, notes = side.compose(overrides)
    return Side(side.title, config, notes=notes)


def _overview(titles: dict[str, str], left: Conf, right: Conf) -> Report:
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
    return Report(lines, {**titles, "notes": notes, "runs": documents}, differs)


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
