"""What `--step` and `--find` print."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from mmhydra.errors import UserError
from mmhydra.paths import short
from mmhydra.run.directory import RunDirectory
from mmhydra.trace.finding import SEEN, SKIPPED, Found, Progress, Visit, find_documents, visits
from mmhydra.trace.listing import sample_at, sample_numbers
from mmhydra.trace.opening import Traced, stretches
from mmhydra.trace.printing import (
    print_check,
    print_json,
    print_samples,
    print_seen,
    print_skips,
    print_step_tokens,
    print_visits,
)
from mmhydra.trace.tokens import compare, step_tokens


def list_step(console: Console, traced: Traced, step: int, dp: int | None, rank: int | None, *, as_json: bool) -> None:
    """The samples of a step, its tokens, what the run has seen up to it, and whether metrics.jsonl says the same.

    Raises TraceError for a step, degree or rank that there is not.
    """
    first, end = traced.samples_of(step)
    degree = traced.dp_of(step, dp)
    listed = (sample_at(traced, first + number, degree) for number in sample_numbers(traced, step, degree, rank))
    counted, seen = step_tokens(traced, step), traced.ledger(end)
    check = compare(traced, step, seen)
    if as_json:
        head = {
            "run": str(traced.run.path),
            "step": step,
            "first_sample": first,
            "num_samples": end - first,
            "data_parallel": degree,
            "seq_len": traced.config.training.seq_len,
            "tokens": counted._asdict(),
            "seen": asdict(seen),
            "metrics": check._asdict(),
            "skips": traced.skips.records,
        }
        print_json(console, "step", head)
        for sample in listed:
            print_json(console, "sample", sample.as_json())
        return
    ranks = "1 data-parallel rank" if degree == 1 else f"{degree} data-parallel ranks"
    console.print(
        f"run {traced.run.path.name}, step {step} of {traced.last_step}: samples {first} to {end - 1}, "
        f"{traced.config.training.seq_len} positions each; {ranks} of {(end - first) // degree} samples",
        style="bold",
        markup=False,
    )
    print_samples(console, listed)
    print_step_tokens(console, step, counted)
    print_seen(console, step, seen)
    print_check(console, check)
    print_skips(console, traced.skips)


def find_key(
    console: Console,
    run: RunDirectory,
    data: Path | None,
    key: str,
    dp: int | None,
    on_source: Progress,
    *,
    as_json: bool,
) -> None:
    """Where a run and those that it extends see a record. Raises TraceError for a key that names none."""
    found: list[tuple[Traced, Found]] = []
    unknown: UserError | None = None
    with ExitStack() as stack:
        for traced in stretches(run, data):
            stack.callback(traced.close)
            try:
                found += [(traced, document) for document in find_documents(traced, key, on_source)]
            except UserError as error:
                unknown = error  # the last one is that of the run itself
        if not found and unknown is not None:
            raise unknown
        for traced, document in found:
            seen = visits(traced, document, dp)
            if as_json:
                print_json(console, "record", {"run": str(traced.run.path), **document._asdict()})
                for visit in seen:
                    print_json(console, "visit", visit._asdict())
            else:
                print_visits(console, document, seen)
                console.print(_summary(traced, seen), markup=False)


def _summary(traced: Traced, seen: Sequence[Visit]) -> str:
    """How often, and up to where that was looked for."""
    past = len({visit.n for visit in seen if visit.state == SEEN})
    skipped = len({visit.n for visit in seen if visit.state == SKIPPED})
    coming = len({visit.n for visit in seen}) - past - skipped
    newest = min(traced.newest_step, traced.last_step)
    parts = [f"seen by {_samples(past)} up to step {newest}"]
    if skipped:
        parts.append(f"left out with {_samples(skipped)} that can't be read")
    if newest < traced.last_step:
        parts.append(f"will be seen by {_samples(coming)} up to the end, step {traced.last_step}")
    return f"{short(traced.run.path)}: {', '.join(parts)}"


def _samples(number: int) -> str:
    return f"{number} sample{'' if number == 1 else 's'}"
